/* SPDX-License-Identifier: MIT */
/* Records of another boot: what they tell of was in the memory of a kernel that is gone, and may never have come to
 * the disk. Worker threads. A file that was cut off is shorter than it was, or has a hole where its bytes should be; so the
 * names and sizes of the files without holes must be those that were published. */
#include "defer.h"
#include "destination.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define INODE_TEXT 64

struct survey {
	const char *root;          /* what file_sum_mark() takes paths to be relative to */
	struct timespec published; /* a file that changed later is somebody else's work */
	struct file_sum sum;
	bool touched;
};

static bool is_later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

static bool has_hole(const char *path, off_t size)
{
	_close_ int fd = -1;

	if (size == 0)
		return false;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno != EACCES; /* its size will do */
	/* A file system that knows of no holes says that the end is one. */
	return lseek(fd, 0, SEEK_HOLE) < size;
}

static void look_at(struct survey *s, const FTSENT *file)
{
	if (is_later(&file->fts_statp->st_ctim, &s->published)) {
		s->touched = true;
		return;
	}
	if (has_hole(file->fts_accpath, file->fts_statp->st_size))
		return;
	s->sum.files++;
	s->sum.sum += file_sum_mark(
		file->fts_path + strlen(s->root) + 1, (uint64_t)file->fts_statp->st_size);
}

/* false: something could not be looked at. */
static bool survey(struct survey *s, const char *path)
{
	FTS *fts = fts_open((char *const[]){(char *)path, NULL}, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	FTSENT *e;
	bool all = fts != NULL;

	while (all && (errno = 0, e = fts_read(fts)) != NULL) {
		if (e->fts_info == FTS_F)
			look_at(s, e);
		all = e->fts_info != FTS_ERR && e->fts_info != FTS_DNR && e->fts_info != FTS_NS;
	}
	all = all && errno == 0;
	if (fts != NULL)
		fts_close(fts);
	return all;
}

static bool survey_all(struct survey *s, const struct destination *d, struct journal *j)
{
	struct journal_entry e;
	bool all = true;

	if (j->kind == PUBLISH_WHOLE)
		return survey(s, d->place.path);
	while (all && journal_next(j, &e) > 0) {
		_free_ char *path = format_text("%s/%s", d->place.path, e.name);

		all = survey(s, path);
	}
	journal_rewind(j);
	return all;
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
		code = journal_commit(&w, false, &why);
	if (code < 0)
		journal_abandon(&w);
}

static enum record_doubt judge(const struct destination *d, struct journal *j)
{
	struct survey s = {.root = d->place.path};
	struct stat st;

	if (!j->record->sum.known || fstat(fileno(j->f), &st) != 0)
		return RECORD_LOST;
	s.published = st.st_ctim;
	if (survey_all(&s, d, j) && s.sum.files == j->record->sum.files &&
		s.sum.sum == j->record->sum.sum)
		return RECORD_SOUND;
	return s.touched ? RECORD_TOUCHED : RECORD_LOST;
}

void doubt(const struct destination *d, struct journal *j, const char *name)
{
	struct record *r = j->record;

	/* Who can only read has no choice. */
	if (j->this_boot || r->synced || d->lock_fd < 0)
		return;
	log_debug("%s was staged before this machine was started: its files are looked at",
		d->place.path);
	r->doubt = judge(d, j);
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
	struct survey s = {.root = d->place.path};
	struct record *r;
	struct stat st;

	if (d->lock_fd < 0 || !is_published(d) ||
		fstatat(d->place.state_fd, PUBLISHED_LINK, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return NULL;
	s.published = st.st_ctim;
	(void)survey(&s, d->place.path);
	r = zalloc(sizeof(*r));
	r->key = copy_text("");
	r->sources = zalloc(sizeof(*r->sources));
	r->n_sources = 1;
	r->sources[0].key = copy_text("");
	r->sources[0].name = copy_text("what was");
	r->staged_at = st.st_ctim.tv_sec;
	r->doubt = s.touched ? RECORD_TOUCHED : RECORD_LOST;
	return r;
}

void doubt_tidy(const struct destination *d)
{
	if (!is_published(d))
		unlinkat(d->place.state_fd, PUBLISHED_LINK, 0);
}
