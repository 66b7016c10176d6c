/* SPDX-License-Identifier: MIT */
/* Making room: what was not used for longest goes first, what is in use never. Any thread. Who makes room has
 * v1/room alone, so that two do not count on the same room; it is held while entries are removed, and
 * dropped by the kernel when its holder dies. */
#include "cache_private.h"
#include "defer.h"
#include "log.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#define ROOM_NAME "room"

/* What an entry takes besides its tree and inventory: directories, locks, its record. */
#define OVERHEAD ((uint64_t)32 << 10)

struct item {
	char key[CACHE_KEY_LEN + 1];
	char *what;
	uint64_t disk, bytes, entries;
	struct timespec made, used;
	bool complete;
	int fd; /* of KEY/use, taken alone; -1 */
};

struct items {
	struct item *v;
	size_t n;
};

static void items_done(struct items *all)
{
	for (size_t i = 0; i < all->n; i++) {
		free(all->v[i].what);
		if (all->v[i].fd >= 0)
			close(all->v[i].fd);
	}
	free(all->v);
}

static void look_at(int key_fd, struct item *item)
{
	struct inventory_head head;
	struct filling_state filling;
	struct stat st;

	if (fstatat(key_fd, USE_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0)
		item->used = st.st_mtim;
	item->complete = faccessat(key_fd, TREE_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
			 inventory_head_read(key_fd, &head) == 0;
	if (item->complete) {
		item->disk = head.disk;
		item->bytes = head.bytes;
		item->entries = head.entries;
		item->made.tv_sec = head.made;
		item->what = copy_text(head.what);
	} else if (filling_read(key_fd, &filling)) {
		item->disk = filling.reserved;
		item->bytes = filling.expanded;
		item->entries = filling.entries;
	}
	item->disk += OVERHEAD;
}

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct item *)a)->used;
	const struct timespec *y = &((const struct item *)b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

static void add_item(const struct cache *c, const char *name, struct items *all)
{
	_close_ int key_fd = openat(c->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct item *item;

	if (key_fd < 0)
		return;
	all->v = realloc(all->v, (all->n + 1) * sizeof(*all->v));
	if (all->v == NULL)
		abort();
	item = &all->v[all->n++];
	*item = (struct item){.fd = -1};
	snprintf(item->key, sizeof(item->key), "%.*s", CACHE_KEY_LEN, name);
	look_at(key_fd, item);
}

static DIR *open_all(const struct cache *c)
{
	_close_ int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir != NULL)
		take_fd(&fd);
	return dir;
}

static int list_items(const struct cache *c, struct items *all, struct error *err)
{
	_closedir_ DIR *dir = open_all(c);
	const struct dirent *d;

	*all = (struct items){0};
	if (dir == NULL)
		return error_set(err, -errno, "cannot list %s: %m", c->dir);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	while ((d = readdir(dir)) != NULL)
		if (use_is_key(d->d_name))
			add_item(c, d->d_name, all);
	if (all->n > 0)
		qsort(all->v, all->n, sizeof(*all->v), by_use);
	return 0;
}

/* What somebody had begun to remove. */
static void remove_gone(const struct cache *c)
{
	_closedir_ DIR *dir = open_all(c);
	const struct dirent *d;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	while (dir != NULL && (d = readdir(dir)) != NULL)
		if (strncmp(d->d_name, GONE_PREFIX, strlen(GONE_PREFIX)) == 0)
			(void)remove_tree(c->fd, d->d_name, NULL, NULL);
}

int evict_alone(const struct cache *c, const char *key, int use_fd, struct error *err)
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
	return remove_tree(c->fd, gone, NULL, err);
}

static int lock_room(const struct cache *c, int *ret_fd, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 10000000L};
	_close_ int fd = openat(c->fd, ROOM_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return disk_error(err, errno, c->fd, "make", ROOM_NAME);
	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return error_set(
				err, -errno, "cannot lock %s/v1/" ROOM_NAME ": %m", c->dir);
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

static void evict_chosen(
	const struct cache *c, struct items *all, uint64_t *ret_n, uint64_t *ret_bytes)
{
	struct error why;
	char size[32];

	for (size_t i = 0; i < all->n; i++) {
		struct item *item = &all->v[i];

		if (item->fd < 0)
			continue;
		if (evict_alone(c, item->key, take_fd(&item->fd), &why) < 0) {
			log_warn("cannot evict from the node cache: %s", why.msg);
			continue;
		}
		++*ret_n;
		*ret_bytes += item->disk;
		log_debug("evicted %s (%s) from the node cache",
			item->what != NULL ? item->what : item->key, print_size(item->disk, size));
	}
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

int evict_for(struct cache *c, const char *key, uint64_t bytes,
	int (*set)(void *ctx, uint64_t bytes), void *ctx, struct error *err)
{
	_close_ int room_fd = -1;
	struct items all = {0};
	uint64_t have, own, n = 0, gone = 0, lacking;
	int code = lock_room(c, &room_fd, err);

	if (code < 0)
		return code;
	if (c->max_size > 0 && bytes + OVERHEAD > c->max_size)
		return error_set(
			err, -ERR_SPACE, "the node cache may not become as large (cache.max_size)");
	remove_gone(c);
	code = list_items(c, &all, err);
	have = sum(&all, key, &own);
	lacking = excess(c, have, bytes + OVERHEAD, bytes > own ? bytes - own : 0);
	if (code == 0)
		code = choose(c, &all, key, lacking, err);
	if (code == 0) {
		evict_chosen(c, &all, &n, &gone);
		code = set(ctx, bytes) < 0
			       ? error_set(err, -EIO, "cannot write in %s/v1/%s", c->dir, key)
			       : 0;
	}
	items_done(&all);
	return code;
}

static bool is_in_use(const struct cache *c, const char *key)
{
	_close_ int fd = use_take_alone(c, key);

	return fd == -EBUSY;
}

int cache_each(const struct cache *c,
	int (*each)(void *ctx, const struct cache_info *info, struct error *err), void *ctx,
	struct error *err)
{
	struct items all;
	int code = list_items(c, &all, err);

	for (size_t i = 0; i < all.n && code == 0; i++) {
		const struct item *item = &all.v[i];
		const struct cache_info info = {.key = item->key,
			.what = item->what != NULL ? item->what : "",
			.disk = item->disk,
			.bytes = item->bytes,
			.entries = item->entries,
			.made = item->made.tv_sec,
			.used = item->used.tv_sec,
			.complete = item->complete,
			.in_use = is_in_use(c, item->key)};

		code = each(ctx, &info, err);
	}
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
	return evict_alone(c, key, fd, err);
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
	code = lock_room(c, &room_fd, err);
	if (code < 0)
		return code;
	remove_gone(c);
	code = list_items(c, &all, err);
	have = sum(&all, NULL, &own);
	if (code == 0) {
		uint64_t over = excess(c, 0, 0, 0);

		if (have > keep && have - keep > over)
			over = have - keep;
		(void)choose(c, &all, NULL, over, NULL); /* as many as can go */
		evict_chosen(c, &all, ret_removed, ret_bytes);
	}
	items_done(&all);
	return code;
}
