/* SPDX-License-Identifier: MIT */
/* The renames that make a tree visible, and their undoing. Worker threads, with the lock held. A
 * whole tree is one entry that goes from the state directory to PARENT; a merge moves each
 * top-level entry from the tree to DEST. Where each entry is now is asked of the file system, never
 * remembered: so a journal can be carried out again from any point at which an agent died. */
#include "defer.h"
#include "destination.h"
#include "log.h"
#include "swap.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

struct moves {
	const struct destination *d;
	struct journal *journal;
	int tree_fd; /* -1: the tree is gone */
	int dest_fd; /* -1: DEST is gone, or the tree is whole */
};

enum whereabouts { IN_TREE, IN_PLACE, NOWHERE };

static int moves_open(struct destination *d, struct moves *ret)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

	*ret = (struct moves){.d = d, .tree_fd = -1, .dest_fd = -1};
	if (journal_open(d->place.state_fd, JOURNAL_FILE, &ret->journal) < 0)
		return -ENOENT;
	if (ret->journal->kind == PUBLISH_MERGE) {
		ret->tree_fd = openat(d->place.state_fd, ret->journal->tree, flags);
		(void)dest_open(d, &ret->dest_fd, NULL);
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
	const struct place *p = &m->d->place;

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

static bool is_at(int dir_fd, const char *name, const struct journal_entry *e)
{
	struct inode now;

	return dir_fd >= 0 && inode_look(dir_fd, name, &now) == 0 && inode_same(&now, &e->inode);
}

static enum whereabouts where_is(const struct slot *s, const struct journal_entry *e)
{
	if (is_at(s->visible_fd, s->visible, e))
		return IN_PLACE;
	return is_at(s->hidden_fd, s->hidden, e) ? IN_TREE : NOWHERE;
}

/* To move a directory one must be allowed to write it, since its ".." changes. */
static bool mode_is_in_the_way(const struct journal_entry *e)
{
	return S_ISDIR(e->inode.mode) && (e->inode.mode & S_IWUSR) == 0;
}

static int set_mode(int dir_fd, const char *name, mode_t mode)
{
	_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	/* The second way is for directories that may not be read; it needs /proc. */
	return fd >= 0 ? fchmod(fd, mode & 07777)
		       : fchmodat(dir_fd, name, mode & 07777, AT_SYMLINK_NOFOLLOW);
}

/* Whatever is to be replaced moves too. If that is refused, the rename will say so. */
static void make_movable(int dir_fd, const char *name)
{
	struct inode old;

	if (inode_look(dir_fd, name, &old) == 0 && S_ISDIR(old.mode) && (old.mode & S_IWUSR) == 0)
		(void)set_mode(dir_fd, name, old.mode | S_IRWXU);
}

static int cannot_move(const struct moves *m, const struct journal_entry *e, struct error *err)
{
	bool merge = m->journal->kind == PUBLISH_MERGE;
	int errnum = errno;
	_free_ char *what =
		format_text("%s%s%s", m->d->place.path, merge ? "/" : "", merge ? e->name : "");

	if (errnum == EEXIST || errnum == ENOTEMPTY)
		return error_set(err, -errnum,
			"cannot publish %s: somebody else made it meanwhile; nothing was replaced",
			what);
	if (errnum == EXDEV)
		return error_set(err, -errnum,
			"cannot replace %s: the file system cannot move what is there (overlayfs: "
			"it belongs to the image); remove it first or stage elsewhere",
			what);
	return disk_error(err, errnum, m->d->place.state_fd, "publish", what);
}

static int move_in(const struct moves *m, const struct slot *s, const struct journal_entry *e,
	struct error *err)
{
	bool mode_waits = mode_is_in_the_way(e);

	if (mode_waits && set_mode(s->hidden_fd, s->hidden, e->inode.mode | S_IRWXU) != 0)
		return cannot_move(m, e, err);
	if (e->replace)
		make_movable(s->visible_fd, s->visible);
	if ((e->replace ? slot_swap(s) : slot_show(s)) != 0)
		return cannot_move(m, e, err);
	if (mode_waits && set_mode(s->visible_fd, s->visible, e->inode.mode) != 0)
		return cannot_move(m, e, err);
	return 0;
}

/* The last rename may have been the last thing an agent did. */
static int finish_mode(const struct moves *m, const struct slot *s, const struct journal_entry *e,
	struct error *err)
{
	if (mode_is_in_the_way(e) && set_mode(s->visible_fd, s->visible, e->inode.mode) != 0)
		return cannot_move(m, e, err);
	return 0;
}

static int show_entry(const struct moves *m, const struct journal_entry *e, struct error *err)
{
	struct slot s = slot_of(m, e);

	switch (where_is(&s, e)) {
	case IN_PLACE:
		return finish_mode(m, &s, e, err);
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

	if (where_is(&s, e) != IN_PLACE)
		return 0;
	make_movable(s.visible_fd, s.visible);
	/* What was replaced, if anything was, waits in the tree. */
	return slot_swap(&s);
}

static void undo(const struct moves *m)
{
	struct journal_entry e;

	journal_rewind(m->journal);
	while (journal_next(m->journal, &e) > 0)
		if (hide_entry(m, &e) != 0)
			log_warn("%s: %s stays, though its stage did not end well: it cannot be "
				 "taken back: %m",
				m->d->place.path, e.name);
	unlinkat(m->d->place.state_fd, JOURNAL_FILE, 0);
}

static int journal_becomes_record(const struct moves *m, struct error *err)
{
	int fd = m->d->place.state_fd;
	_free_ char *merged = format_text(MERGED_DIR "/%s.json", m->journal->record->key);
	bool whole = m->journal->kind == PUBLISH_WHOLE;

	if (!whole && mkdirat(fd, MERGED_DIR, 0755) != 0 && errno != EEXIST)
		return disk_error(err, errno, fd, "make", MERGED_DIR);
	if (renameat(fd, JOURNAL_FILE, fd, whole ? WHOLE_FILE : merged) != 0)
		return disk_error(err, errno, fd, "rename", JOURNAL_FILE);
	return 0;
}

static int carry_out(const struct moves *m, struct error *err)
{
	int code = show_all(m, err);

	return code == 0 ? journal_becomes_record(m, err) : code;
}

int moves_carry_out(struct destination *d, struct error *err)
{
	struct moves m;
	int code = moves_open(d, &m);

	if (code < 0)
		return error_set(
			err, code, "cannot read %s/" JOURNAL_FILE " back", d->place.state_path);
	code = carry_out(&m, err);
	if (code < 0 && code != -ECANCELED)
		undo(&m);
	moves_close(&m);
	return code;
}

void moves_resume(struct destination *d)
{
	struct error why = {.msg = "the machine was restarted since"};
	struct moves m;

	if (moves_open(d, &m) < 0) {
		unlinkat(d->place.state_fd, JOURNAL_FILE, 0);
		return;
	}
	leftovers_forget(d);
	if (m.journal->this_boot && carry_out(&m, &why) == 0) {
		log_info("%s: completed what an interrupted run had staged", d->place.path);
	} else if (!cancel_requested(d->opts.cancel)) {
		undo(&m);
		log_info("%s: took back what an interrupted run had begun to publish: %s",
			d->place.path, why.msg);
	}
	moves_close(&m);
}
