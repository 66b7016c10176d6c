/* SPDX-License-Identifier: MIT */
/* Compares an entry with its inventory: a sample of it whenever it is used, all of it on request.
 * Any thread. */
#include "cache_private.h"
#include "defer.h"
#include "digest.h"
#include "open_beneath.h"
#include "progress.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define DIGESTS_NAME "digests"
#define DIGESTS_NEW  "digests.new"

/* The number of files that are checked whenever an entry is used: the time for that does not depend
 * on the size of the entry. */
#define SAMPLE_SIZE 256

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static int check_type(const struct inventory_entry *e, const struct stat *st, struct error *err)
{
	mode_t want = e->type == 'd' ? S_IFDIR : e->type == 'l' ? S_IFLNK : S_IFREG;

	/* A further name may be that of a symbolic link. */
	if (e->type == 'h' ? !S_ISDIR(st->st_mode) : (st->st_mode & S_IFMT) == want)
		return 0;
	return entry_damaged(err, "'%.300s' is not what it was", e->path);
}

static int check_file(const struct inventory_entry *e, const struct stat *st, struct error *err)
{
	if ((uint64_t)st->st_size != e->size)
		return entry_damaged(err, "'%.300s' has %lld bytes instead of %" PRIu64, e->path,
			(long long)st->st_size, e->size);
	if (!same_time(&st->st_mtim, &e->mtime))
		return entry_damaged(err, "'%.300s' was written to", e->path);
	return 0;
}

static int check_link(
	const struct inventory_entry *e, int dir_fd, const char *base, struct error *err)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, base, target, sizeof(target) - 1);

	if (n < 0)
		return entry_access_failed(err, e->path);
	target[n] = '\0';
	if (strcmp(target, e->target) == 0)
		return 0;
	return entry_damaged(err, "'%.300s' leads to '%.200s', not to '%.200s' any more", e->path,
		target, e->target);
}

/* The mtime of a directory changes when a name is added to it or removed from it. */
static int check_directory(
	const char *path, const struct timespec *mtime, const struct stat *st, struct error *err)
{
	if (same_time(&st->st_mtim, mtime))
		return 0;
	return entry_damaged(err,
		"something was added to the directory '%.300s', or removed from it",
		*path != '\0' ? path : ".");
}

static int check_one(
	struct parent_lookup *tree, const struct inventory_entry *e, bool times, struct error *err)
{
	const char *base;
	int dir_fd = cache_lookup_parent(tree, e->path, &base), code;
	struct stat st;

