/* SPDX-License-Identifier: MIT */
#include "items.h"
#include "defer.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

void items_done(struct items *all)
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
	item->disk += ITEM_OVERHEAD;
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

DIR *items_directory(const struct cache *c)
{
	_close_ int fd = openat(c->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir != NULL)
		take_fd(&fd);
	return dir;
}

int items_list(const struct cache *c, struct items *all, struct error *err)
{
	_closedir_ DIR *dir = items_directory(c);
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
	int code = items_list(c, &all, err);

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
