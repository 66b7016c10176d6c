/* SPDX-License-Identifier: MIT */
/* Reaches directories of a tree without ever following a symbolic link or leaving the tree. One
 * openat2() does it where that exists and the directory is there; everything else is a walk, a
 * component at a time. Does not cache (parents.c does). */
#include "beneath.h"
#include "path.h"
#include "tree_private.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DIRECTORY (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int open_whole(int root_fd, const char *path)
{
	struct open_how how = {
		.flags = DIRECTORY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};

	return (int)syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
}

bool beneath_has_openat2(int root_fd)
{
	int fd = open_whole(root_fd, ".");

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

int beneath_mkdir(const struct tree *t, int parent_fd, const char *base, mode_t mode)
{
	if (mkdirat(parent_fd, base, mode) < 0)
		return -errno;
	if ((mode & t->mode_lost) != 0 && fchmodat(parent_fd, base, mode, 0) < 0)
		return -errno;
	return 0;
}

static int make_parent(const struct tree *t, int dir, const char *name)
{
	int r = beneath_mkdir(t, dir, name, PARENT_MODE);

	if (r == -EEXIST) /* another writer was faster */
		return 0;
	if (r < 0)
		return r;
	if (t->opts.uid == (uid_t)-1 && t->opts.gid == (gid_t)-1)
		return 0;
	return fchownat(dir, name, t->opts.uid, t->opts.gid, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int step(const struct tree *t, int dir, const struct component *c, bool create)
{
	char name[NAME_MAX + 1];
	int fd, r;

	if (c->len > NAME_MAX)
		return -ENAMETOOLONG;
	*(char *)mempcpy(name, c->s, c->len) = '\0';
	if ((fd = openat(dir, name, DIRECTORY)) >= 0)
		return fd;
	if (errno != ENOENT || !create)
		return -errno;
	if ((r = make_parent(t, dir, name)) < 0)
		return r;
	fd = openat(dir, name, DIRECTORY);
	return fd < 0 ? -errno : fd;
}

static int walk(const struct tree *t, const char *path, bool create, size_t *ret_bad_len)
{
	const char *rest = path;
	struct component c;
	int dir = t->root_fd;

	while (path_next(&rest, &c)) {
		int next = step(t, dir, &c, create);

		if (dir != t->root_fd)
			close(dir);
		if (next < 0) {
			*ret_bad_len = (size_t)(rest - path);
			return next;
		}
		dir = next;
	}
	return dir;
}

/* Whatever openat2() has to say against a path, the walk says it too, and more exactly: which
 * component it was; and it can go on where a directory is missing. */
int beneath_open(const struct tree *t, const char *path, bool create, size_t *ret_bad_len)
{
	if (t->openat2) {
		int fd = open_whole(t->root_fd, path);

		if (fd >= 0)
			return fd;
	}
	return walk(t, path, create, ret_bad_len);
}
