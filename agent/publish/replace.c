/* SPDX-License-Identifier: MIT */
/* Which entries may be replaced: a survey finds out what has changed since they were staged, and
 * the checks below decide. The stage's thread. A file that a crash has cut off is shorter than it
 * was; or, where the file system stores a size before the bytes (ext4, XFS, also below overlayfs),
 * it has a hole instead of them. */
#include "defer.h"
#include "inode.h"
#include "journal.h"
#include "log.h"
#include "publish_private.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static bool is_later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

void replace_survey_init(struct survey *s, const struct destination *d, const struct marks *marks,
	const struct record *r)
{
	struct statfs fs;

	*s = (struct survey){.root = d->place.path,
		.marks = *marks,
		.shared = r->shared,
		.cancel = d->opts.cancel};
	s->sizes_come_first = fstatfs(d->place.state_fd, &fs) == 0 &&
			      (fs.f_type == EXT4_SUPER_MAGIC || fs.f_type == XFS_SUPER_MAGIC ||
				      fs.f_type == OVERLAYFS_SUPER_MAGIC);
	nest_list_mounts(s->root, &s->mounts);
}

void replace_survey_done(struct survey *s)
{
	free(take_ptr(&s->changed));
	free(take_ptr(&s->suspect));
	free(take_ptr(&s->mount));
	free(take_ptr(&s->nested));
	text_strings_done(&s->mounts);
}

static bool has_hole(const struct survey *s, const char *path, off_t size)
{
	const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
	_close_ int fd = size > 0 && s->sizes_come_first ? open(path, flags) : -1;
	off_t hole = fd >= 0 ? lseek(fd, 0, SEEK_HOLE) : -1; /* otherwise the size is enough */

	return hole >= 0 && hole < size;
}

static void add_to_sums(struct sums *s, uint64_t mark, bool hole, uint64_t dated)
{
	s->times += dated;
	s->all += mark;
	s->dense += hole ? 0 : mark;
}

static void add_file(struct survey *s, const FTSENT *file)
{
	const struct stat *st = file->fts_statp;
	uint64_t mark = file_sum_mark(file->fts_path + strlen(s->root) + 1, (uint64_t)st->st_size);
	uint64_t dated = file_sum_dated(mark, st->st_mtim.tv_sec);
	bool hole = has_hole(s, file->fts_accpath, st->st_size);

	add_to_sums(&s->every, mark, hole, dated);
	if (!is_later(&st->st_mtim, &s->marks.published))
		add_to_sums(&s->unwritten, mark, hole, dated);
	if (!is_later(&st->st_ctim, &s->marks.published))
		add_to_sums(&s->unchanged, mark, hole, dated);
}

/* Decides by the mtime. An archive may have set it to a time in the future, but a file that was
 * really written at that time has a ctime that is not earlier. */
static bool is_written(const struct survey *s, const struct stat *st)
{
	return is_later(&st->st_mtim, &s->marks.finished) && !is_later(&st->st_mtim, &st->st_ctim);
}

static bool is_older(const struct survey *s, const struct stat *st)
{
	return s->began.tv_sec != 0 && is_later(&s->began, &st->st_ctim);
}

/* The top entry was renamed into its place, which changes its ctime. */
static bool is_changed(const struct survey *s, const FTSENT *e)
{
	const struct stat *st = e->fts_statp;
	bool top = e->fts_level == 0;

	if (is_written(s, st))
		return true;
	if ((top && e->fts_info == FTS_D) || (s->shared && e->fts_info == FTS_F))
		return false;
	return is_older(s, st) ||
	       is_later(&st->st_ctim, top ? &s->marks.published : &s->marks.finished);
}

static const char *relative_path(const struct survey *s, const char *path)
{
	size_t len = strlen(s->root);

	return path[len] == '/' ? path + len + 1 : ".";
}

/* A file that was added is a better message than the directory that contains it, and a file better
 * than a directory. */
