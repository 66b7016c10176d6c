/* SPDX-License-Identifier: MIT */
/* Lists the entries of a cache, and evicts them: those that the user names, or the least recently
 * used ones, to make room. Any thread. */
#include "cache_private.h"
#include "defer.h"
#include "disk.h"
#include "log.h"
#include "random.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

static void item_done(struct cache_item *item)
{
	cache_use_unlock(&item->use);
	free(take_ptr(&item->what));
	free(take_ptr(&item->unreadable));
}

static void items_done(struct items *all)
{
	for (size_t i = 0; i < all->n; i++)
		item_done(&all->v[i]);
	free(all->v);
	*all = (struct items){0};
}

/* The size of the file system: no entry can take more, whatever its files say. */
static uint64_t file_system_size(int fd)
{
	struct disk_space space;

	return disk_space(fd, &space) ? space.total : INT64_MAX;
}

/* Takes the numbers of an entry that has a tree from its inventory; without a complete inventory
 * the entry is damaged. */
static int read_inventory(int key_fd, struct cache_item *item)
{
	struct inventory_head head;
	int code = inventory_head_read(key_fd, &head);

	if (code == -ENOENT || code == -ESTALE) {
		item->damaged = true;
		return 0;
	}
	if (code < 0)
		return code;
	item->complete = true;
	item->disk = head.disk;
	item->bytes = head.bytes;
	item->entries = head.entries;
	item->made.tv_sec = head.made;
	item->what = text_copy(head.what);
	return 0;
}

static int read_filling(int key_fd, struct cache_item *item)
{
	struct filling_state filling;
	int code = fill_read(key_fd, &filling);

	if (code < 0)
		return code == -ENOENT ? 0 : code;
	item->disk = filling.reserved;
	item->bytes = filling.expanded;
	item->entries = filling.entries;
	return 0;
}

