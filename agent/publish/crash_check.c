/* SPDX-License-Identifier: MIT */
/* Records of an earlier boot. Worker threads; publish_boot_id(): any thread. What such a record
 * describes was in the memory of a kernel that is gone, and may never have reached the disk. So the
 * record is believed only if names and sizes of the files are those that were published. Files that
 * have changed since are somebody's work: they are never taken for damage, and never removed unless
 * the user asks for it. */
#include "defer.h"
#include "log.h"
#include "publish_private.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

void publish_boot_id(char buf[static 64])
{
	_close_ int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, 63);

	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
}

static enum record_condition classify_mismatch(const struct survey *s)
{
	return s->changed != NULL || s->partial ? RECORD_TOUCHED : RECORD_LOST;
}

static int open_entries_dir(const struct destination *d, const struct journal *j)
{
	int fd = -1;

	if (j->kind == PUBLISH_WHOLE)
		return fcntl(d->place.parent_fd, F_DUPFD_CLOEXEC, 3);
	return destination_open_directory(d, &fd, NULL) < 0 ? -1 : fd;
}

/* Writes the record again, with its condition and the present inode numbers. */
static bool rewrite_record(const struct destination *d, struct journal *j, const char *name)
{
	_close_ int dir_fd = open_entries_dir(d, j);
	const struct journal_head head = {.dir_fd = d->place.state_fd,
		.path = d->place.state_path,
		.kind = j->kind,
		.tree = j->tree,
		.record = j->record,
		.marks = &j->marks};
	struct journal_writer w;
	struct journal_entry e;
	struct error why;
	int code;

	/* If the records are packed, the directory does not exist. */
	if (j->kind == PUBLISH_MERGE)
		(void)!mkdirat(d->place.state_fd, MERGED_DIR, umask_apply(0755) | S_IRWXU);
	code = journal_begin(&w, &head, &why);

	while (code == 0 && journal_next(j, &e) > 0) {
		if (j->renumbered && holdings_entry_matches(d, j, dir_fd, &e, e.name))
			(void)inode_stat(dir_fd, e.name, &e.inode);
		code = journal_add(&w, &e, &why);
	}
	journal_rewind(j);
	w.name = name;
	/* The record that it replaces was on the disk, so this one is synced. */
	if (code == 0)
		code = journal_commit(&w, true, &why);
	if (code < 0)
		journal_abandon(&w);
	return code == 0;
}

static enum record_condition check_files(const struct destination *d, struct journal *j)
{
	const struct file_sum *want = &j->record->sum;
	enum record_condition found;
	struct survey s;

	replace_survey_init(&s, d, &j->marks, j->record);
	replace_survey_journal(&s, j);
	found = replace_survey_fits(&s, &s.unchanged, want) ||
				replace_survey_fits(&s, &s.unwritten, want) ||
				replace_survey_fits(&s, &s.every, want)
			? RECORD_SOUND
			: classify_mismatch(&s);
	replace_survey_done(&s);
	return found;
}

/* Each record is checked several times in a run, but surveyed only once. */
static enum record_condition check_files_once(struct destination *d, struct journal *j)
{
	enum record_condition *known = &d->conditions[j->kind];

	if (*known == RECORD_UNKNOWN) {
		log_info("%s was staged before this machine was started: its files are looked at",
			d->place.path);
		*known = check_files(d, j);
	}
	return *known;
}

/* Checks whether a renumbered record describes what is there now. A link into a node cache is
 * recognised by its text. */
static enum record_condition check_renumbered(const struct destination *d, struct journal *j)
{
	const struct file_sum *want = &j->record->sum;
	_free_ char *link = j->kind == PUBLISH_WHOLE
				    ? link_read_target(d->place.parent_fd, d->place.name)
				    : NULL;
	struct survey s;
	bool same;

	if (link != NULL)
		return RECORD_SOUND;
	replace_survey_init(&s, d, &j->marks, j->record);
	replace_survey_journal(&s, j);
	/* Without a sum, any other directory that is old enough would be accepted. */
	same = replace_survey_fits_dated(&s, &s.unchanged, want) ||
	       replace_survey_fits_dated(&s, &s.unwritten, want);
	replace_survey_done(&s);
	return same ? RECORD_SOUND : RECORD_TOUCHED;
}