static void note_change(struct survey *s, const FTSENT *e)
{
	bool is_file = e->fts_info != FTS_D;
	const char *path = relative_path(s, e->fts_path);
	size_t len = s->changed != NULL ? strlen(s->changed) : 0;

	if (s->changed != NULL && strcmp(s->changed, ".") != 0 &&
		(s->changed_is_file || !(is_file || strncmp(path, s->changed, len) == 0)))
		return;
	free(s->changed);
	s->changed = text_copy(path);
	s->changed_is_file = is_file;
}

static char *parent_of(const FTSENT *e)
{
	return text_format("%.*s", (int)(e->fts_pathlen - e->fts_namelen - 1), e->fts_path);
}

/* Notes for which destination the agent's own directory in the tree keeps state. An empty one keeps
 * none. */
static void note_nested(struct survey *s, const FTSENT *e)
{
	_closedir_ DIR *dir = publish_listing_open(AT_FDCWD, e->fts_accpath);
	const char *name = dir != NULL ? publish_listing_next(dir) : NULL;
	_free_ char *above = parent_of(e);

	if (name == NULL)
		s->partial |= dir == NULL || errno != 0;
	else if (text_is_reserved_name(name)) /* the state of the directory that contains it */
		s->nested = take_ptr(&above);
	else
		s->nested = text_format("%s/%s", above, name);
}

static void visit_directory(struct survey *s, FTS *fts, FTSENT *e, dev_t top)
{
	if (e->fts_statp->st_dev != top && s->mount == NULL)
		s->mount = text_copy(e->fts_path);
	if (e->fts_level > 0 && text_is_reserved_name(e->fts_name)) {
		note_nested(s, e);
		fts_set(fts, e, FTS_SKIP);
		return;
	}
	if (is_changed(s, e))
		note_change(s, e);
	else if (s->suspect == NULL && is_later(&e->fts_statp->st_ctim, &s->marks.published))
		s->suspect = text_copy(relative_path(s, e->fts_path));
}

static void visit(struct survey *s, FTS *fts, FTSENT *e, dev_t top)
{
	switch (e->fts_info) {
	case FTS_DP: /* was visited as FTS_D */
		return;
	case FTS_DNR:
	case FTS_ERR:
	case FTS_NS:
		s->partial = true;
		if (s->changed == NULL)
			s->changed = text_copy(relative_path(s, e->fts_path));
		return;
	case FTS_D:
		visit_directory(s, fts, e, top);
		return;
	case FTS_F:
		if (e->fts_level > 0 && text_is_reserved_name(e->fts_name))
			s->nested = parent_of(e);
		add_file(s, e);
		break;
	default:
		break;
	}
	if (is_changed(s, e))
		note_change(s, e);
}

void replace_survey_add(struct survey *s, const char *path, const struct inode *inode)
{
	const int how = FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV;
	FTSENT *e = NULL;
	dev_t top = 0;
	FTS *fts;

	if (s->nested != NULL)
		return; /* one reason is enough */
	if (s->mount == NULL)
		s->mount = text_copy(nest_find_mount(&s->mounts, path));
	s->began = (struct timespec){0};
	if (inode != NULL && inode->has_birth)
		s->began = (struct timespec){
			.tv_sec = (time_t)inode->birth_sec, .tv_nsec = (long)inode->birth_nsec};
	fts = fts_open((char *const[]){(char *)path, NULL}, how, NULL);
	if (fts == NULL) {
		s->partial = true;
		return;
	}
	/* fts_read() is called at least once, since fts_close() leaks a stream that was only
	 * opened. */
	while ((errno = 0, e = fts_read(fts)) != NULL) {
		if (e->fts_level == 0 && e->fts_info != FTS_NS)
			top = e->fts_statp->st_dev;
		visit(s, fts, e, top);
		if (s->nested != NULL || cancel_requested(s->cancel))
			break;
	}
	s->partial |= e != NULL || errno != 0;
	fts_close(fts);
}