static int read_entry(int key_fd, struct cache_item *item)
{
	struct stat st;
	uint64_t most;
	int code;

	if (fstatat(key_fd, USE_NAME, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno; /* -ENOENT: it is not an entry */
	item->used = st.st_mtim;
	if (faccessat(key_fd, CACHE_TREE_NAME, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		code = read_inventory(key_fd, item);
	else
		code = errno == ENOENT ? read_filling(key_fd, item) : -errno;
	most = file_system_size(key_fd);
	item->disk = (item->disk < most ? item->disk : most) + ITEM_OVERHEAD;
	return code == -ENOENT ? -EIO : code;
}

/* Reads one entry. -ENOENT: key is not an entry. The caller calls item_done() afterwards, also on
 * failure. */
static int item_read(const struct cache *c, const char *key, struct cache_item *ret)
{
	_close_ int key_fd = openat(c->fd, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int code = key_fd < 0 ? -errno : 0;

	*ret = (struct cache_item){.use = {-1, -1}};
	snprintf(ret->key, sizeof(ret->key), "%.*s", CACHE_KEY_LEN, key);
	if (code == -ENOTDIR || code == -ELOOP)
		return -ENOENT;
	if (code == 0)
		code = read_entry(key_fd, ret);
	if (code < 0 && code != -ENOENT)
		ret->unreadable = text_format("cannot look at %s/v1/%s: %s", c->dir, key,
			code == -EPERM ? "a file in it is not this user's"
				       : strerrordesc_np(-code));
	return code;
}

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct cache_item *)a)->used;
	const struct timespec *y = &((const struct cache_item *)b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

struct cache_listing {
	const struct cache *cache;
	struct items *all;
};

static void add_item(void *ctx, const char *name)
{
	struct cache_listing *l = ctx;
	struct items *all = l->all;
	struct cache_item item;

	if (!cache_is_key(name))
		return;
	if (item_read(l->cache, name, &item) == -ENOENT) {
		item_done(&item);
		return;
	}
	all->v = realloc(all->v, (all->n + 1) * sizeof(*all->v));
	if (all->v == NULL)
		abort();
	all->v[all->n++] = item;
}

static DIR *open_listing(const struct cache *c)
{
	_close_ int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir != NULL)
		take_fd(&fd);
	return dir;
}

/* Calls each with all names in v1/. Fails if the directory cannot be read to its end, even if each
 * was called. */
static int items_names(const struct cache *c, void (*each)(void *ctx, const char *name), void *ctx,
	struct error *err)
{
	_closedir_ DIR *dir = c->fd < 0 ? NULL : open_listing(c);
	const struct dirent *d;

	if (c->fd < 0)
		return 0;
	if (dir == NULL)
		return error_set(err, -errno, "cannot list %s/v1: %m", c->dir);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	for (errno = 0; (d = readdir(dir)) != NULL; errno = 0)
		each(ctx, d->d_name);
	return errno == 0 ? 0 : error_set(err, -errno, "cannot list %s/v1: %m", c->dir);
}

/* The caller calls items_done() afterwards, also on failure. */
static int items_list(const struct cache *c, struct items *all, struct error *err)
{
	struct cache_listing l = {.cache = c, .all = all};
	int code;

	*all = (struct items){0};
	code = items_names(c, add_item, &l, err);
	if (code == 0 && all->n > 0)
		qsort(all->v, all->n, sizeof(*all->v), by_use);
	return code;
}

static bool is_in_use(const struct cache *c, const char *key)
{
	struct use_lock use = {-1, -1};
	int code = cache_use_lock_exclusive(c, key, &use, NULL);

	cache_use_unlock(&use);
	return code == -EBUSY;
}

int cache_each(const struct cache *c,
	int (*each)(void *ctx, const struct cache_info *info, struct error *err), void *ctx,
	struct error *err)
{
	struct items all;
	int code = items_list(c, &all, err);

	for (size_t i = 0; i < all.n && code == 0; i++) {
		const struct cache_item *item = &all.v[i];
		const struct cache_info info = {.key = item->key,
			.what = item->what != NULL ? item->what : "",
			.disk = item->disk,
			.bytes = item->bytes,
			.entries = item->entries,
			.made = item->made.tv_sec,
			.used = item->used.tv_sec,
			.complete = item->complete,
			.damaged = item->damaged,
			.unreadable = item->unreadable,
			.in_use = is_in_use(c, item->key)};

		code = each(ctx, &info, err);
	}
	items_done(&all);
	return code;
}

/* Making room: the least recently used entries are evicted first, those in use never. An agent that
 * makes room holds an exclusive lock of v1/room, so that two agents do not count on the same room;
 * the lock is held while entries are removed, and the kernel releases it when its holder dies. */

#define ROOM_NAME "room"

static const char *const own_names[] = {USE_NAME, CACHE_TREE_NAME, FILLING_NAME, INVENTORY_NAME,
	INVENTORY_NEW, "digests", "digests.new"};

/* ".nfs*": NFS renames a file to this when it is removed while it is open. */
static bool is_own_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(own_names); i++)
		if (strcmp(name, own_names[i]) == 0)
			return true;
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	       strncmp(name, STATE_NAME, strlen(STATE_NAME)) == 0 || strncmp(name, ".nfs", 4) == 0;
}

/* Refuses an entry that contains a file that the agent did not create. */
static int check_layout(const struct cache *c, const char *key, int key_fd, struct error *err)
{
	_close_ int fd = openat(key_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d;

	if (dir == NULL)
		return error_set(err, -errno, "cannot list %s/v1/%s: %m", c->dir, key);
	take_fd(&fd);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	for (errno = 0; (d = readdir(dir)) != NULL; errno = 0)
		if (!is_own_name(d->d_name))
			return error_set(err, -EPERM,
				"%s/v1/%s holds '%.200s', which the agent did not put there: it stays",
				c->dir, key, d->d_name);
	return errno == 0 ? 0 : error_set(err, -errno, "cannot list %s/v1/%s: %m", c->dir, key);
}

static void make_gone_name(char buf[static 64])
{
	unsigned long long number = 0;

	random_fill(&number, sizeof(number));
	snprintf(buf, 64, GONE_PREFIX "%ld.%016llx", (long)getpid(), number);
}

static bool is_gone_name(const char *name)
{
	size_t prefix = strlen(GONE_PREFIX), pid, hex;

	if (strncmp(name, GONE_PREFIX, prefix) != 0)
		return false;
	name += prefix;
	pid = strspn(name, "0123456789");
	if (pid == 0 || name[pid] != '.')
		return false;
	hex = strspn(name + pid + 1, "0123456789abcdef");
	return hex == 16 && name[pid + 1 + hex] == '\0';
}

/* The only function that removes anything from v1/. The caller has verified that key_fd is an entry
 * of ours, and the directory of this name is removed only if it is the same one. After the rename
 * the entry's lock protects nothing. */
static int remove_proven(const struct cache *c, const char *name, int key_fd, int *lock_fd,
	struct cancel *cancel, struct error *err)
{
	struct stat proven, moved;
	char gone[64];

	make_gone_name(gone);
	if (fstat(key_fd, &proven) != 0 || renameat(c->fd, name, c->fd, gone) != 0)
		return error_set(err, -errno, "cannot rename %s/v1/%s: %m", c->dir, name);
	if (fstatat(c->fd, gone, &moved, AT_SYMLINK_NOFOLLOW) != 0 ||
		moved.st_ino != proven.st_ino || moved.st_dev != proven.st_dev) {
		(void)!renameat2(c->fd, gone, c->fd, name, RENAME_NOREPLACE);
		return error_set(err, -EPERM,
			"%s/v1/%s was exchanged by somebody while it was to be removed: it stays",
			c->dir, name);
	}
	/* An agent that waits for the lock looks for the entry again, and creates it again. */
	if (*lock_fd >= 0)
		close(take_fd(lock_fd));
	return remove_tree(c->fd, gone, cancel, err);
}

int evict_entry(const struct cache *c, const char *key, struct use_lock *lock,
	struct cancel *cancel, struct error *err)
{
	int code = check_layout(c, key, lock->key_fd, err);

	if (code == 0)
		code = remove_proven(c, key, lock->key_fd, &lock->fd, cancel, err);
	cache_use_unlock(lock);
	return code;
}

static void note_gone(void *ctx, const char *name)
{
	if (is_gone_name(name))
		text_strings_add(ctx, name);
}

static void remove_gone_one(const struct cache *c, const char *name, struct cancel *cancel)
{
	_close_ int fd = openat(c->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int no_lock = -1;

	if (fd >= 0 && cache_check_owner(fd, name, NULL) == 0)
		(void)remove_proven(c, name, fd, &no_lock, cancel, NULL);
}

/* Removes evicted entries whose removal was interrupted. */
static int remove_gone(const struct cache *c, struct cancel *cancel, struct error *err)
{
	struct strings names = {0};
	int code = items_names(c, note_gone, &names, err);

	for (size_t i = 0; i < names.n && code == 0; i++)
		remove_gone_one(c, names.v[i], cancel);
	text_strings_done(&names);
	return code;
}

static int lock_room(const struct cache *c, struct cancel *cancel, int *ret_fd, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 10000000L};
	_close_ int fd = inventory_open_file(c->fd, ROOM_NAME, O_RDWR | O_CREAT);

	if (fd == -EPERM)
		return error_set(
			err, -EPERM, "%s/v1/" ROOM_NAME " is not a file of this user's", c->dir);
	if (fd < 0)
		return tree_disk_error(err, -fd, c->fd, "make", ROOM_NAME);
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
	struct disk_space space;

	return disk_space(c->fd, &space) ? space.avail : UINT64_MAX;
}

static uint64_t saturating_add(uint64_t a, uint64_t b)
{
	return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/* Returns how many bytes must be evicted so that `more` fit within max_size, and `to_come`, bytes
 * still to be written, leave min_free. */
static uint64_t excess(const struct cache *c, uint64_t have, uint64_t more, uint64_t to_come)
{
	uint64_t there = free_bytes(c), over_size = 0, over_free = 0;

	if (c->max_size > 0 && saturating_add(have, more) > c->max_size)
		over_size = saturating_add(have, more) - c->max_size;
	if (there != UINT64_MAX && there < saturating_add(to_come, c->min_free))
		over_free = saturating_add(to_come, c->min_free) - there;
	return over_size > over_free ? over_size : over_free;
}

static int no_room(const struct cache *c, uint64_t lacking, struct error *err)
{
	char size[32];

	return error_set(err, -ERR_SPACE,
		"the node cache %s has no room: %s more would have to go, and what is left is in use",
		c->dir, units_print_size(lacking, size));
}

/* Locks the entry exclusively. One that cannot be read stays, and a warning is logged. */
static bool lock_item(const struct cache *c, struct cache_item *item)
{
	struct error why;
	int code;

	if (item->unreadable != NULL) {
		log_warn("%s: it stays", item->unreadable);
		return false;
	}
	code = cache_use_lock_exclusive(c, item->key, &item->use, &why);
	if (code < 0 && code != -EBUSY && code != -ENOENT)
		log_warn("%s", why.msg);
	return code == 0;
}

/* Locks the least recently used entries until they have excess_bytes. -ERR_SPACE: the others are in
 * use. */
static int lock_oldest(const struct cache *c, struct items *all, const char *except,
	uint64_t excess_bytes, struct error *err)
{
	uint64_t chosen = 0;

	for (size_t i = 0; i < all->n && chosen < excess_bytes; i++) {
		struct cache_item *item = &all->v[i];

		if (except != NULL && strcmp(item->key, except) == 0)
			continue;
		if (lock_item(c, item))
			chosen = saturating_add(chosen, item->disk);
	}
	return chosen < excess_bytes ? no_room(c, excess_bytes - chosen, err) : 0;
}

static void log_eviction(const struct cache_item *item)
{
	const struct log_field fields[] = {log_field_text("source", item->what),
		log_field_text("entry", item->key), log_field_integer("bytes", item->disk)};
	char size[32];

	log_event(log_level_of_detail(), EVENT_CACHE_EVICTED, fields, ARRAY_LEN(fields),
		"evicted %s (%s) from the node cache", item->what != NULL ? item->what : item->key,
		units_print_size(item->disk, size));
}

/* Evicts the locked entries. One that cannot be removed stays. -ECANCELED: the rest stays, too. */
static int evict_locked_items(struct cache *c, struct items *all, struct cancel *cancel,
	uint64_t *ret_n, uint64_t *ret_bytes)
{
	for (size_t i = 0; i < all->n && !cancel_requested(cancel); i++) {
		struct cache_item *item = &all->v[i];
		struct error why;
		int code;

		if (item->use.fd < 0)
			continue;
		code = evict_entry(c, item->key, &item->use, cancel, &why);
		if (code < 0 && code != -ECANCELED)
			log_warn("cannot evict from the node cache: %s", why.msg);
		if (code < 0)
			continue;
		++*ret_n;
		*ret_bytes += item->disk;
		atomic_fetch_add(&c->evicted, 1);
		log_eviction(item);
	}
	return cancel_requested(cancel) ? -ECANCELED : 0;
}

static uint64_t sum_sizes(const struct items *all, const char *except, uint64_t *ret_own)
{
	uint64_t have = 0;

	*ret_own = 0;
	for (size_t i = 0; i < all->n; i++)
		if (except != NULL && strcmp(all->v[i].key, except) == 0)
			*ret_own = all->v[i].bytes;
		else
			have = saturating_add(have, all->v[i].disk);
	return have;
}

static int reserve(const struct cache_room *room, uint64_t bytes, struct error *err)
{
	if (room->reserve(room->ctx, bytes) < 0)
		return error_set(
			err, -EIO, "cannot write in %s/v1/%s", room->cache->dir, room->key);
	return 0;
}

/* The caller holds the lock of v1/room. */
static int make_room(
	const struct cache_room *room, uint64_t bytes, struct items *all, struct error *err)
{
	struct cache *c = room->cache;
	uint64_t own, have = sum_sizes(all, room->key, &own), n = 0, gone = 0;
	uint64_t lacking = excess(
		c, have, saturating_add(bytes, ITEM_OVERHEAD), bytes > own ? bytes - own : 0);
	int code = lock_oldest(c, all, room->key, lacking, err);

	if (code == 0 && evict_locked_items(c, all, room->cancel, &n, &gone) < 0)
		code = error_set(err, -ECANCELED, "cancelled");
	return code < 0 ? code : reserve(room, bytes, err);
}

int evict_for(const struct cache_room *room, uint64_t bytes, struct error *err)
{
	const struct cache *c = room->cache;
	_close_ int room_fd = -1;
	struct items all = {0};
	int code;

	if (cancel_requested(room->cancel))
		return error_set(err, -ECANCELED, "cancelled");
	if (c->max_size > 0 && saturating_add(bytes, ITEM_OVERHEAD) > c->max_size)
		return error_set(
			err, -ERR_SPACE, "the node cache may not become as large (cache.max_size)");
	code = lock_room(c, room->cancel, &room_fd, err);
	if (code < 0)
		return code;
	code = remove_gone(c, room->cancel, err);
	if (code == 0)
		code = items_list(c, &all, err);
	if (code == 0)
		code = make_room(room, bytes, &all, err);
	items_done(&all);
	return code;
}

static int evict_one(const struct cache *c, const char *key, uint64_t *ret_n, uint64_t *ret_bytes,
	struct error *err)
{
	struct use_lock lock;
	struct cache_item item;
	int code = cache_use_lock_exclusive(c, key, &lock, err);

	if (code < 0)
		return code;
	code = item_read(c, key, &item);
	if (code < 0) {
		error_set(err, code, "%s: it stays",
			item.unreadable != NULL ? item.unreadable : "it is not there any more");
		cache_use_unlock(&lock);
	} else {
		code = evict_entry(c, key, &lock, NULL, err);
	}
	if (code == 0) {
		*ret_n = 1;
		*ret_bytes = item.disk;
	}
	item_done(&item);
	return code;
}

/* The caller holds the lock of v1/room. */
static int evict_down_to(struct cache *c, uint64_t keep, uint64_t *ret_removed, uint64_t *ret_bytes,
	struct error *err)
{
	struct items all = {0};
	uint64_t have, own, over = excess(c, 0, 0, 0);
	int code = remove_gone(c, NULL, err);

	if (code == 0)
		code = items_list(c, &all, err);
	have = sum_sizes(&all, NULL, &own);
	if (have > keep && have - keep > over)
		over = have - keep;
	if (code == 0) {
		(void)lock_oldest(c, &all, NULL, over, NULL); /* as many as are not in use */
		(void)evict_locked_items(c, &all, NULL, ret_removed, ret_bytes);
	}
	items_done(&all);
	return code;
}

int cache_evict(struct cache *c, uint64_t keep, const char *key, uint64_t *ret_removed,
	uint64_t *ret_bytes, struct error *err)
{
	_close_ int room_fd = -1;
	int code;

	*ret_removed = *ret_bytes = 0;
	if (key != NULL)
		return evict_one(c, key, ret_removed, ret_bytes, err);
	if (c->fd < 0)
		return 0;
	code = lock_room(c, NULL, &room_fd, err);
	return code < 0 ? code : evict_down_to(c, keep, ret_removed, ret_bytes, err);
}

uint64_t cache_evicted(const struct cache *c)
{
	return atomic_load(&c->evicted);
}
