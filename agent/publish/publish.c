/* SPDX-License-Identifier: MIT */
/* From a finished hidden tree to a journal of what shall be renamed. The stage's thread. The
 * renames are in moves.c. */
#include "defer.h"
#include "destination.h"
#include "listing.h"
#include <errno.h>
#include <sys/stat.h>

static int cannot_finish(const struct destination *d, struct error *err)
{
	return disk_error(err, errno, d->tree_fd, "set the attributes of", d->place.path);
}

/* What the archive leaves open, an empty directory that is replaced decides. */
static mode_t inherit(const struct destination *d)
{
	struct inode old, tree;

	if (d->kind != DEST_EMPTY || inode_look(d->place.parent_fd, d->place.name, &old) < 0 ||
		inode_look(d->tree_fd, "", &tree) < 0)
		return d->tree_mode;
	/* Only root can; others keep what they made. */
	if (tree.uid == geteuid() && (old.uid != tree.uid || old.gid != tree.gid))
		(void)!fchown(d->tree_fd, old.uid, old.gid);
	return old.mode & 07777;
}

/* Gives the tree DEST's mode and time. A mode that would forbid the rename is left to it. */
static int dress_root(
	const struct destination *d, const struct meta *root, mode_t *ret_mode, struct error *err)
{
	const struct timespec times[] = {{.tv_nsec = UTIME_OMIT}, root->mtime};
	bool spoken_of = root->mode != (mode_t)-1;
	mode_t mode = inherit(d);

	if (spoken_of)
		mode = root->mode & 0777;
	if ((mode & S_IWUSR) != 0 && fchmod(d->tree_fd, mode) != 0)
		return cannot_finish(d, err);
	if (spoken_of && futimens(d->tree_fd, times) != 0)
		return cannot_finish(d, err);
	*ret_mode = mode;
	return 0;
}

static int list_root(
	const struct destination *d, mode_t mode, struct journal_writer *w, struct error *err)
{
	struct journal_entry e = {
		.name = d->place.name, .replace = d->kind == DEST_OURS || d->kind == DEST_LINK};

	if (inode_look(d->tree_fd, "", &e.inode) < 0)
		return cannot_finish(d, err);
	doubt_prepare(d, &e.inode);
	e.inode.mode = S_IFDIR | mode;
	return journal_add(w, &e, err);
}

static int list_entry(
	struct destination *d, const char *name, struct journal_writer *w, struct error *err)
{
	struct journal_entry e = {.name = name};
	struct inode there;
	int code = destination_accepts(d, name, err);

	if (code < 0)
		return code;
	e.replace = inode_look(d->dest_fd, name, &there) == 0;
	code = inode_look(d->tree_fd, name, &e.inode);
	if (code == 0)
		return journal_add(w, &e, err);
	errno = -code;
	return error_set(
		err, code, "cannot look at %s/%s/%s: %m", d->place.state_path, d->tree, name);
}

static int list_entries(struct destination *d, struct journal_writer *w, struct error *err)
{
	_closedir_ DIR *dir = listing_open(d->tree_fd, ".");
	const char *name;
	int code = 0;

	while (dir != NULL && code == 0 && (name = listing_next(dir)) != NULL)
		code = list_entry(d, name, w, err);
	if (dir == NULL || (code == 0 && errno != 0))
		return error_set(
			err, -errno, "cannot list %s/%s: %m", d->place.state_path, d->tree);
	return code;
}

static int write_journal(struct destination *d, const struct record *record,
	const struct meta *root, struct error *err)
{
	bool merge = d->kind == DEST_OTHER;
	const struct journal_head head = {.dir_fd = d->place.state_fd,
		.path = d->place.state_path,
		.kind = merge ? PUBLISH_MERGE : PUBLISH_WHOLE,
		.tree = d->tree,
		.record = record};
	struct journal_writer w;
	mode_t mode = 0;
	int code = merge ? 0 : dress_root(d, root, &mode, err);

	if (code < 0)
		return code;
	code = journal_begin(&w, &head, err);
	if (code == 0)
		code = merge ? list_entries(d, &w, err) : list_root(d, mode, &w, err);
	/* One rename needs no promise about the disk; many do, or a crash of the machine would
	 * leave some of them unaccounted for. */
	if (code == 0)
		code = journal_commit(&w, merge, err);
	if (code < 0)
		journal_abandon(&w);
	return code;
}

int destination_publish(struct destination *d, const struct record *record, const struct meta *root,
	struct error *err)
{
	int code;

	/* From the journal on, the next run would complete it. */
	if (cancel_requested(d->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled before publishing %s", d->place.path);
	code = write_journal(d, record, root, err);
	if (code == 0) {
		leftovers_forget(d); /* it is the journal that speaks of the tree now */
		code = moves_carry_out(d, err);
	}
	/* What was replaced lies in the state directory now. */
	d->keeps_replaced = code == 0 && d->opts.keep_replaced;
	if (code == 0)
		begin_undo(d, false);
	return code;
}