void replace_survey_journal(struct survey *s, struct journal *j)
{
	struct journal_entry e;

	journal_rewind(j);
	while (journal_next(j, &e) > 0) {
		_free_ char *path = j->kind == PUBLISH_WHOLE
					    ? text_copy(s->root)
					    : text_format("%s/%s", s->root, e.name);

		if (!e.gone)
			replace_survey_add(s, path, j->renumbered ? NULL : &e.inode);
	}
	journal_rewind(j);
}

bool replace_survey_fits(
	const struct survey *s, const struct sums *found, const struct file_sum *want)
{
	return want->known && found->all == want->dense + want->sparse &&
	       (!s->sizes_come_first || found->dense == want->dense);
}

bool replace_survey_fits_dated(
	const struct survey *s, const struct sums *found, const struct file_sum *want)
{
	return replace_survey_fits(s, found, want) &&
	       (!want->has_times || found->times == want->times);
}

/* The checks. Whether or not the user asked to replace: only what was surveyed is replaced, and
 * only while it is the same inode. Unless the user asked: only what the agent staged, and what
 * nobody has changed, added to or removed from since. */

/* If nothing identifies the version of the source, it is fetched again, and the new version may
 * replace the old one. */
static bool is_fetched_again(const struct record *old, const char *key)
{
	return strcmp(old->key, key) == 0 && !publish_record_is_pinned(old);
}

static int refuse_kept(
	const struct destination *d, const struct record *old, const char *why, struct error *err)
{
	struct text what = {0};

	publish_record_describe(old, &what);
	error_set(err, -ERR_KEPT, "%s holds %s, and %s; --replace (or replace: true) replaces it",
		d->place.path, what.s, why);
	text_done(&what);
	return -ERR_KEPT;
}

static int refuse_changed(const struct destination *d, const struct record *old,
	const char *changed, struct error *err)
{
	bool is_named = changed != NULL && strcmp(changed, ".") != 0;
	_free_ char *why = is_named ? text_format("%s in it has changed since", changed)
				    : text_copy("its files are not those that were staged");

	return refuse_kept(d, old, why, err);
}

static int refuse_other(const struct destination *d, const struct record *old, struct error *err)
{
	struct text what = {0};

	publish_record_describe(old, &what);
	error_set(err, -EEXIST, "%s holds %s; --replace (or replace: true) replaces it",
		d->place.path, what.s);
	text_done(&what);
	return -EEXIST;
}

/* Refuses, even with --replace, what is in DEST but was not staged into it. */
static int refuse_inside(const struct destination *d, const struct survey *s, struct error *err)
{
	if (s->mount != NULL)
		return error_set(err, -ERR_KEPT,
			"%s is not replaced: something is mounted on %s; unmount it, or stage elsewhere",
			d->place.path, s->mount);
	if (s->nested != NULL && strcmp(s->nested, d->place.path) == 0)
		return error_set(err, -ERR_KEPT,
			"%s is not replaced: it was also staged into by way of another mount point, and has records of that (" STATE_NAME
			"); stage there, or remove it first",
			d->place.path);
	if (s->nested != NULL)
		return error_set(err, -ERR_KEPT,
			"%s is not replaced: %s in it was staged by itself, and may be in use; remove that first, or stage elsewhere",
			d->place.path, s->nested);
	return 0;
}

