/* SPDX-License-Identifier: MIT */
/* Records of another boot: what they tell of was in the memory of a kernel that is gone, and may never have come to
 * the disk. Worker threads. A file that was cut off is shorter than it was, or, where a file gets its size before
 * its bytes (ext4, XFS, also below overlayfs), has a hole where they should be. So names and sizes must be those that were published.
 *
 * Whatever changed since is somebody else's work, is not ours to judge, and is never thrown away unasked. */
#include "defer.h"
#include "destination.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define INODE_TEXT 64

/* A sum of files: all of them, and those among them that have no hole. */
struct sums {
	uint64_t all, dense;
};

struct survey {
	const char *root;          /* what file_sum_mark() takes paths to be relative to */
	struct timespec published; /* what changed later was changed by somebody else */
	struct cancel *cancel;
	bool sizes_come_first; /* and so holes count */

	/* Of every file; of those that were not written later (a change of owner is no writing); of those that did
	 * not change at all. Whoever added, changed owners, or did both leaves one of them as it was. */
	struct sums every, unwritten, unchanged;
	bool touched; /* anything has changed later */
	bool partial; /* something could not be looked at */
};

static bool is_later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

static bool has_hole(const struct survey *s, const char *path, off_t size)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	_close_ int fd = size > 0 && s->sizes_come_first ? open(path, flags) : -1;
	off_t hole = fd >= 0 ? lseek(fd, 0, SEEK_HOLE) : -1; /* else its size will do */

	return hole >= 0 && hole < size;
}

static void add(struct sums *s, uint64_t mark, bool hole)
{
	s->all += mark;
	s->dense += hole ? 0 : mark;
}

static void look_at(struct survey *s, const FTSENT *file)
{
	const struct stat *st = file->fts_statp;
	uint64_t mark = file_sum_mark(file->fts_path + strlen(s->root) + 1, (uint64_t)st->st_size);
	bool hole = has_hole(s, file->fts_accpath, st->st_size);

	add(&s->every, mark, hole);
	if (!is_later(&st->st_mtim, &s->published))
		add(&s->unwritten, mark, hole);
	if (!is_later(&st->st_ctim, &s->published))
		add(&s->unchanged, mark, hole);
}

/* What lies at the top was renamed into its place, which is a change of that directory, but not of what is in it. */
static bool is_touched(const struct survey *s, const FTSENT *e)
{
	const struct stat *st = e->fts_statp;
	bool at_the_top = e->fts_level == 0 && e->fts_info == FTS_D;

	return is_later(at_the_top ? &st->st_mtim : &st->st_ctim, &s->published);
}

static void visit(struct survey *s, const FTSENT *e)
{
	switch (e->fts_info) {
	case FTS_F:
		look_at(s, e);
		break;
	case FTS_DP: /* was seen as FTS_D */
		return;
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		s->partial = true;
		return;
	default:
		break;
	}
	s->touched |= is_touched(s, e);
}

static void survey(struct survey *s, const char *path)
{
	const int how = FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV;
	FTS *fts = fts_open((char *const[]){(char *)path, NULL}, how, NULL);
	FTSENT *e = NULL;

	if (fts == NULL) {
		s->partial = true;
		return;
	}
	while (!cancel_requested(s->cancel) && (errno = 0, e = fts_read(fts)) != NULL)
		visit(s, e);
	s->partial |= e != NULL || errno != 0;
	fts_close(fts);
}

static void survey_init(
	struct survey *s, const struct destination *d, const struct timespec *published)
{
	struct statfs fs;

	*s = (struct survey){
		.root = d->place.path, .published = *published, .cancel = d->opts.cancel};
	s->sizes_come_first = fstatfs(d->place.state_fd, &fs) == 0 &&
			      (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC ||
				      fs.f_type == OVERLAYFS_SUPER_MAGIC);
}

static void survey_all(struct survey *s, struct journal *j)
{
	struct journal_entry e;

	if (j->kind == PUBLISH_WHOLE) {
		survey(s, s->root);
		return;
	}
	while (journal_next(j, &e) > 0) {
		_free_ char *path = format_text("%s/%s", s->root, e.name);

		survey(s, path);
	}
	journal_rewind(j);
}

static bool fits(const struct survey *s, const struct sums *found, const struct file_sum *want)
{
	return want->known && found->all == want->dense + want->sparse &&
	       (!s->sizes_come_first || found->dense == want->dense);
}

static enum record_doubt verdict(const struct survey *s)
{
	return s->touched || s->partial ? RECORD_TOUCHED : RECORD_LOST;
}

