/* SPDX-License-Identifier: MIT */
/* Making room: what was not used for longest goes first, what is in use never. Any thread. Who makes room has
 * v1/room alone, so that two do not count on the same room; it is held while entries are removed, and
 * dropped by the kernel when its holder dies. */
#include "defer.h"
#include "items.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/statvfs.h>
#include <time.h>

#define ROOM_NAME "room"

/* What somebody had begun to remove. */
static void remove_gone(const struct cache *c, struct cancel *cancel)
{
	_closedir_ DIR *dir = items_directory(c);
	const struct dirent *d;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	while (dir != NULL && (d = readdir(dir)) != NULL)
		if (strncmp(d->d_name, GONE_PREFIX, strlen(GONE_PREFIX)) == 0)
			(void)remove_tree(c->fd, d->d_name, cancel, NULL);
}

int evict_alone(const struct cache *c, const char *key, int use_fd, struct cancel *cancel,
	struct error *err)
{
	_close_ int fd = use_fd;
	unsigned long long number = 0;
	char gone[64];

	(void)!getrandom(&number, sizeof(number), GRND_NONBLOCK);
	snprintf(gone, sizeof(gone), GONE_PREFIX "%ld.%016llx", (long)getpid(), number);
	if (renameat(c->fd, key, c->fd, gone) != 0)
		return error_set(err, -errno, "cannot rename %s/v1/%s: %m", c->dir, key);
	/* Who waits for the lock looks for the entry again, and makes it anew. */
	close(take_fd(&fd));
	return remove_tree(c->fd, gone, cancel, err);
}

static int lock_room(const struct cache *c, struct cancel *cancel, int *ret_fd, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 10000000L};
	_close_ int fd = openat(c->fd, ROOM_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return disk_error(err, errno, c->fd, "make", ROOM_NAME);
	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_set(
				err, -errno, "cannot lock %s/v1/" ROOM_NAME ": %m", c->dir);
		if (cancel_requested(cancel))
			return error_set(err, -ECANCELED, "cancelled");
		nanosleep(&pause, NULL);
	}
	*ret_fd = take_fd(&fd);
	return 0;
}

static uint64_t free_bytes(const struct cache *c)
{
	struct statvfs fs;

	return fstatvfs(c->fd, &fs) == 0 ? (uint64_t)fs.f_bavail * fs.f_frsize : UINT64_MAX;
}

/* How many bytes must go so that `more` fit. */
static uint64_t excess(const struct cache *c, uint64_t have, uint64_t more, uint64_t to_come)
{
	uint64_t there = free_bytes(c), over_size = 0, over_free = 0;

	if (c->max_size > 0 && have + more > c->max_size)
		over_size = have + more - c->max_size;
	if (there != UINT64_MAX && there < to_come + c->min_free)
		over_free = to_come + c->min_free - there;
	return over_size > over_free ? over_size : over_free;
}

static int no_room(const struct cache *c, uint64_t lacking, struct error *err)
{
	char size[32];

	return error_set(err, -ERR_SPACE,
		"the node cache %s has no room: %s more would have to go, and what is left is in "
		"use",
		c->dir, print_size(lacking, size));
}

/* Takes the oldest alone until they are excess bytes. What cannot be taken is in use. */
static int choose(const struct cache *c, struct items *all, const char *but, uint64_t excess_bytes,
	struct error *err)
{
	uint64_t chosen = 0;

	for (size_t i = 0; i < all->n && chosen < excess_bytes; i++) {
		struct item *item = &all->v[i];

		if (but != NULL && strcmp(item->key, but) == 0)
			continue;
		item->fd = use_take_alone(c, item->key);
		if (item->fd >= 0)
			chosen += item->disk;
		else
			item->fd = -1;
	}
	return chosen < excess_bytes ? no_room(c, excess_bytes - chosen, err) : 0;
}

