/* SPDX-License-Identifier: MIT */
/* Who uses an entry: a flock on KEY/use, shared by all that fill, deliver and use it, alone by whoever evicts
 * it. The kernel drops it when its last holder ends, so that nothing is in use for ever. Any thread. */
#include "cache_private.h"
#include "defer.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define MAX_TRIES 1000

bool use_is_key(const char *name)
{
	size_t n = strspn(name, "0123456789abcdef");

	return n == 32 && name[n] == '-' && strspn(name + n + 1, "0123456789abcdef") == 32 &&
	       name[CACHE_KEY_LEN] == '\0';
}

/* Whoever evicts an entry renames it first: then its lock protects nothing any more. */
static bool is_current(const struct cache *c, const char *key, int key_fd)
{
	struct stat held, there;

	return fstat(key_fd, &held) == 0 && fstatat(c->fd, key, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       held.st_ino == there.st_ino && held.st_dev == there.st_dev;
}

static int open_key(
	const struct cache *c, const char *key, bool make, int *ret_fd, struct error *err)
{
	_free_ char *path = format_text("%s/v1/%s", c->dir, key);
	_close_ int fd = -1;
	int code;

	if (make && mkdirat(c->fd, key, 0755) != 0 && errno != EEXIST)
		return error_set(err, -errno, "cannot make %s: %m", path);
	fd = openat(c->fd, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return error_set(err, -errno, "cannot open %s: %m", path);
	code = entry_check_owner(fd, path, err);
	if (code == 0)
		*ret_fd = take_fd(&fd);
	return code;
}

/* Read-only will do for a cache that is mounted so. */
static int open_use(int key_fd)
{
	int fd = openat(key_fd, USE_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 && errno == EROFS
		       ? openat(key_fd, USE_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
		       : fd;
}

/* -EAGAIN: somebody is evicting it, or has: again. */
static int try_take(
	const struct cache *c, const char *key, bool make, struct use *ret, struct error *err)
{
	_close_ int key_fd = -1, fd = -1;
	int code = open_key(c, key, make, &key_fd, err);

	if (code < 0)
		return code;
	fd = open_use(key_fd);
	if (fd < 0)
		return errno == ENOENT && make
			       ? -EAGAIN
			       : error_set(err, -errno, "cannot open %s/v1/%s/" USE_NAME ": %m",
					 c->dir, key);
	if (flock(fd, LOCK_SH | LOCK_NB) != 0)
		return errno == EWOULDBLOCK || errno == EINTR
			       ? -EAGAIN
			       : error_set(err, -errno,
					 "cannot lock %s/v1/%s/" USE_NAME
					 ": %m; keep the cache on a file system with locks",
					 c->dir, key);
	if (!is_current(c, key, key_fd))
		return -EAGAIN;
	*ret = (struct use){.key_fd = take_fd(&key_fd), .fd = take_fd(&fd)};
	return 0;
}

int use_take(const struct cache *c, const char *key, bool make, struct cancel *cancel,
	struct use *ret, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 2000000L};
	int code = -EAGAIN;

	for (int i = 0; i < MAX_TRIES && code == -EAGAIN; i++) {
		if (cancel_requested(cancel))
			return error_set(err, -ECANCELED, "cancelled");
		if (i > 0)
			nanosleep(&pause, NULL);
		code = try_take(c, key, make, ret, err);
	}
	if (code == -EAGAIN)
		return error_set(
			err, -EBUSY, "%s/v1/%s: somebody else keeps it locked", c->dir, key);
	return code;
}

int use_take_alone(const struct cache *c, const char *key)
{
	_close_ int key_fd = openat(c->fd, key, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	_close_ int fd = key_fd < 0 ? -1 : open_use(key_fd);

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return -EBUSY;
	return is_current(c, key, key_fd) ? take_fd(&fd) : -ENOENT;
}
