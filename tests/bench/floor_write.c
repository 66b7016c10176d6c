/* SPDX-License-Identifier: MIT */
/* The floor of writing: makes the trees of tar files out of memory, with as few system calls as an
 * exact tree needs (open, write, times, close) and no check of anything. Threads take whole
 * directories, since the kernel makes the files of one directory one after another. Reading the
 * archives is not counted.
 *
 *     floor_write THREADS DIR TAR...       writes {"wall": seconds, "cpu": seconds} to stdout
 *
 * The tree of the nth archive goes into DIR/n, which must exist. */
#include "floor.h"
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct item {
	char *path; /* from DIR on: "0/linux/README" */
	const char *name;
	const void *data;
	const char *target; /* of a symbolic link, else NULL */
	size_t size, order;
	int dir_length;
	mode_t mode;
	struct timespec mtime;
};

struct tree {
	struct item *items, *dirs;
	size_t n_items, n_dirs;
	int root;
	atomic_size_t next; /* the first item of a directory that nobody has taken */
};

static struct item *append(struct item **list, size_t *n)
{
	if ((*n & (*n - 1)) == 0) {
		*list = realloc(*list, (*n == 0 ? 1 : 2 * *n) * sizeof(**list));
		if (*list == NULL)
			floor_die("out of memory");
	}
	memset(*list + *n, 0, sizeof(**list));
	return *list + (*n)++;
}

static void take_content(struct archive *a, struct item *item, const struct mapping *tar)
{
	const void *data;
	la_int64_t offset;
	size_t size;

	if (item->size == 0)
		return;
	if (archive_read_data_block(a, &data, &size, &offset) != ARCHIVE_OK || size != item->size ||
		(const char *)data < tar->data || (const char *)data + size > tar->data + tar->size)
		floor_die("the content of %s is not in one piece", item->path);
	item->data = data;
}

static void add_entry(struct tree *t, struct archive *a, struct archive_entry *e,
	const struct mapping *tar, int n)
{
	bool is_dir = archive_entry_filetype(e) == AE_IFDIR;
	struct item *item = is_dir ? append(&t->dirs, &t->n_dirs) : append(&t->items, &t->n_items);

	if (archive_entry_hardlink(e) != NULL)
		floor_die("%s is a hard link", archive_entry_pathname(e));
	if (asprintf(&item->path, "%d/%s", n, archive_entry_pathname(e)) < 0)
		floor_die("out of memory");
	if (is_dir)
		item->path[strlen(item->path) - 1] = '\0'; /* tar ends them with a slash */
	item->name = strrchr(item->path, '/') + 1;
	item->dir_length = (int)(item->name - item->path) - 1;
	item->order = t->n_items;
	item->mode = archive_entry_perm(e);
	item->mtime.tv_sec = archive_entry_mtime(e);
	item->mtime.tv_nsec = archive_entry_mtime_nsec(e);
	if (archive_entry_filetype(e) == AE_IFLNK) {
		item->target = strdup(archive_entry_symlink(e));
	} else if (!is_dir) {
		item->size = (size_t)archive_entry_size(e);
		take_content(a, item, tar);
	}
}

static void read_tar(struct tree *t, const char *path, int n)
{
	struct mapping tar = floor_map(path);
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	int code;

	archive_read_support_format_tar(a);
	if (archive_read_open_memory(a, tar.data, tar.size) != ARCHIVE_OK)
		floor_die("cannot read %s: %s", path, archive_error_string(a));
	while ((code = archive_read_next_header(a, &e)) == ARCHIVE_OK)
		add_entry(t, a, e, &tar, n);
	if (code != ARCHIVE_EOF)
		floor_die("cannot read %s: %s", path, archive_error_string(a));
	archive_read_free(a);
}

static int compare_dirs(const struct item *a, const struct item *b)
{
	int code = strncmp(a->path, b->path,
		(size_t)(a->dir_length < b->dir_length ? a->dir_length : b->dir_length));

	return code != 0 ? code : a->dir_length - b->dir_length;
}

static int by_directory(const void *left, const void *right)
{
	const struct item *a = left, *b = right;
	int code = compare_dirs(a, b);

	return code != 0 ? code : (a->order > b->order) - (a->order < b->order);
}

static void make_dirs(struct tree *t)
{
	for (size_t i = 0; i < t->n_dirs; i++) {
		if (mkdirat(t->root, t->dirs[i].path, t->dirs[i].mode | 0700) < 0 &&
			errno != EEXIST)
			floor_die("mkdir %s: %m", t->dirs[i].path);
	}
}

static void settle_dirs(struct tree *t)
{
	for (size_t i = t->n_dirs; i-- > 0;) {
		struct timespec times[2] = {t->dirs[i].mtime, t->dirs[i].mtime};

		if (utimensat(t->root, t->dirs[i].path, times, 0) < 0)
			floor_die("set the times of %s: %m", t->dirs[i].path);
	}
}

static void write_item(int dir, const struct item *item)
{
	struct timespec times[2] = {item->mtime, item->mtime};
	int fd;

	if (item->target != NULL) {
		if (symlinkat(item->target, dir, item->name) < 0 ||
			utimensat(dir, item->name, times, AT_SYMLINK_NOFOLLOW) < 0)
			floor_die("make the link %s: %m", item->path);
		return;
	}
	fd = openat(dir, item->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, item->mode);
	if (fd < 0)
		floor_die("create %s: %m", item->path);
	if (floor_write_all(fd, item->data, item->size) < 0 || futimens(fd, times) < 0 ||
		close(fd) < 0)
		floor_die("write %s: %m", item->path);
}

/* The items of one directory, from first on; where the next directory's begin. */
static size_t end_of_directory(const struct tree *t, size_t first)
{
	size_t end = first + 1;

	while (end < t->n_items && compare_dirs(&t->items[first], &t->items[end]) == 0)
		end++;
	return end;
}

static void write_directory(const struct tree *t, size_t first, size_t end)
{
	const struct item *item = &t->items[first];
	char path[4096];
	int dir;

	snprintf(path, sizeof(path), "%.*s", item->dir_length, item->path);
	dir = openat(t->root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		floor_die("open the directory %s: %m", path);
	for (size_t i = first; i < end; i++)
		write_item(dir, &t->items[i]);
	close(dir);
}

static void *work(void *tree)
{
	struct tree *t = tree;
	size_t first = atomic_load(&t->next);

	while (first < t->n_items) {
		size_t end = end_of_directory(t, first);

		if (!atomic_compare_exchange_weak(&t->next, &first, end))
			continue; /* first is now what another thread left */
		write_directory(t, first, end);
		first = atomic_load(&t->next);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct tree t = {0};
	struct stopwatch watch;

	if (argc < 4) {
		fputs("usage: floor_write THREADS DIR TAR...\n", stderr);
		return 2;
	}
	umask(0);
	t.root = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (t.root < 0)
		floor_die("open %s: %m", argv[2]);
	for (int i = 3; i < argc; i++)
		read_tar(&t, argv[i], i - 3);
	if (t.n_items > 0)
		qsort(t.items, t.n_items, sizeof(*t.items), by_directory);
	watch = stopwatch_start();
	make_dirs(&t);
	floor_threads(atoi(argv[1]), work, &t);
	settle_dirs(&t);
	stopwatch_print(watch);
	return 0;
}