static int check_survey(const struct destination *d, const struct survey *s,
	const struct record *old, struct error *err)
{
	int code;

	if (cancel_requested(d->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	code = refuse_inside(d, s, err);
	if (code < 0 || d->opts.replace)
		return code;
	/* If the files were found not to be those that were staged, they may be older, and show no
	 * sign of a change. */
	if (s->changed != NULL || s->partial || old->condition == RECORD_TOUCHED)
		return refuse_changed(d, old, s->changed != NULL ? s->changed : s->suspect, err);
	/* After a crash, files may be missing that nobody has removed. */
	if (old->condition != RECORD_LOST && old->sum.known &&
		!replace_survey_fits(s, &s->every, &old->sum))
		return refuse_changed(d, old, s->suspect, err);
	return 0;
}

/* Whether old may be replaced without --replace, judged by its key and condition alone. */
static int may_replace_record(
	const struct destination *d, const struct record *old, const char *key)
{
	if (d->opts.replace || d->opts.renew || is_fetched_again(old, key))
		return 1;
	/* It was damaged by a crash of the machine, which is not somebody's work. */
	return old->condition == RECORD_LOST || old->condition == RECORD_TOUCHED;
}

static void warn_lost(const struct destination *d, const struct record *old)
{
	if (old->condition == RECORD_LOST && !d->surveyed)
		log_warn(
			"%s is not as it was staged before this machine went down: it is staged anew",
			d->place.path);
}

static int survey_whole(
	struct destination *d, struct journal *j, const struct record *old, struct error *err)
{
	struct survey s = {0};
	int code;

	if (j != NULL) {
		replace_survey_init(&s, d, &j->marks, old);
		replace_survey_journal(&s, j);
	} else if (!crash_check_survey_lost(d, &s)) {
		return error_set(
			err, -EEXIST, "%s was changed while it was looked at", d->place.path);
	}
	code = check_survey(d, &s, old, err);
	replace_survey_done(&s);
	return code;
}

int replace_refuse_immovable(const char *path, struct error *err)
{
	return error_set(err, -EXDEV,
		"cannot replace %s: the file system cannot move what is there (overlayfs: it belongs to the image); remove it first or stage elsewhere",
		path);
}

/* j: the record's journal; NULL: it was lost, and old is what is known. */
static int check_whole(struct destination *d, const char *key, struct journal *j,
	const struct record *old, struct error *err)
{
	int code = 0;

	if (inode_stat(d->place.parent_fd, d->place.name, &d->old) < 0)
		return 0; /* DEST was removed */
	if (!may_replace_record(d, old, key))
		return refuse_other(d, old, err);
	/* The files behind a link are in the node cache, and remain there. */
	if (!d->surveyed && S_ISDIR(d->old.mode))
		code = survey_whole(d, j, old, err);
	if (code == 0 && !state_dir_can_move(&d->place, d->place.parent_fd, d->place.name))
		code = replace_refuse_immovable(d->place.path, err);
	if (code == 0)
		warn_lost(d, old);
	d->surveyed = code == 0;
	return code;
}

int replace_whole(struct destination *d, const char *key, struct error *err)
{
	struct journal *j = holdings_open(d);
	struct record *lost = j == NULL ? crash_check_lost_record(d) : NULL;
	int code = 0;

	if (j != NULL || lost != NULL)
		code = check_whole(d, key, j, j != NULL ? j->record : lost, err);
	d->replace = true;
	publish_record_free(lost);
	journal_close(j);
	return code;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct owned *)a)->name, ((const struct owned *)b)->name);
}

void replace_forget_owned(struct destination *d)
{
	for (size_t i = 0; i < d->n_owned; i++)
		free(d->owned[i].name);
	free(take_ptr(&d->owned));
	d->n_owned = 0;
}

static void add_owned(struct destination *d, const struct journal *j, const struct journal_entry *e)
{
	struct inode inode = e->inode;

	if (j->renumbered && inode_stat(d->dest_fd, e->name, &inode) < 0)
		return;
	if ((d->n_owned & (d->n_owned - 1)) == 0) {
		size_t room = d->n_owned > 0 ? 2 * d->n_owned : 1;

		d->owned = reallocarray(d->owned, room, sizeof(*d->owned));
		if (d->owned == NULL)
			abort();
	}
	d->owned[d->n_owned++] = (struct owned){.name = text_copy(e->name), .inode = inode};
}

bool replace_is_owned(const struct destination *d, const char *name, const struct inode *there)
{
	const struct owned key = {.name = (char *)name};
	const struct owned *found =
		d->n_owned > 0 ? bsearch(&key, d->owned, d->n_owned, sizeof(key), by_name) : NULL;

	return found != NULL && inode_same(&found->inode, there);
}

