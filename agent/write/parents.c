/* SPDX-License-Identifier: MIT */
/* Opens directories of a tree without ever following a symbolic link or leaving the tree: with one
 * openat2() if the kernel has it and the directory exists, else by a walk, one component at a time.
 * The second half of the file is the cache of open directories that each writer has. Any thread,
 * except that a cache belongs to its writer's thread. */
#include "open_beneath.h"
#include "tree_private.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIRECTORY (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

bool parents_has_openat2(int root_fd)
{
	int fd = open_beneath_at_once(root_fd, ".", DIRECTORY);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

int parents_mkdir_beneath(const struct tree *t, int parent_fd, const char *base, mode_t mode)
{
	if (mkdirat(parent_fd, base, mode) < 0)
		return -errno;
	if ((mode & t->mode_lost) != 0 && fchmodat(parent_fd, base, mode, 0) < 0)
		return losses_record(t->losses, LOSS_MODE, base, errno);
	return 0;
}

static int make_parent(const struct tree *t, int dir, const char *name)
{
	int code = parents_mkdir_beneath(t, dir, name, umask_apply(PARENT_MODE));

	if (code == -EEXIST) /* another writer created it meanwhile */
		return 0;
	if (code < 0)
		return code;
	if (t->opts.uid == (uid_t)-1 && t->opts.gid == (gid_t)-1)
		return 0;
	return fchownat(dir, name, t->opts.uid, t->opts.gid, AT_SYMLINK_NOFOLLOW) < 0
		       ? losses_record(t->losses, LOSS_OWNER, name, errno)
		       : 0;
}

static int enter(const struct tree *t, int dir, const struct component *c, bool create)
{
	char name[NAME_MAX + 1];
	int fd, code;

	if (c->len > NAME_MAX)
		return -ENAMETOOLONG;
	*(char *)mempcpy(name, c->s, c->len) = '\0';
	fd = openat(dir, name, DIRECTORY);
	if (fd >= 0)
		return fd;
	if (errno != ENOENT || !create)
		return -errno;
	code = make_parent(t, dir, name);
	if (code < 0)
		return code;
	fd = openat(dir, name, DIRECTORY);
	return fd < 0 ? -errno : fd;
}

static bool is_there(int dir, const struct component *c)
{
	char name[NAME_MAX + 1];

	if (c->len > NAME_MAX)
		return false;
	*(char *)mempcpy(name, c->s, c->len) = '\0';
	return faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Opens the component c of path, in dir; on a file system that folds names only if it was created
 * under this name. */
static int enter_checked(
	const struct tree *t, int dir, const char *path, const struct component *c, bool create)
{
	size_t len = (size_t)(c->s + c->len - path);
	int fd;

	if (t->names == NULL)
		return enter(t, dir, c, create);
	names_lock(t->names);
	if (names_is_other_locked(t->names, path, len) && is_there(dir, c))
		fd = -EEXIST;
	else if ((fd = enter(t, dir, c, create)) >= 0)
		names_add_locked(t->names, path, len);
	names_unlock(t->names);
	return fd;
}

static int walk(const struct tree *t, const char *path, bool create, size_t *ret_bad_len)
{
	const char *rest = path;
	struct component c;
	int dir = t->root_fd;

	while (tree_path_next(&rest, &c)) {
		int next = enter_checked(t, dir, path, &c, create);

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

/* If openat2() fails, the walk fails too, and in addition finds out at which component; it can also
 * create missing directories. */
int parents_open_beneath(const struct tree *t, const char *path, bool create, size_t *ret_bad_len)
{
	if (t->openat2 && t->names == NULL) {
		int fd = open_beneath_at_once(t->root_fd, path, DIRECTORY);

		if (fd >= 0)
			return fd;
	}
	return walk(t, path, create, ret_bad_len);
}

/* A small least-recently-used cache of open directories, one for each writer. */

static bool holds(const struct parent *d, const char *path, size_t len)
{
	return d->path != NULL && d->len == len && memcmp(d->path, path, len) == 0;
}

static struct parent *find_kept(struct parents *p, const char *path, size_t len)
{
	if (p->last != NULL && holds(p->last, path, len))
		return p->last;
	for (size_t i = 0; i < PARENTS_KEPT; i++) {
		if (holds(&p->kept[i], path, len))
			return &p->kept[i];
	}
	return NULL;
}

static void parent_close(struct parent *d)
{
	if (d->path == NULL)
		return;
	close(d->fd);
	free(d->path);
	*d = (struct parent){0};
}

static struct parent *least_recently_used(struct parents *p)
{
	struct parent *old = &p->kept[0];

	for (size_t i = 1; i < PARENTS_KEPT; i++) {
		if (p->kept[i].used < old->used)
			old = &p->kept[i];
	}
	return old;
}

int parents_get(struct parents *p, const struct tree *t, const char *path, size_t len, bool create,
	size_t *ret_bad_len)
{
	struct parent *d;

	if (len == 0)
		return t->root_fd;
	if ((d = find_kept(p, path, len)) == NULL) {
		char *key = strndup(path, len);
		int fd = key == NULL ? -ENOMEM : parents_open_beneath(t, key, create, ret_bad_len);

		if (fd < 0) {
			free(key);
			return fd;
		}
		d = least_recently_used(p);
		parent_close(d);
		*d = (struct parent){.path = key, .len = len, .fd = fd};
	}
	d->used = ++p->clock;
	p->last = d;
	return d->fd;
}

void parents_done(struct parents *p)
{
	for (size_t i = 0; i < PARENTS_KEPT; i++)
		parent_close(&p->kept[i]);
	p->last = NULL;
}