/* Writes PUBLISHED_LINK again, with its old time. */
static void renew_link(const struct destination *d, const struct marks *marks)
{
	const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, marks->published};
	struct inode tree;

	if (inode_stat(d->place.parent_fd, d->place.name, &tree) < 0 || !S_ISDIR(tree.mode))
		return;
	crash_check_write_link(d, &tree);
	if (utimensat(d->place.state_fd, PUBLISHED_LINK, times, AT_SYMLINK_NOFOLLOW) != 0)
		unlinkat(d->place.state_fd, PUBLISHED_LINK, 0);
}

static void renumber(const struct destination *d, struct journal *j, const char *name)
{
	struct record *r = j->record;

	r->condition = check_renumbered(d, j);
	if (d->lock_fd < 0)
		return;
	log_info(
		"%s: its inode numbers are not those that it was staged with (another mount, or a copy): its files %s",
		d->place.path,
		r->condition == RECORD_SOUND ? "are those that were staged" : "have changed since");
	r->synced |= !j->this_boot && r->condition == RECORD_SOUND;
	if (rewrite_record(d, j, name) && j->kind == PUBLISH_WHOLE && r->condition == RECORD_SOUND)
		renew_link(d, &j->marks);
}

void crash_check_record(struct destination *d, struct journal *j, const char *name)
{
	struct record *r = j->record;

	if (j->renumbered) {
		renumber(d, j, name);
		return;
	}
	/* A run that can only read cannot stage anything else. */
	if (r->condition == RECORD_TOUCHED || j->this_boot || r->synced || d->lock_fd < 0)
		return;
	r->condition = check_files_once(d, j);
	if (r->condition != RECORD_SOUND)
		return;
	/* This kernel has read from the disk what an earlier one wrote, so it cannot be lost any
	 * more. */
	r->synced = true;
	(void)rewrite_record(d, j, name);
}

void crash_check_write_link(const struct destination *d, const struct inode *tree)
{
	char text[INODE_TEXT];

	/* File systems store the text of a link together with its inode, unlike the bytes of a
	 * file, which may reach the disk later. */
	inode_print(tree, text);
	unlinkat(d->place.state_fd, PUBLISHED_LINK, 0);
	if (symlinkat(text, d->place.state_fd, PUBLISHED_LINK) != 0)
		log_debug("%s: cannot note its inode: %m", d->place.path);
}

static bool link_matches_dest(const struct destination *d)
{
	char noted[INODE_TEXT] = "", text[INODE_TEXT];
	struct inode dest;

	if (readlinkat(d->place.state_fd, PUBLISHED_LINK, noted, sizeof(noted) - 1) <= 0 ||
		inode_stat(d->place.parent_fd, d->place.name, &dest) < 0 || !S_ISDIR(dest.mode))
		return false;
	inode_print(&dest, text);
	return strcmp(noted, text) == 0;
}

bool crash_check_survey_lost(const struct destination *d, struct survey *ret)
{
	const struct record unknown = {0};
	struct marks marks;
	struct stat st;

	if (!link_matches_dest(d) ||
		fstatat(d->place.state_fd, PUBLISHED_LINK, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	marks = (struct marks){.finished = st.st_mtim, .published = st.st_mtim};
	replace_survey_init(ret, d, &marks, &unknown);
	replace_survey_add(ret, d->place.path, NULL);
	return true;
}

struct record *crash_check_lost_record(struct destination *d)
{
	enum record_condition *known = &d->conditions[PUBLISH_WHOLE];
	struct record *r;
	struct survey s;
	struct stat st;

	if (d->lock_fd < 0 || !link_matches_dest(d) ||
		fstatat(d->place.state_fd, PUBLISHED_LINK, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return NULL;
	if (*known == RECORD_UNKNOWN && crash_check_survey_lost(d, &s)) {
		*known = classify_mismatch(&s);
		replace_survey_done(&s);
	}
	r = zalloc(sizeof(*r));
	r->key = text_copy("");
	r->sources = zalloc(sizeof(*r->sources));
	r->n_sources = 1;
	r->sources[0].name = text_copy("what was");
	r->staged_at = st.st_mtim.tv_sec;
	r->condition = *known;
	return r;
}

void crash_check_remove_stale_link(const struct destination *d)
{
	if (!link_matches_dest(d))
		unlinkat(d->place.state_fd, PUBLISHED_LINK, 0);
}