/* Adds those entries of j that are still there to d->owned. *ret_missing: the first entry that is
 * not, or has been replaced by another; heap, or NULL. */
static void add_owned_entries(struct destination *d, struct journal *j, char **ret_missing)
{
	struct journal_entry e;

	*ret_missing = NULL;
	while (journal_next(j, &e) > 0) {
		if (holdings_entry_matches(d, j, d->dest_fd, &e, e.name))
			add_owned(d, j, &e);
		else if (!e.gone && *ret_missing == NULL)
			*ret_missing = text_copy(e.name);
	}
	journal_rewind(j);
}

static int survey_owned(struct destination *d, struct journal *j, struct error *err)
{
	struct survey s;
	int code;

	if (d->surveyed || d->n_owned == 0)
		return 0;
	replace_survey_init(&s, d, &j->marks, j->record);
	replace_survey_journal(&s, j);
	code = check_survey(d, &s, j->record, err);
	replace_survey_done(&s);
	return code;
}

/* Checks what was staged under this key. A crash check makes sense only if no entry is missing;
 * otherwise the files are not those that were staged in any case. */
static int check_merged(
	struct destination *d, const char *key, struct journal *j, struct error *err)
{
	_free_ char *name = text_format(MERGED_DIR "/%s.json", key);
	_free_ char *missing = NULL;
	int code = 0;

	add_owned_entries(d, j, &missing);
	if (missing == NULL)
		crash_check_record(d, j, name);
	if (!may_replace_record(d, j->record, key)) {
		replace_forget_owned(d);
		return 0;
	}
	if (!d->opts.replace && missing != NULL && d->n_owned > 0)
		code = refuse_changed(d, j->record, missing, err);
	if (code == 0)
		code = survey_owned(d, j, err);
	if (code == 0)
		warn_lost(d, j->record);
	return code;
}

/* With --replace, entries of the same sources with other options are removed too. */
static int check_lineage(
	struct destination *d, const char *key, const char *lineage, struct error *err)
{
	struct holdings_list list;
	struct journal *j;
	int code = 0;

	if (lineage == NULL || lineage[0] == '\0' || !d->opts.replace)
		return 0;
	holdings_list(d, &list);
	while (code == 0 && (j = holdings_next(d, &list)) != NULL) {
		_free_ char *missing = NULL;

		if (strcmp(j->record->key, key) != 0 && strcmp(j->record->lineage, lineage) == 0) {
			add_owned_entries(d, j, &missing);
			code = survey_owned(d, j, err);
		}
		journal_close(j);
	}
	holdings_list_done(&list);
	return code;
}

static int check_movable(const struct destination *d, struct error *err)
{
	for (size_t i = 0; i < d->n_owned; i++) {
		_free_ char *path = NULL;

		if (!S_ISDIR(d->owned[i].inode.mode) ||
			state_dir_can_move(&d->place, d->dest_fd, d->owned[i].name))
			continue;
		path = text_format("%s/%s", d->place.path, d->owned[i].name);
		return replace_refuse_immovable(path, err);
	}
	return 0;
}

int replace_entries(struct destination *d, const char *key, const char *lineage, struct error *err)
{
	struct journal *j;
	int code = destination_open_directory(d, &d->dest_fd, err);

	if (code < 0)
		return code;
	j = holdings_merged(d, key);
	if (j != NULL)
		code = check_merged(d, key, j, err);
	journal_close(j);
	if (code == 0)
		code = check_lineage(d, key, lineage, err);
	if (code == 0 && !d->looks) /* it is found out by a trial */
		code = check_movable(d, err);
	if (d->n_owned > 0)
		qsort(d->owned, d->n_owned, sizeof(*d->owned), by_name);
	d->surveyed = code == 0;
	return code;
}

int replace_foreign(
	const struct destination *d, struct survey *s, const char *name, struct error *err)
{
	_free_ char *path = text_format("%s/%s", d->place.path, name);

	replace_survey_add(s, path, NULL);
	if (cancel_requested(d->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	return refuse_inside(d, s, err);
}