/* One that cannot be removed is left. -ECANCELED: so are the rest. */
static int evict_chosen(const struct cache *c, struct items *all, struct cancel *cancel,
	uint64_t *ret_n, uint64_t *ret_bytes)
{
	for (size_t i = 0; i < all->n && !cancel_requested(cancel); i++) {
		struct item *item = &all->v[i];
		struct error why;
		char size[32];
		int code;

		if (item->fd < 0)
			continue;
		code = evict_alone(c, item->key, take_fd(&item->fd), cancel, &why);
		if (code < 0 && code != -ECANCELED)
			log_warn("cannot evict from the node cache: %s", why.msg);
		if (code < 0)
			continue;
		++*ret_n;
		*ret_bytes += item->disk;
		log_debug("evicted %s (%s) from the node cache",
			item->what != NULL ? item->what : item->key, print_size(item->disk, size));
	}
	return cancel_requested(cancel) ? -ECANCELED : 0;
}

static uint64_t sum(const struct items *all, const char *but, uint64_t *ret_own)
{
	uint64_t have = 0;

	*ret_own = 0;
	for (size_t i = 0; i < all->n; i++)
		if (but != NULL && strcmp(all->v[i].key, but) == 0)
			*ret_own = all->v[i].bytes;
		else
			have += all->v[i].disk;
	return have;
}

static int set_aside(const struct room *room, uint64_t bytes, struct error *err)
{
	if (room->set(room->ctx, bytes) < 0)
		return error_set(
			err, -EIO, "cannot write in %s/v1/%s", room->cache->dir, room->key);
	return 0;
}

/* Alone. */
static int make_room(const struct room *room, uint64_t bytes, struct items *all, struct error *err)
{
	const struct cache *c = room->cache;
	uint64_t own, have = sum(all, room->key, &own), n = 0, gone = 0;
	uint64_t lacking = excess(c, have, bytes + ITEM_OVERHEAD, bytes > own ? bytes - own : 0);
	int code = choose(c, all, room->key, lacking, err);

	if (code == 0 && evict_chosen(c, all, room->cancel, &n, &gone) < 0)
		code = error_set(err, -ECANCELED, "cancelled");
	return code < 0 ? code : set_aside(room, bytes, err);
}

int evict_for(const struct room *room, uint64_t bytes, struct error *err)
{
	const struct cache *c = room->cache;
	_close_ int room_fd = -1;
	struct items all = {0};
	int code;

	if (cancel_requested(room->cancel))
		return error_set(err, -ECANCELED, "cancelled");
	if (c->max_size > 0 && bytes + ITEM_OVERHEAD > c->max_size)
		return error_set(
			err, -ERR_SPACE, "the node cache may not become as large (cache.max_size)");
	code = lock_room(c, room->cancel, &room_fd, err);
	if (code < 0)
		return code;
	remove_gone(c, room->cancel);
	code = items_list(c, &all, err);
	if (code == 0)
		code = make_room(room, bytes, &all, err);
	items_done(&all);
	return code;
}

static int evict_one(struct cache *c, const char *key, uint64_t *ret_n, struct error *err)
{
	int fd = use_take_alone(c, key);

	if (fd == -EBUSY)
		return error_set(err, fd, "%s is in use", key);
	if (fd < 0)
		return error_set(err, fd, "the node cache has no entry %s", key);
	*ret_n = 1;
	return evict_alone(c, key, fd, NULL, err);
}

int cache_evict(struct cache *c, uint64_t keep, const char *key, uint64_t *ret_removed,
	uint64_t *ret_bytes, struct error *err)
{
	_close_ int room_fd = -1;
	struct items all = {0};
	uint64_t have, own;
	int code;

	*ret_removed = *ret_bytes = 0;
	if (key != NULL)
		return evict_one(c, key, ret_removed, err);
	code = lock_room(c, NULL, &room_fd, err);
	if (code < 0)
		return code;
	remove_gone(c, NULL);
	code = items_list(c, &all, err);
	have = sum(&all, NULL, &own);
	if (code == 0) {
		uint64_t over = excess(c, 0, 0, 0);

		if (have > keep && have - keep > over)
			over = have - keep;
		(void)choose(c, &all, NULL, over, NULL); /* as many as can go */
		(void)evict_chosen(c, &all, NULL, ret_removed, ret_bytes);
	}
	items_done(&all);
	return code;
}
