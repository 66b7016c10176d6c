/* SPDX-License-Identifier: MIT */
/* Opening and closing a destination. Worker threads. Whether anything can be staged there is
 * settled here, before a byte is fetched; begin.c and publish.c do the staging. */
#include "destination.h"
#include "defer.h"
#include "lock.h"
#include "log.h"
#include "resolve.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_TRIES 100

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
	int fd = openat(
		d->place.parent_fd, d->place.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (dir == NULL)
		return false;
	while ((entry = readdir(dir)) != NULL)
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return false;
	return true;
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

int dest_look(const struct destination *d, enum dest_kind *ret, struct error *err)
{
	struct inode dest;
	struct record *whole;
	int code = inode_look(d->place.parent_fd, d->place.name, &dest);

	if (code < 0 && code != -ENOENT) {
		errno = -code;
		return error_set(err, code, "cannot look at %s: %m", d->place.path);
	}
	if (code == 0 && !S_ISDIR(dest.mode))
		return error_set(err, -ENOTDIR,
			"cannot stage into %s: it is not a directory; remove it or stage elsewhere",
			d->place.path);
	whole = code == 0 ? holdings_whole(d) : NULL;
	if (code < 0)
		*ret = DEST_ABSENT;
	else if (whole != NULL)
		*ret = DEST_OURS;
	else if (!d->place.inside && is_empty(d) && may_be_replaced(d, &dest))
		*ret = DEST_EMPTY;
	else
		*ret = DEST_OTHER;
	record_free(whole);
	return 0;
}

static void leave_place(struct destination *d)
{
	if (d->lock_fd >= 0) {
		leftovers_tidy(d);
		close(d->lock_fd);
	}
	d->lock_fd = -1;
	place_close_state(&d->place);
}

/* A state directory that holds no record is removed by whoever used it: it may go while we wait. */
static int enter_place(struct destination *d, bool inside, struct error *err)
{
	int code = -ENOENT;

	for (int i = 0; i < MAX_TRIES && code == -ENOENT; i++) {
		code = place_open_state(&d->place, inside, err);
		if (code < 0)
			continue;
		code = lock_take(&d->place, d->opts.cancel, &d->lock_fd, err);
		if (code < 0)
			place_close_state(&d->place);
	}
	return code;
}

static int prove(const struct destination *d, struct error *err)
{
	_close_ int dest_fd = -1;
	enum dest_kind kind;
	int code = dest_look(d, &kind, err);

	if (code == 0 && kind == DEST_OTHER)
		code = dest_open(d, &dest_fd, err);
	if (code < 0)
		return code;
	code = place_probe(&d->place, dest_fd >= 0 ? dest_fd : d->place.parent_fd);
	if (code == 0)
		return 0;
	if (resolve_is_refusal(-code))
		return error_set(
			err, code, "cannot rename a directory out of %s", d->place.state_path);
	return disk_error(
		err, -code, d->place.state_fd, "rename a directory out of", d->place.state_path);
}

static int try_place(struct destination *d, bool inside, struct error *err)
{
	int code = enter_place(d, inside, err);

	if (code == 0)
		code = prove(d, err);
	if (code < 0)
		leave_place(d);
	return code;
}

static bool holds_whole(const struct destination *d)
{
	struct record *record = holdings_whole(d);

	record_free(record);
	return record != NULL;
}

/* Nobody may write here, but it may already hold what is wanted: a volume that was filled before
 * and is mounted read-only now. */
static bool try_reading(
	struct destination *d, bool inside, bool (*enough)(const struct destination *))
{
	for (int own = 0; own < 2; own++) {
		if (place_open_existing(&d->place, inside, own) < 0)
			continue;
		if (enough(d))
			return true;
		place_close_state(&d->place);
	}
	return false;
}

/* What another user, often root, has staged is as warm as what this one has. */
static bool is_staged_by_another(struct destination *d)
{
	if (place_open_existing(&d->place, false, false) < 0)
		return false;
	if (!place_is_ours(&d->place) && holds_whole(d))
		return true;
	place_close_state(&d->place);
	return false;
}

static int refuse(const struct destination *d, int code, struct error *err)
{
	const struct place *p = &d->place;
	struct inode dest;
	char why[64];

	resolve_why(-code, why);
	if (inode_look(p->parent_fd, p->name, &dest) == 0)
		return error_set(err, code,
			"cannot stage into %s: it is %s; mount a writable volume there or stage "
			"elsewhere",
			p->path, why);
	return error_set(err, code,
		"cannot make %s: %s is %s; mount a volume at %s or stage elsewhere", p->path,
		p->parent, why, p->path);
}

/* DEST exists. */
static int settle_inside(struct destination *d, int code, struct error *err)
{
	bool readable = try_reading(d, false, holds_whole);

	if (!readable) {
		code = try_place(d, true, err);
		if (code == 0 || !resolve_is_refusal(-code))
			return code;
		readable =
			try_reading(d, false, holdings_any) || try_reading(d, true, holdings_any);
	}
	if (!readable)
		return refuse(d, code, err);
	(void)refuse(d, code, &d->refusal);
	return 0;
}

static int settle(struct destination *d, struct error *err)
{
	const struct place *p = &d->place;
	struct inode dest;
	bool exists = inode_look(p->parent_fd, p->name, &dest) == 0;
	int code;

	if (exists && inode_is_mount_root(p->parent_fd, p->name))
		return settle_inside(d, -EXDEV, err);
	if (exists && is_staged_by_another(d)) {
		error_set(&d->refusal, -EACCES,
			"%s was staged by another user (uid %u), who alone can replace it; stage "
			"elsewhere",
			p->path, (unsigned)dest.uid);
		return 0;
	}
	code = try_place(d, false, err);
	if (code == 0 || !resolve_is_refusal(-code))
		return code;
	return exists ? settle_inside(d, code, err) : refuse(d, code, err);
}

static int clear_up(struct destination *d, struct error *err)
{
	if (d->lock_fd < 0)
		return 0;
	moves_resume(d);
	if (cancel_requested(d->opts.cancel))
		return error_set(err, -ECANCELED, "cancelled");
	return leftovers_remove(d, d->opts.cancel, err);
}

int destination_open(const char *dir, const struct destination_options *opts,
	struct destination **ret, struct error *err)
{
	struct destination *d = zalloc(sizeof(*d));
	int code;

	*d = (struct destination){.opts = *opts, .lock_fd = -1, .dest_fd = -1, .tree_fd = -1};
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
	d->held = holdings_find(d, key);
	return d->held;
}

void destination_close(struct destination *d, bool leave_tree)
{
	if (d == NULL)
		return;
	begin_undo(d, leave_tree);
	leave_place(d);
	place_done(&d->place);
	record_free(d->held);
	free(d);
}
