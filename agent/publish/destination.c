/* SPDX-License-Identifier: MIT */
/* Opening and closing a destination. Worker threads. Whether anything can be staged there is
 * settled here, before a byte is fetched; begin.c and publish.c do the staging. */
#include "destination.h"
#include "defer.h"
#include "listing.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

const char *destination_path(const struct destination *d)
{
	return d->place.path;
}

int dest_open(const struct destination *d, int *ret_fd, struct error *err)
{
	int fd = openat(
		d->place.parent_fd, d->place.name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return error_set(err, -errno, "cannot open %s: %m", d->place.path);
	*ret_fd = fd;
	return 0;
}

static bool is_empty(const struct destination *d)
{
	_closedir_ DIR *dir = listing_open(d->place.parent_fd, d->place.name);

	return dir != NULL && listing_next(dir) == NULL && errno == 0;
}

/* An empty directory is replaced by a rename, but not when that would leave somebody (a shell, the
 * user's command) in a directory that is no more, or when a sticky parent forbids it. */
static bool may_be_replaced(const struct destination *d, const struct inode *dest)
{
	struct inode cwd, parent;
	uid_t me = geteuid();

	if (inode_look(AT_FDCWD, ".", &cwd) == 0 && inode_same(&cwd, dest))
		return false;
	if (inode_look(d->place.parent_fd, "", &parent) < 0)
		return false;
	return (parent.mode & S_ISVTX) == 0 || me == 0 || me == parent.uid || me == dest->uid;
}

static bool is_link(const struct destination *d)
{
	_free_ char *link = link_look(d->place.parent_fd, d->place.name);

	return link != NULL;
}

int dest_look(const struct destination *d, enum dest_kind *ret, struct error *err)
{
	struct inode dest = {0};
	struct record *whole;
	int code = inode_look(d->place.parent_fd, d->place.name, &dest);

	if (code < 0 && code != -ENOENT) {
		errno = -code;
		return error_set(err, code, "cannot look at %s: %m", d->place.path);
	}
	if (code == 0 && !S_ISDIR(dest.mode) && !is_link(d))
		return error_set(err, -ENOTDIR,
			"cannot stage into %s: it is not a directory; remove it or stage elsewhere",
			d->place.path);
	whole = code == 0 ? holdings_whole(d) : NULL;
	if (code < 0)
		*ret = DEST_ABSENT;
	else if (whole != NULL)
		*ret = DEST_OURS;
	else if (S_ISLNK(dest.mode))
		*ret = DEST_LINK;
	else if (!d->place.inside && is_empty(d) && may_be_replaced(d, &dest))
		*ret = DEST_EMPTY;
	else
		*ret = DEST_OTHER;
	record_free(whole);
	return 0;
}

static int clear_up(struct destination *d, struct error *err)
{
	struct journal *unfinished;
	int code;

	if (d->lock_fd < 0)
		return 0;
	moves_resume(d);
	if (cancel_requested(d->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	unfinished = unfinished_open(d);
	code = leftovers_remove(d, unfinished, d->opts.cancel, err);
	journal_close(unfinished);
	return code;
}

int destination_open(const char *dir, const struct destination_options *opts,
	struct destination **ret, struct error *err)
{
	struct destination *d = zalloc(sizeof(*d));
	int code;

	*d = (struct destination){.opts = *opts, .lock_fd = -1, .dest_fd = -1, .tree_fd = -1};
	d->doubts = zalloc(2 * sizeof(*d->doubts));
	d->doubts[PUBLISH_WHOLE] = d->doubts[PUBLISH_MERGE] = RECORD_UNKNOWN;
	place_init(&d->place);
	code = place_resolve(&d->place, dir, err);
	if (code == 0)
		code = settle(d, err);
	if (code == 0)
		code = clear_up(d, err);
	if (code < 0) {
		destination_close(d, cancel_requested(opts->cancel));
		return code;
	}
	*ret = d;
	return 0;
}

const struct record *destination_holds(struct destination *d, const char *key)
{
	record_free(d->held);
	d->held = holdings_sound(d, key);
	return d->held;
}

void destination_close(struct destination *d, bool leave_tree)
{
	if (d == NULL)
		return;
	begin_undo(d, leave_tree);
	settle_leave(d);
	place_done(&d->place);
	record_free(d->held);
	free(d->link);
	free(d->doubts);
	free(d);
}

struct record *destination_peek(const char *dir)
{
	struct destination d = {.lock_fd = -1, .dest_fd = -1, .tree_fd = -1};
	struct record *record = NULL;

	place_init(&d.place);
	if (place_resolve(&d.place, dir, NULL) == 0 &&
		place_open_existing(&d.place, false, false) == 0)
		record = holdings_whole(&d);
	place_done(&d.place);
	return record;
}
