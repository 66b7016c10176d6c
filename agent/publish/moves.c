/* SPDX-License-Identifier: MIT */
/* Carries out journals: the renames that make a tree visible, and their undoing. Worker threads,
 * with the lock held. A whole tree is one entry that is renamed from the state directory to PARENT;
 * a merge renames each top-level entry from the tree to DEST. The place of each entry is asked of
 * the file system and never stored, so a journal can be carried out again from any point at which
 * an agent died. */
#include "defer.h"
#include "inode.h"
#include "log.h"
#include "publish_private.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool flag_is_missing(void)
{
	return errno == EINVAL || errno == ENOSYS || errno == ENOTSUP;
}

/* Without the flag, another process could create the name between the check and the rename. No
 * other agent can, since the lock is held. */
static int rename_if_absent(int from_fd, const char *from, int to_fd, const char *to)
{
	if (renameat2(from_fd, from, to_fd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (!flag_is_missing())
		return -1;
	if (faccessat(to_fd, to, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return errno == ENOENT ? renameat(from_fd, from, to_fd, to) : -1;
}

/* Renames from hidden to visible. EEXIST or ENOTEMPTY if the visible name exists. */
static int slot_show(const struct slot *s)
{
	/* A plain rename of a directory replaces an empty directory and nothing else. */
	if (s->over_empty)
		return renameat(s->hidden_fd, s->hidden, s->visible_fd, s->visible);
	return rename_if_absent(s->hidden_fd, s->hidden, s->visible_fd, s->visible);
}

/* Nothing is visible between the first two renames. If the agent dies there, the journal shows
 * where everything is: see restore_replaced() and complete_swap(). */
static int swap_in_steps(const struct slot *s)
{
	if (renameat(s->visible_fd, s->visible, s->spare_fd, SLOT_SPARE) != 0)
		return -1;
	if (renameat(s->hidden_fd, s->hidden, s->visible_fd, s->visible) != 0) {
		int errnum = errno;

		renameat(s->spare_fd, SLOT_SPARE, s->visible_fd, s->visible);
		errno = errnum;
		return -1;
	}
	return renameat(s->spare_fd, SLOT_SPARE, s->hidden_fd, s->hidden);
}

static bool is_missing(int dir_fd, const char *name)
{
	return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
}

/* Exchanges the two names, in one step if the file system can. Either may be missing. */
static int slot_swap(const struct slot *s)
{
	if (is_missing(s->visible_fd, s->visible))
		return rename_if_absent(s->hidden_fd, s->hidden, s->visible_fd, s->visible);
	if (is_missing(s->hidden_fd, s->hidden))
		return rename_if_absent(s->visible_fd, s->visible, s->hidden_fd, s->hidden);
	if (renameat2(s->hidden_fd, s->hidden, s->visible_fd, s->visible, RENAME_EXCHANGE) == 0)
		return 0;
	return flag_is_missing() ? swap_in_steps(s) : -1;
}

/* Entries of a journal. */

/* The longest time to wait for the file system's clock: its coarsest resolution is one second. */
#define TICKS_MAX_MS 1100

struct moves {
	const struct destination *d;
	struct journal *journal;
	int tree_fd; /* -1: the tree is gone */
	int dest_fd; /* -1: DEST is gone, or the tree is whole */
};

enum move_location { IN_TREE, IN_PLACE, NOWHERE };

static int moves_open(struct destination *d, struct moves *ret)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

	*ret = (struct moves){.d = d, .tree_fd = -1, .dest_fd = -1};
	if (journal_open(d->place.state_fd, JOURNAL_FILE, &ret->journal) < 0)
		return -ENOENT;
	if (ret->journal->kind == PUBLISH_MERGE) {
		ret->tree_fd = openat(d->place.state_fd, ret->journal->tree, flags);
		(void)destination_open_directory(d, &ret->dest_fd, NULL);
	}
	return 0;
}

static void moves_close(struct moves *m)
{
	journal_close(m->journal);
	if (m->tree_fd >= 0)
		close(m->tree_fd);
	if (m->dest_fd >= 0)
		close(m->dest_fd);
}

static struct slot slot_of(const struct moves *m, const struct journal_entry *e)
{
	const struct state_dir *p = &m->d->place;

	if (m->journal->kind == PUBLISH_MERGE)
		return (struct slot){.hidden_fd = m->tree_fd,
			.hidden = e->name,
			.visible_fd = m->dest_fd,
			.visible = e->name,
			.spare_fd = p->state_fd};
	return (struct slot){.hidden_fd = p->state_fd,
		.hidden = m->journal->tree,
		.visible_fd = p->parent_fd,
		.visible = p->name,
		.spare_fd = p->state_fd,
		.over_empty = S_ISDIR(e->inode.mode)};
}

static bool is_at(int dir_fd, const char *name, const struct inode *inode)
{
	struct inode now;

	return dir_fd >= 0 && inode_stat(dir_fd, name, &now) == 0 && inode_same(&now, inode);
}

static bool is_absent(int dir_fd, const char *name)
{
	struct inode now;

	return dir_fd >= 0 && inode_stat(dir_fd, name, &now) == -ENOENT;
}

static enum move_location locate_entry(const struct slot *s, const struct journal_entry *e)
{
	if (is_at(s->visible_fd, s->visible, &e->inode))
		return IN_PLACE;
	return is_at(s->hidden_fd, s->hidden, &e->inode) ? IN_TREE : NOWHERE;
}

/* Carries out the last step of an exchange in steps, or of its undoing, that was interrupted before
 * that step. */
static int complete_swap(const struct slot *s, const struct journal_entry *e)
{
	if (!e->replace || !is_absent(s->hidden_fd, s->hidden) ||
		!(is_at(s->spare_fd, SLOT_SPARE, &e->old) ||
			is_at(s->spare_fd, SLOT_SPARE, &e->inode)))
		return 0;
	return renameat(s->spare_fd, SLOT_SPARE, s->hidden_fd, s->hidden);
}

/* Moves the replaced entry back from wherever an exchange in steps has left it. */
static int restore_replaced(const struct slot *s, const struct journal_entry *e)
{
	if (!e->replace || !is_absent(s->visible_fd, s->visible))
		return 0;
	if (is_at(s->spare_fd, SLOT_SPARE, &e->old))
		return renameat(s->spare_fd, SLOT_SPARE, s->visible_fd, s->visible);
	if (is_at(s->hidden_fd, s->hidden, &e->old))
		return renameat(s->hidden_fd, s->hidden, s->visible_fd, s->visible);
	return 0;
}

/* A directory cannot be renamed into another parent without permission to write it, since its ".."
 * changes. */
static bool mode_forbids_move(const struct journal_entry *e)
{
	return S_ISDIR(e->inode.mode) && (e->inode.mode & S_IWUSR) == 0;
}

static int try_mode(int dir_fd, const char *name, mode_t mode)
{
	_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	/* The second way is for directories that may not be read; it needs /proc. */
	return fd >= 0 ? fchmod(fd, mode & 07777)
		       : fchmodat(dir_fd, name, mode & 07777, AT_SYMLINK_NOFOLLOW);
}

/* A file system without modes refuses chmod(), but also does not refuse the rename. */
static int set_mode(const struct moves *m, int dir_fd, const char *name, mode_t mode)
{
	int failed = try_mode(dir_fd, name, mode), errnum = errno;

	if (!failed || losses_record(m->d->losses, LOSS_MODE, name, errnum) == 0)
		return 0;
	errno = errnum;
	return -1;
}

/* The entry to be replaced is renamed too. If its mode cannot be changed, the rename fails and its
 * error is reported. */
static void make_movable(int dir_fd, const char *name)
{
	struct inode old;

	if (inode_stat(dir_fd, name, &old) == 0 && S_ISDIR(old.mode) && (old.mode & S_IWUSR) == 0)
		(void)!try_mode(dir_fd, name, old.mode | S_IRWXU);
}

static int cannot_move(const struct moves *m, const struct journal_entry *e, struct error *err)
{
	bool merge = m->journal->kind == PUBLISH_MERGE;
	int errnum = errno;
	_free_ char *what =
		text_format("%s%s%s", m->d->place.path, merge ? "/" : "", merge ? e->name : "");

	if (errnum == EEXIST || errnum == ENOTEMPTY)
		return error_set(err, -errnum,
			"cannot publish %s: somebody else made it meanwhile; nothing was replaced",
			what);
	if (errnum == EXDEV)
		return replace_refuse_immovable(what, err);
	return tree_disk_error(err, errnum, m->d->place.state_fd, "publish", what);
}

static int move_in(const struct moves *m, const struct slot *s, const struct journal_entry *e,
	struct error *err)
{
	bool mode_deferred = mode_forbids_move(e);

	/* Only the inode that was checked before is replaced. */
	if (e->replace && !is_absent(s->visible_fd, s->visible) &&
		!is_at(s->visible_fd, s->visible, &e->old)) {
		errno = EEXIST;
		return cannot_move(m, e, err);
	}
	if (mode_deferred && set_mode(m, s->hidden_fd, s->hidden, e->inode.mode | S_IRWXU) != 0)
		return cannot_move(m, e, err);
	if (e->replace)
		make_movable(s->visible_fd, s->visible);
	if ((e->replace ? slot_swap(s) : slot_show(s)) != 0 || complete_swap(s, e) != 0)
		return cannot_move(m, e, err);
	if (mode_deferred && set_mode(m, s->visible_fd, s->visible, e->inode.mode) != 0)
		return cannot_move(m, e, err);
	return 0;
}

/* The agent may have died right after the last rename. */
static int complete_entry(const struct moves *m, const struct slot *s,
	const struct journal_entry *e, struct error *err)
{
	if (complete_swap(s, e) != 0)
		return cannot_move(m, e, err);
	if (mode_forbids_move(e) && set_mode(m, s->visible_fd, s->visible, e->inode.mode) != 0)
		return cannot_move(m, e, err);
	return 0;
}

/* An entry that the new version lacks is moved to where replaced entries are. */
static int hide_gone(const struct moves *m, const struct slot *s, const struct journal_entry *e,
	struct error *err)
{
	if (!is_at(s->visible_fd, s->visible, &e->inode))
		return 0;
	make_movable(s->visible_fd, s->visible);
	return slot_swap(s) == 0 ? 0 : cannot_move(m, e, err);
}

static int show_entry(const struct moves *m, const struct journal_entry *e, struct error *err)
{
	struct slot s = slot_of(m, e);

	if (e->gone)
		return hide_gone(m, &s, e, err);
	switch (locate_entry(&s, e)) {
	case IN_PLACE:
		return complete_entry(m, &s, e, err);
	case IN_TREE:
		return move_in(m, &s, e, err);
	default:
		return error_set(err, -ENOENT, "cannot publish %s: %s was removed meanwhile",
			m->d->place.path, e->name);
	}
}

static int show_all(const struct moves *m, struct error *err)
{
	struct journal_entry e;
	int code = 0;

	if (m->journal->kind == PUBLISH_MERGE && m->dest_fd < 0)
		return error_set(err, -ENOENT, "cannot publish %s: it was removed meanwhile",
			m->d->place.path);
	while (code == 0 && journal_next(m->journal, &e) > 0) {
		if (cancel_requested(m->d->opts.cancel))
			return error_set(
				err, -ECANCELED, "cancelled while publishing %s", m->d->place.path);
		code = show_entry(m, &e, err);
	}
	return code;
}

static int hide_entry(const struct moves *m, const struct journal_entry *e)
{
	struct slot s = slot_of(m, e);
	enum move_location where = locate_entry(&s, e);

	if (e->gone)
		return where == IN_TREE && is_absent(s.visible_fd, s.visible) ? slot_swap(&s) : 0;
	if (where != IN_PLACE)
		return 0;
	make_movable(s.visible_fd, s.visible);
	/* The replaced entry, if there is one, is in the tree. */
	return slot_swap(&s);
}

/* There is only one spare name, and all entries need it. */
static int clear_spare(const struct moves *m, const struct journal_entry *e)
{
	struct slot s = slot_of(m, e);

	return restore_replaced(&s, e) == 0 ? complete_swap(&s, e) : -1;
}

static void undo_all(const struct moves *m)
{
	struct journal_entry e;
	int failed = 0;

	journal_rewind(m->journal);
	while (failed == 0 && journal_next(m->journal, &e) > 0)
		failed = clear_spare(m, &e);
	journal_rewind(m->journal);
	while (failed == 0 && journal_next(m->journal, &e) > 0)
		failed = hide_entry(m, &e);
	if (failed == 0)
		unlinkat(m->d->place.state_fd, JOURNAL_FILE, 0);
	else /* the journal remains too: without it the replaced entries would be removed */
		log_warn(
			"%s: %s stays, though its stage did not end well: it cannot be taken back: %m",
			m->d->place.path, e.name);
}

/* Removes the records of merges of which no entry is left, since all were replaced or removed. */
static void forget_replaced_merges(const struct moves *m)
{
	struct holdings_list list;
	struct journal *j;

	if (m->journal->kind != PUBLISH_MERGE)
		return;
	holdings_list(m->d, &list);
	while ((j = holdings_next(m->d, &list)) != NULL) {
		_free_ char *file = text_format(MERGED_DIR "/%s.json", j->record->key);

		if (!holdings_any_entry_left(j, m->dest_fd))
			unlinkat(m->d->place.state_fd, file, 0);
		journal_close(j);
	}
	holdings_list_done(&list);
}

static int journal_becomes_record(const struct moves *m, struct error *err)
{
	int fd = m->d->place.state_fd;
	_free_ char *merged = text_format(MERGED_DIR "/%s.json", m->journal->record->key);
	bool whole = m->journal->kind == PUBLISH_WHOLE;

	if (!whole && mkdirat(fd, MERGED_DIR, umask_apply(0755) | S_IRWXU) != 0 && errno != EEXIST)
		return tree_disk_error(err, errno, fd, "make", MERGED_DIR);
	if (renameat(fd, JOURNAL_FILE, fd, whole ? WHOLE_FILE : merged) != 0)
		return tree_disk_error(err, errno, fd, "rename", JOURNAL_FILE);
	forget_replaced_merges(m);
	return 0;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool touch_file(int fd, struct stat *ret_st)
{
	const struct timespec now[] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};

	return futimens(fd, now) == 0 && fstat(fd, ret_st) == 0;
}

/* Some file systems do not set times, or only claim to; all update the time of a file that is
 * written. */
static bool rewrite_a_byte(int fd)
{
	char first;

	return pread(fd, &first, 1, 0) == 1 && pwrite(fd, &first, 1, 0) == 1;
}

/* Sets the journal's mtime to the present time of the file system's clock, and stores that in
 * *ret_now. */
static bool mark_now(const struct moves *m, struct timespec *ret_now)
{
	const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	_close_ int fd = openat(m->d->place.state_fd, JOURNAL_FILE, flags);
	struct stat before, now;

	if (fd < 0 || fstat(fd, &before) != 0)
		return false;
	if (!touch_file(fd, &now) || same_time(&before.st_mtim, &now.st_mtim))
		if (!rewrite_a_byte(fd) || fstat(fd, &now) != 0)
			return false;
	*ret_now = now.st_mtim;
	return true;
}

/* The clocks of file systems advance in ticks of some milliseconds, or of a second. After a tick,
 * every change by a process that sees the published tree has a later time than anything in it. */
static void await_tick(const struct moves *m)
{
	const struct timespec *finished = &m->journal->marks.finished;
	struct timespec now, pause = {.tv_nsec = 1000000L};

	for (int i = 0; i < TICKS_MAX_MS && mark_now(m, &now); i++) {
		if (!same_time(&now, finished))
			return;
		nanosleep(&pause, NULL);
	}
}

/* Whether anybody has changed entries that an interrupted publish has already moved into place. */
static bool is_changed_since(const struct moves *m)
{
	const struct marks marks = {
		.finished = m->journal->marks.finished, .published = {.tv_sec = INT64_MAX}};
	struct survey s;
	bool changed;

	replace_survey_init(&s, m->d, &marks, m->journal->record);
	replace_survey_journal(&s, m->journal);
	changed = s.changed != NULL || s.partial;
	replace_survey_done(&s);
	return changed;
}

static int carry_out(const struct moves *m, bool mark, struct error *err)
{
	int code = show_all(m, err);
	struct timespec now;

	if (code == 0 && mark)
		(void)mark_now(m, &now);
	return code == 0 ? journal_becomes_record(m, err) : code;
}

int moves_carry_out(struct destination *d, struct error *err)
{
	struct moves m;
	int code = moves_open(d, &m);

	if (code < 0)
		return error_set(
			err, code, "cannot read %s/" JOURNAL_FILE " back", d->place.state_path);
	await_tick(&m);
	code = carry_out(&m, true, err);
	if (code < 0 && code != -ECANCELED)
		undo_all(&m);
	moves_close(&m);
	return code;
}

/* For a single rename the journal was never synced, so a crash may have lost it. If there is no
 * journal, nothing at DEST, and the tree of the record is in the state directory, then the machine
 * crashed between the two steps of an exchange: this moves that tree back. */
static void restore_whole(const struct destination *d)
{
	int state_fd = d->place.state_fd;
	_closedir_ DIR *dir = publish_listing_open(state_fd, ".");
	struct journal_entry e;
	struct journal *j;
	const char *name;

	if (d->place.inside || !is_absent(d->place.parent_fd, d->place.name) ||
		journal_open(state_fd, WHOLE_FILE, &j) < 0)
		return;
	while (dir != NULL && journal_next(j, &e) > 0 &&
		(name = publish_listing_next(dir)) != NULL) {
		if (is_at(state_fd, name, &e.inode) &&
			renameat(state_fd, name, d->place.parent_fd, d->place.name) == 0) {
			log_info("%s: brought back what an interrupted run was about to replace",
				d->place.path);
			break;
		}
		journal_rewind(j);
	}
	journal_close(j);
}

void moves_resume(struct destination *d)
{
	struct error why = {.msg = "the machine was restarted since"};
	struct moves m;

	if (moves_open(d, &m) < 0) {
		unlinkat(d->place.state_fd, JOURNAL_FILE, 0);
		restore_whole(d);
		return;
	}
	leftovers_forget_unfinished(d);
	if (m.journal->this_boot && carry_out(&m, !is_changed_since(&m), &why) == 0) {
		log_info("%s: completed what an interrupted run had staged", d->place.path);
	} else if (!cancel_requested(d->opts.cancel)) {
		undo_all(&m);
		restore_whole(d);
		log_info("%s: took back what an interrupted run had begun to publish: %s",
			d->place.path, why.msg);
	}
	moves_close(&m);
}