/* This kernel has read from the disk what another one wrote: it will not be lost any more. */
static void note_that_it_is_synced(const struct destination *d, struct journal *j, const char *name)
{
	const struct journal_head head = {.dir_fd = d->place.state_fd,
		.path = d->place.state_path,
		.kind = j->kind,
		.tree = j->tree,
		.record = j->record};
	struct journal_writer w;
	struct journal_entry e;
	struct error why;
	int code = journal_begin(&w, &head, &why);

	while (code == 0 && journal_next(j, &e) > 0)
		code = journal_add(&w, &e, &why);
	journal_rewind(j);
	w.name = name;
	if (code == 0)
		code = journal_commit(
			&w, true, &why); /* it takes the place of one that was whole */
	if (code < 0)
		journal_abandon(&w);
}

static enum record_doubt judge(const struct destination *d, struct journal *j)
{
	const struct file_sum *want = &j->record->sum;
	struct survey s;
	struct stat st;

	if (fstat(fileno(j->f), &st) != 0)
		return RECORD_TOUCHED;
	survey_init(&s, d, &st.st_ctim);
	survey_all(&s, j);
	if (fits(&s, &s.unchanged, want) || fits(&s, &s.unwritten, want) ||
		fits(&s, &s.every, want))
		return RECORD_SOUND;
	return verdict(&s);
}

/* Each is asked about several times in a run. */
static enum record_doubt judge_once(
	const struct destination *d, struct journal *j, enum record_doubt *known)
{
	if (known == NULL)
		return judge(d, j);
	if (*known == RECORD_UNKNOWN) {
		log_info("%s was staged before this machine was started: its files are looked at",
			d->place.path);
		*known = judge(d, j);
	}
	return *known;
}

void doubt(const struct destination *d, struct journal *j, const char *name)
{
	struct record *r = j->record;

	/* Who can only read has no choice. */
	if (j->this_boot || r->synced || d->lock_fd < 0)
		return;
	r->doubt = judge_once(d, j, d->doubts != NULL ? &d->doubts[j->kind] : NULL);
	if (r->doubt != RECORD_SOUND)
		return;
	r->synced = true;
	note_that_it_is_synced(d, j, name);
}

/* A text of some bytes, which file systems keep with the inode: no bytes of a file that come later. */
static void describe_inode(const struct inode *inode, char *buf, size_t size)
{
	snprintf(buf, size, "%" PRIu64 " %" PRId64 " %" PRIu32, inode->ino,
		inode->has_birth ? (int64_t)inode->birth_sec : 0,
		inode->has_birth ? (uint32_t)inode->birth_nsec : 0);
}

void doubt_prepare(const struct destination *d, const struct inode *tree)
{
	char text[INODE_TEXT];

	describe_inode(tree, text, sizeof(text));
	unlinkat(d->place.state_fd, PUBLISHED_LINK, 0);
	if (symlinkat(text, d->place.state_fd, PUBLISHED_LINK) != 0)
		log_debug("%s: cannot note its inode: %m", d->place.path);
}

static bool is_published(const struct destination *d)
{
	char noted[INODE_TEXT] = "", text[INODE_TEXT];
	struct inode dest;

	if (readlinkat(d->place.state_fd, PUBLISHED_LINK, noted, sizeof(noted) - 1) <= 0 ||
		inode_look(d->place.parent_fd, d->place.name, &dest) < 0 || !S_ISDIR(dest.mode))
		return false;
	describe_inode(&dest, text, sizeof(text));
	return strcmp(noted, text) == 0;
}

struct record *doubt_lost(const struct destination *d)
{
	enum record_doubt known = RECORD_UNKNOWN, *kept = d->doubts;
	struct record *r;
	struct survey s;
	struct stat st;

	if (d->lock_fd < 0 || !is_published(d) ||
		fstatat(d->place.state_fd, PUBLISHED_LINK, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return NULL;
	if (kept == NULL)
		kept = &known;
	if (kept[PUBLISH_WHOLE] == RECORD_UNKNOWN) {
		survey_init(&s, d, &st.st_ctim);
		survey(&s, d->place.path);
		kept[PUBLISH_WHOLE] = verdict(&s);
	}
	r = zalloc(sizeof(*r));
	r->key = copy_text("");
	r->sources = zalloc(sizeof(*r->sources));
	r->n_sources = 1;
	r->sources[0].key = copy_text("");
	r->sources[0].name = copy_text("what was");
	r->staged_at = st.st_ctim.tv_sec;
	r->doubt = kept[PUBLISH_WHOLE];
	return r;
}

void doubt_tidy(const struct destination *d)
{
	if (!is_published(d))
		unlinkat(d->place.state_fd, PUBLISHED_LINK, 0);
}
