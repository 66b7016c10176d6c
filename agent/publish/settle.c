/* SPDX-License-Identifier: MIT */
/* Settling where a destination's state lives, and that it can be staged into at all, before a byte
 * is fetched. Worker threads. Next to DEST is tried first, then inside, then only reading. */
#include "defer.h"
#include "destination.h"
#include "lock.h"
#include "resolve.h"
#include <errno.h>
#include <sys/stat.h>

#define MAX_TRIES 100

void settle_leave(struct destination *d)
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
		code = lock_take(&d->place, &d->opts, &d->lock_fd, err);
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
		settle_leave(d);
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
	struct inode state;

	if (place_open_existing(&d->place, false, false) < 0)
		return false;
	if (place_is_ours(&d->place) || !holds_whole(d) ||
		inode_look(d->place.state_fd, "", &state) < 0) {
		place_close_state(&d->place);
		return false;
	}
	error_set(&d->refusal, -EACCES,
		"%s was staged by another user (uid %u), who alone can replace it; remove it or "
		"stage elsewhere",
		d->place.path, (unsigned)state.uid);
	return true;
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

int settle(struct destination *d, struct error *err)
{
	const struct place *p = &d->place;
	struct inode dest;
	bool exists = inode_look(p->parent_fd, p->name, &dest) == 0;
	int code;

	if (exists && inode_is_mount_root(p->parent_fd, p->name))
		return settle_inside(d, -EXDEV, err);
	if (exists && is_staged_by_another(d))
		return 0;
	code = try_place(d, false, err);
	if (code == 0 || !resolve_is_refusal(-code))
		return code;
	return exists ? settle_inside(d, code, err) : refuse(d, code, err);
}