	if (dir_fd < 0 || fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return entry_access_failed(err, e->path);
	code = check_type(e, &st, err);
	if (code < 0)
		return code;
	if (e->type == 'd')
		return times ? check_directory(e->path, &e->mtime, &st, err) : 0;
	return e->type == 'l' ? check_link(e, dir_fd, base, err) : check_file(e, &st, err);
}

/* Checks the time of the root, which format 1 does not have. */
static int check_top(const struct inventory *l, int tree_fd, struct error *err)
{
	struct stat st;

	if (fstat(tree_fd, &st) != 0)
		return entry_access_failed(err, ".");
	return l->head.marked ? check_directory("", &l->head.top, &st, err) : 0;
}

/* Opens the tree and the inventory of an entry. */
static int open_both(int key_fd, struct inventory **ret_l, int *ret_tree_fd, struct error *err)
{
	_close_ int fd =
		openat(key_fd, CACHE_TREE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int code;

	if (fd < 0)
		return entry_access_failed(err, CACHE_TREE_NAME);
	code = inventory_open(key_fd, ret_l);
	if (code < 0)
		return entry_inventory_failed(code, err);
	*ret_tree_fd = take_fd(&fd);
	return 0;
}

static void count_bytes(struct progress *p, uint64_t bytes)
{
	if (p != NULL)
		count(&p->received, bytes);
}

/* times: also checks the times of directories. progress: may be NULL. */
static int check_all(struct inventory *l, int tree_fd, bool times, struct progress *progress,
	struct cancel *cancel, struct error *err)
{
	struct parent_lookup tree = PARENT_LOOKUP(tree_fd);
	struct inventory_entry e;
	uint64_t n = 0;
	int more = 0, code = 0;

	while (code == 0 && (more = inventory_next(l, &e)) > 0) {
		if (cancel_requested(cancel))
			code = error_set(err, -ECANCELED, "cancelled");
		else
			code = check_one(&tree, &e, times, err);
		if (e.type == 'f')
			count_bytes(progress, e.size);
		n++;
	}
	cache_lookup_done(&tree);
	if (code == 0 && more < 0)
		return entry_inventory_failed(more, err);
	if (code == 0 && n != l->head.entries)
		return entry_inventory_failed(-ESTALE, err);
	return code;
}

/* Counts the names in directories. When all listed names were found, a directory that has more
 * names than are listed contains added ones. All names in a directory are listed together, and
 * directories have their content listed in the order in which they are listed themselves. */

struct counting {
	struct inventory *dirs, *listed; /* two positions in the same inventory */
	struct inventory_entry next;     /* of listed */
	int more;                        /* result of inventory_next(): 1 if next is valid */
};

static bool is_in(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (len == 0)
		return strchr(path, '/') == NULL;
	return strncmp(path, dir, len) == 0 && path[len] == '/' &&
	       strchr(path + len + 1, '/') == NULL;
}

static uint64_t count_listed(struct counting *c, const char *dir)
{
	uint64_t n = 0;

	for (; c->more > 0 && is_in(c->next.path, dir); n++)
		c->more = inventory_next(c->listed, &c->next);
	return n;
}

static DIR *open_listing(int tree_fd, const char *path)
{
	_close_ int dir_fd = open_beneath(tree_fd, path, O_PATH | O_DIRECTORY);
	_close_ int fd = -1;
	DIR *dir;

	if (dir_fd < 0) {
		errno = -dir_fd;
		return NULL;
	}
	fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (dir != NULL)
		take_fd(&fd);
	return dir;
}

static int count_names(
	int tree_fd, const char *path, uint64_t *ret, struct stat *ret_st, struct error *err)
{
	_closedir_ DIR *dir = open_listing(tree_fd, path);
	uint64_t n = 0;

	if (dir == NULL || fstat(dirfd(dir), ret_st) != 0)
		return entry_access_failed(err, path);
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	for (errno = 0; readdir(dir) != NULL; errno = 0)
		n++;
	if (errno != 0)
		return entry_access_failed(err, path);
	*ret = n >= 2 ? n - 2 : 0; /* without "." and ".." */
	return 0;
}

/* mtime: NULL if it is not known. */
static int check_count(struct counting *c, int tree_fd, const char *dir,
	const struct timespec *mtime, struct error *err)
{
	uint64_t there = 0, listed = count_listed(c, dir);
	struct stat st;
	int code = count_names(tree_fd, dir, &there, &st, err);

	if (code < 0)
		return code;
	if (there == listed)
		return mtime != NULL ? check_directory(dir, mtime, &st, err) : 0;
	return entry_damaged(err,
		"the directory '%.300s' holds %" PRIu64 " entries instead of %" PRIu64,
		*dir != '\0' ? dir : ".", there, listed);
}

static int check_counts(struct counting *c, int tree_fd, struct cancel *cancel, struct error *err)
{
	const struct inventory_head *head = &c->dirs->head;
	struct inventory_entry e;
	int more, code;

	code = check_count(c, tree_fd, "", head->marked ? &head->top : NULL, err);

	while (code == 0 && (more = inventory_next(c->dirs, &e)) != 0) {
		if (more < 0)
			return entry_inventory_failed(more, err);
		if (cancel_requested(cancel))
			return error_set(err, -ECANCELED, "cancelled");
		if (e.type == 'd')
			code = check_count(c, tree_fd, e.path, &e.mtime, err);
	}
	if (code == 0 && c->more != 0)
		return entry_inventory_failed(c->more < 0 ? c->more : -ESTALE, err);
	return code;
}

static int check_directories(int key_fd, int tree_fd, struct cancel *cancel, struct error *err)
{
	struct counting c = {0};
	int code = inventory_open(key_fd, &c.dirs);

	if (code == 0)
		code = inventory_open(key_fd, &c.listed);
	if (code < 0) {
		code = entry_inventory_failed(code, err);
	} else {
		c.more = inventory_next(c.listed, &c.next);
		code = check_counts(&c, tree_fd, cancel, err);
	}
	inventory_close(c.dirs);
	inventory_close(c.listed);
	return code;
}

/* The sample. */

static int check_sample(struct inventory *l, int tree_fd, struct error *err)
{
	/* Selects other files each time. */
	double phase = (double)(now_ns() % 1000) / 1000;
	struct parent_lookup tree = PARENT_LOOKUP(tree_fd);
	struct inventory_entry e;
	int code = 0;

	for (int i = 0; i < SAMPLE_SIZE && code == 0; i++) {
		int more = inventory_seek(l, (i + phase) / SAMPLE_SIZE) ? inventory_next(l, &e) : 0;

		if (more < 0)
			code = entry_inventory_failed(more, err);
		else if (more > 0)
			code = check_one(&tree, &e, true, err);
	}
	cache_lookup_done(&tree);
	return code;
}

/* For format 1, whose records can only be found by reading from the beginning; only every step-th
 * one is compared with the tree. */
static int check_every_nth(struct inventory *l, int tree_fd, struct error *err)
{
	uint64_t step = l->head.entries / SAMPLE_SIZE, n = now_ns() % step;
	struct parent_lookup tree = PARENT_LOOKUP(tree_fd);
	struct inventory_entry e;
	int more = 0, code = 0;

	for (; code == 0 && (more = inventory_next(l, &e)) > 0; n++)
		if (n % step == 0)
			code = check_one(&tree, &e, true, err);
	cache_lookup_done(&tree);
	return code == 0 && more < 0 ? entry_inventory_failed(more, err) : code;
}

static int check_some(struct inventory *l, int tree_fd, struct error *err)
{
	if (l->head.entries <= SAMPLE_SIZE)
		return check_all(l, tree_fd, true, NULL, NULL, err);
	return l->head.marked ? check_sample(l, tree_fd, err) : check_every_nth(l, tree_fd, err);
}

int verify_sample(int key_fd, struct error *err)
{
	_close_ int tree_fd = -1;
	struct inventory *l = NULL;
	int code = open_both(key_fd, &l, &tree_fd, err);

	if (code < 0 || l == NULL)
		return code;
	code = check_top(l, tree_fd, err);
	if (code == 0)
		code = check_some(l, tree_fd, err);
	inventory_close(l);
	return code;
}

/* Deep verification: the content of every file. */

struct digesting {
	struct parent_lookup tree;
	struct inventory *inventory;
	FILE *known; /* the digests of the first deep verification; NULL: this is the first */
	FILE *made;  /* the digests of this one, if it is the first */
	struct progress *progress; /* may be NULL */
	struct cancel *cancel;
};

static int digest_file(
	struct digesting *d, const char *path, char hex[static 65], struct error *err)
{
	const char *base;
	int dir_fd = cache_lookup_parent(&d->tree, path, &base);
	_close_ int fd =
		dir_fd < 0 ? -1
			   : openat(dir_fd, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	_free_ uint8_t *buffer = zalloc((size_t)1 << 20);
	struct sha256_ctx sha256;
	ssize_t n;

	if (fd < 0)
		return entry_access_failed(err, path);
	sha256_init(&sha256);
	while ((n = read(fd, buffer, (size_t)1 << 20)) > 0) {
		if (cancel_requested(d->cancel))
			return error_set(err, -ECANCELED, "cancelled");
		sha256_update(&sha256, (size_t)n, buffer);
		count_bytes(d->progress, (uint64_t)n);
	}
	if (n < 0)
		return entry_access_failed(err, path);
	digest_finish(&sha256, hex);
	return 0;
}

static int compare_digest(
	const struct digesting *d, const char *path, const char *hex, struct error *err)
{
	char known[66] = "";

	if (d->known == NULL)
		return fprintf(d->made, "%s\n", hex) > 0
			       ? 0
			       : error_set(err, -EIO, "cannot write " DIGESTS_NAME);
	if (fgets(known, sizeof(known), d->known) != NULL && strncmp(known, hex, 64) == 0)
		return 0;
	if (ferror(d->known))
		return error_set(err, -EIO, "cannot read " DIGESTS_NAME);
	return entry_damaged(err, "the content of '%.300s' has changed", path);
}

static int digest_all(struct digesting *d, struct error *err)
{
	struct inventory_entry e;
	char hex[65];
	int more = 0, code = 0;

	inventory_rewind(d->inventory);
	while (code == 0 && (more = inventory_next(d->inventory, &e)) > 0) {
		if (e.type != 'f')
			continue;
		code = digest_file(d, e.path, hex, err);
		if (code == 0)
			code = compare_digest(d, e.path, hex, err);
	}
	cache_lookup_done(&d->tree);
	return code == 0 && more < 0 ? entry_inventory_failed(more, err) : code;
}

/* NULL and errno on failure. */
static FILE *open_stream(int key_fd, const char *name, int flags, const char *mode)
{
	_close_ int fd = inventory_open_file(key_fd, name, flags);
	FILE *f = fd < 0 ? NULL : fdopen(fd, mode);

	if (fd < 0)
		errno = -fd;
	if (f != NULL)
		take_fd(&fd);
	return f;
}

/* The first deep verification writes the digests; later ones compare the files with them. */
static int verify_deep(int key_fd, struct digesting *d, struct error *err)
{
	int code;

	d->known = open_stream(key_fd, DIGESTS_NAME, O_RDONLY, "r");
	if (d->known == NULL && errno != ENOENT)
		return error_set(err, -EIO, "cannot read " DIGESTS_NAME ": %m");
	if (d->known == NULL)
		d->made = open_stream(key_fd, DIGESTS_NEW, O_WRONLY | O_CREAT | O_TRUNC, "w");
	if (d->known == NULL && d->made == NULL)
		return error_set(err, -errno, "cannot write " DIGESTS_NAME ": %m");
	code = digest_all(d, err);
	if (d->known != NULL)
		fclose(d->known);
	if (d->made != NULL && fclose(d->made) != 0 && code == 0)
		code = error_set(err, -errno, "cannot write " DIGESTS_NAME ": %m");
	if (d->made != NULL && code == 0 &&
		renameat(key_fd, DIGESTS_NEW, key_fd, DIGESTS_NAME) != 0)
		code = error_set(err, -errno, "cannot write " DIGESTS_NAME ": %m");
	return code;
}

static int verify_use(const struct use_lock *use, bool deep, struct progress *progress,
	struct cancel *cancel, struct error *err)
{
	_close_ int tree_fd = -1;
	struct inventory *l = NULL;
	int code = open_both(use->key_fd, &l, &tree_fd, err);

	if (code < 0 || l == NULL)
		return code;
	code = check_all(l, tree_fd, false, deep ? NULL : progress, cancel, err);
	if (code == 0)
		code = check_directories(use->key_fd, tree_fd, cancel, err);
	if (code == 0 && deep)
		code = verify_deep(use->key_fd,
			&(struct digesting){.tree = PARENT_LOOKUP(tree_fd),
				.inventory = l,
				.progress = progress,
				.cancel = cancel},
			err);
	inventory_close(l);
	return code;
}

int cache_verify(const struct cache *c, const char *key, bool deep, struct progress *progress,
	struct cancel *cancel, struct error *err)
{
	struct use_lock use;
	int code = cache_use_lock(c, key, false, cancel, &use, err);

	if (code < 0)
		return code;
	code = verify_use(&use, deep, progress, cancel, err);
	cache_use_unlock(&use);
	return code;
}
