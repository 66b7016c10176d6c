/* SPDX-License-Identifier: MIT */
/* Opening the cache, and the locks that show that an entry is in use: a flock on KEY/use, shared by
 * all agents that fill, deliver and use the entry, exclusive for an agent that evicts it. The
 * kernel releases the lock when its last holder ends, so that no entry stays in use for ever. Any
 * thread. */
#include "cache_private.h"
#include "defer.h"
#include "log.h"
#include "umask.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define MAX_TRIES 1000

bool cache_is_key(const char *name)
{
	return destination_has_cache_key(name) && name[CACHE_KEY_LEN] == '\0';
}

/* Whether key_fd still is the directory v1/KEY. An agent that evicts an entry renames it first;
 * from then on its lock protects nothing. */
static bool is_current(const struct cache *c, const char *key, int key_fd)
{
	struct stat held, there;

	return fstat(key_fd, &held) == 0 && fstatat(c->fd, key, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

static int no_entry(const struct cache *c, const char *key, struct error *err)
{
	return error_set(err, -ENOENT, "the node cache %s has no entry '%.200s'", c->dir, key);
}

static int not_an_entry(const struct cache *c, const char *key, const char *why, struct error *err)
{
	return error_set(err, -EPERM, "%s/v1/%s is not an entry of the node cache: %s; it stays",
		c->dir, key, why);
}

static int open_key(
	const struct cache *c, const char *key, bool make, int *ret_fd, struct error *err)
{
	_free_ char *path = text_format("%s/v1/%s", c->dir, key);
	_close_ int fd = -1;
	int code;

	if (c->fd < 0 || !cache_is_key(key))
		return no_entry(c, key, err);
	if (make && mkdirat(c->fd, key, umask_apply(0755)) != 0 && errno != EEXIST)
		return error_set(err, -errno, "cannot make %s: %m", path);
	fd = openat(c->fd, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return no_entry(c, key, err);
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
		return not_an_entry(c, key, "it is no directory", err);
	if (fd < 0)
		return error_set(err, -errno, "cannot open %s: %m", path);
	code = cache_check_owner(fd, path, err);
	if (code == 0)
		*ret_fd = take_fd(&fd);
	return code;
}

static bool is_empty(int key_fd)
{
	_close_ int fd = openat(key_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_closedir_ DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *d = NULL;

	if (dir == NULL)
		return false;
	take_fd(&fd);
	errno = 0;
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream */
	while ((d = readdir(dir)) != NULL &&
		(strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0))
		continue;
	return d == NULL && errno == 0;
}

/* Opens KEY/use; read-only if the cache is mounted read-only. make: creates it, but only in an
 * empty directory, that is one that was just created, perhaps by another agent. Returns a
 * descriptor or -errno; -ENOENT: the directory is not an entry, or was removed. */
static int open_use(int key_fd, bool make)
{
	int fd = inventory_open_file(key_fd, USE_NAME, O_RDWR);

	if (fd == -EROFS)
		return inventory_open_file(key_fd, USE_NAME, O_RDONLY);
	if (fd != -ENOENT || !make)
		return fd;
	return is_empty(key_fd) ? inventory_open_file(key_fd, USE_NAME, O_RDWR | O_CREAT)
				: inventory_open_file(key_fd, USE_NAME, O_RDWR);
}

/* Opens the lock file of an entry; an error if key_fd is not an entry. -EAGAIN: the entry was
 * renamed away. */
static int open_lock_file(
	const struct cache *c, const char *key, int key_fd, bool make, struct error *err)
{
	int fd = open_use(key_fd, make);

	if (fd >= 0)
		return fd;
	if (fd == -ENOENT && !is_current(c, key, key_fd))
		return -EAGAIN;
	if (fd == -ENOENT)
		return not_an_entry(c, key, "it has no file '" USE_NAME "'", err);
	if (fd == -EPERM)
		return not_an_entry(
			c, key, "'" USE_NAME "' in it is not a file of this user's", err);
	return error_set(err, fd, "cannot open %s/v1/%s/" USE_NAME ": %s", c->dir, key,
		strerrordesc_np(-fd));
}

/* -EAGAIN: another agent is evicting the entry, or has evicted it; the caller tries again. */
static int try_lock(
	const struct cache *c, const char *key, bool make, struct use_lock *ret, struct error *err)
{
	_close_ int key_fd = -1, fd = -1;
	int code = open_key(c, key, make, &key_fd, err);

	if (code < 0)
		return code;
	fd = open_lock_file(c, key, key_fd, make, err);
	if (fd < 0)
		return take_fd(&fd);
	if (flock(fd, LOCK_SH | LOCK_NB) != 0)
		return errno == EWOULDBLOCK || errno == EINTR
			       ? -EAGAIN
			       : error_set(err, -errno,
					 "cannot lock %s/v1/%s/" USE_NAME
					 ": %m; keep the cache on a file system with locks",
					 c->dir, key);
	if (!is_current(c, key, key_fd))
		return -EAGAIN;
	*ret = (struct use_lock){.key_fd = take_fd(&key_fd), .fd = take_fd(&fd)};
	return 0;
}

int cache_use_lock(const struct cache *c, const char *key, bool make, struct cancel *cancel,
	struct use_lock *ret, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 2000000L};
	int code = -EAGAIN;

	for (int i = 0; i < MAX_TRIES && code == -EAGAIN; i++) {
		if (cancel_requested(cancel))
			return error_set(err, -ECANCELED, "cancelled");
		if (i > 0)
			nanosleep(&pause, NULL);
		code = try_lock(c, key, make, ret, err);
	}
	if (code == -EAGAIN)
		return error_set(
			err, -EBUSY, "%s/v1/%s: somebody else keeps it locked", c->dir, key);
	return code;
}

int cache_use_lock_exclusive(
	const struct cache *c, const char *key, struct use_lock *ret, struct error *err)
{
	_close_ int key_fd = -1, fd = -1;
	int code = open_key(c, key, false, &key_fd, err);

	if (code < 0)
		return code;
	fd = open_lock_file(c, key, key_fd, false, err);
	if (fd == -EAGAIN)
		return no_entry(c, key, err);
	if (fd < 0)
		return take_fd(&fd);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK || errno == EINTR
			       ? error_set(err, -EBUSY, "%s is in use", key)
			       : error_set(err, -errno, "cannot lock %s/v1/%s/" USE_NAME ": %m",
					 c->dir, key);
	if (!is_current(c, key, key_fd))
		return no_entry(c, key, err);
	*ret = (struct use_lock){.key_fd = take_fd(&key_fd), .fd = take_fd(&fd)};
	return 0;
}

void cache_use_unlock(struct use_lock *use)
{
	if (use->fd >= 0)
		close(use->fd);
	if (use->key_fd >= 0)
		close(use->key_fd);
	*use = (struct use_lock){-1, -1};
}

/* Opening the cache: its owner, and the entries that stay in use. */

/* Descriptors that child processes inherit get numbers from here on: shells, and some programs,
 * expect low numbers to be free. Below the usual soft limit of 1024. */
#define FIRST_PASSED 960

int cache_check_owner(int fd, const char *path, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return error_set(err, -errno, "cannot look at %s: %m", path);
	if (st.st_uid != geteuid())
		return error_set(err, -EPERM,
			"%s belongs to user %u, and this is user %u: a node cache has one owner",
			path, (unsigned)st.st_uid, (unsigned)geteuid());
	if (destination_is_open_to_others(fd, -1))
		return error_set(err, -EPERM,
			"others may write to %s (mode %o), and could change what is staged: chmod go-w",
			path, (unsigned)st.st_mode & 07777);
	return 0;
}

/* mkdir -p; existing directories are not changed. Errors are ignored: the caller opens the
 * directory. */
static void make_directories(const char *path)
{
	_free_ char *copy = text_copy(path);

	for (char *p = copy + 1; (p = strchr(p, '/')) != NULL; p++) {
		*p = '\0';
		(void)!mkdir(copy, umask_apply(0755));
		*p = '/';
	}
	(void)!mkdir(copy, umask_apply(0755));
}

static int open_dir(const char *dir, bool make, struct cache *c, struct error *err)
{
	_close_ int fd = -1;
	_free_ char *path = NULL;
	char real[PATH_MAX];
	int code;

	if (make)
		make_directories(dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && !make)
		return error_set(err, -ENOENT,
			"there is no node cache %s: check its name, or stage something into it first",
			dir);
	if (fd < 0 || realpath(dir, real) == NULL)
		return error_set(err, -errno, "cannot open the node cache %s: %m", dir);
	code = cache_check_owner(fd, real, err);
	if (code < 0)
		return code;
	c->dir = text_copy(real);
	path = text_format("%s/" CACHE_TREES_NAME, real);
	if (make)
		(void)!mkdirat(fd, CACHE_TREES_NAME, umask_apply(0755));
	c->fd = openat(fd, CACHE_TREES_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->fd < 0 && errno == ENOENT && !make)
		return 0; /* nothing was staged into it yet */
	if (c->fd < 0)
		return error_set(err, -errno, "cannot open %s: %m", path);
	return cache_check_owner(c->fd, path, err);
}

int cache_open(const struct cache_options *opts, struct cache **ret, struct error *err)
{
	struct cache *c = zalloc(sizeof(*c));
	int code;

	*c = (struct cache){.fd = -1,
		.max_size = opts->max_size,
		.min_free = opts->min_free,
		.deliver = opts->deliver};
	pthread_mutex_init(&c->mutex, NULL);
	code = open_dir(opts->dir, opts->make, c, err);
	if (code < 0) {
		cache_close(c);
		return code;
	}
	*ret = c;
	return 0;
}

const char *cache_dir(const struct cache *c)
{
	return c->dir;
}

void cache_close(struct cache *c)
{
	if (c == NULL)
		return;
	for (size_t i = 0; i < c->n_kept; i++)
		close(c->kept[i]);
	free(c->kept);
	if (c->fd >= 0)
		close(c->fd);
	free(c->dir);
	pthread_mutex_destroy(&c->mutex);
	free(c);
}

void cache_use_hold(struct cache *c, int fd)
{
	pthread_mutex_lock(&c->mutex);
	c->kept = realloc(c->kept, (c->n_kept + 1) * sizeof(*c->kept));
	if (c->kept == NULL)
		abort();
	c->kept[c->n_kept++] = fd;
	pthread_mutex_unlock(&c->mutex);
}

void cache_pass_on(struct cache *c)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->mutex);
	/* A flock belongs to the open file description: it is held until the last descriptor of
	 * that is closed. */
	for (size_t i = 0; i < c->n_kept; i++)
		if (fcntl(c->kept[i], F_DUPFD, FIRST_PASSED) < 0 &&
			fcntl(c->kept[i], F_SETFD, 0) != 0)
			log_warn("what is used of the node cache may be evicted meanwhile: %m");
	pthread_mutex_unlock(&c->mutex);
}
