/* SPDX-License-Identifier: MIT */
/* Removes a directory tree with a bounded number of open directories: a directory that lies deeper
 * than that is renamed up to the top, where it is found again. Never follows a link, never goes up
 * by "..", never enters a mount, and makes a directory writable only when a call on it has failed.
 * Any thread. */
#include "defer.h"
#include "text.h"
#include "tree.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LEVELS 48

struct remove_level {
	DIR *dir;
	char name[NAME_MAX + 1]; /* in the level above */
	bool changed; /* an entry was removed since the directory was last read from its start */
};

struct removal {
	int above_fd; /* the directory that the top is in; borrowed */
	dev_t device; /* of above_fd */
	struct cancel *cancel;
	unsigned long moved; /* number of directories renamed to the top: their names are numbers */
	size_t depth;        /* levels in use */
	struct remove_level levels[LEVELS];
};

static struct remove_level *lowest(struct removal *r)
{
	return &r->levels[r->depth - 1];
}

/* The descriptor of the level at this depth; 0: of the directory that the top is in. */
static int fd_of(const struct removal *r, size_t depth)
{
	return depth == 0 ? r->above_fd : dirfd(r->levels[depth - 1].dir);
}

static char *path_of(const struct removal *r, const char *name)
{
	struct text path = {0};

	for (size_t i = 0; i < r->depth; i++)
		text_addf(&path, "%s/", r->levels[i].name);
	text_add(&path, name);
	return text_take(&path);
}

static int failed(const struct removal *r, const char *name, struct error *err)
{
	int errnum = errno;
	_free_ char *path = path_of(r, name);

	return tree_disk_error(err, errnum, r->above_fd, "remove", path);
}

/* Whether fd is a mount: of another file system, or a bind mount of the same one. */
static bool is_mounted(const struct removal *r, int fd)
{
	struct statx st;
	struct stat plain;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) == 0)
		return makedev(st.stx_dev_major, st.stx_dev_minor) != r->device ||
		       (st.stx_attributes & st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0;
	return fstat(fd, &plain) != 0 || plain.st_dev != r->device;
}

static int refuse_mounted(const struct removal *r, const char *name, struct error *err)
{
	_free_ char *path = path_of(r, name);

	return error_set(err, -EBUSY,
		"cannot remove %s: something is mounted there, which is left as it is", path);
}

/* After EACCES: makes the lowest directory writable, unless that is the one above the top. Returns
 * whether it did. */
static bool make_writable(const struct removal *r)
{
	if (errno != EACCES || r->depth == 0)
		return false;
	if (fchmod(fd_of(r, r->depth), S_IRWXU) == 0)
		return true;
	errno = EACCES; /* the error to report, instead of fchmod()'s */
	return false;
}

/* Returns 0, or -1 and errno. */
static int unlink_in(const struct removal *r, const char *name, int flags)
{
	int fd = fd_of(r, r->depth);

	if (unlinkat(fd, name, flags) == 0)
		return 0;
	return make_writable(r) ? unlinkat(fd, name, flags) : -1;
}

static int open_dir(const struct removal *r, const char *name)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, parent = fd_of(r, r->depth);
	int fd = openat(parent, name, flags);

	if (fd >= 0 || errno != EACCES)
		return fd;
	make_writable(r);
	if (fchmodat(parent, name, S_IRWXU, 0) < 0)
		return -1;
	return openat(parent, name, flags);
}

static int descend(struct removal *r, const char *name, struct error *err)
{
	int fd = open_dir(r, name);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct remove_level *l;

	if (dir == NULL) {
		int code = failed(r, name, err);

		if (fd >= 0)
			close(fd);
		return code;
	}
	if (is_mounted(r, fd)) {
		closedir(dir);
		return refuse_mounted(r, name, err);
	}
	l = &r->levels[r->depth++];
	*l = (struct remove_level){.dir = dir};
	snprintf(l->name, sizeof(l->name), "%s", name);
	return 0;
}

/* Returns 0, or -1 and errno. A file that has the new name already is to be removed too, so it may
 * be replaced. */
static int rename_to_top(struct removal *r, const char *name)
{
	int from = fd_of(r, r->depth), top = fd_of(r, 1);

	for (;;) {
		char number[32];

		snprintf(number, sizeof(number), "%lu", r->moved++);
		if (renameat(from, name, top, number) == 0)
			return 0;
		if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR)
			return -1;
	}
}

/* The directory that moves must be writable, too, since its ".." changes. */
static int move_up(struct removal *r, const char *name, struct error *err)
{
	int done = rename_to_top(r, name);

	if (done < 0 && make_writable(r) && fchmod(fd_of(r, 1), S_IRWXU) == 0 &&
		fchmodat(fd_of(r, r->depth), name, S_IRWXU, 0) == 0)
		done = rename_to_top(r, name);
	if (done < 0)
		return failed(r, name, err);
	lowest(r)->changed = true;
	return 0;
}

static int remove_entry(struct removal *r, const struct dirent *e, struct error *err)
{
	if (e->d_type != DT_DIR) {
		if (unlink_in(r, e->d_name, 0) == 0 || errno == ENOENT) {
			lowest(r)->changed = true;
			return 0;
		}
		if (errno != EISDIR)
			return failed(r, e->d_name, err);
	}
	return r->depth < LEVELS ? descend(r, e->d_name, err) : move_up(r, e->d_name, err);
}

/* The lowest directory was read to its end: removes it. If it is not empty, and entries were
 * removed while it was read, it is read again: readdir() may have skipped some, or entries were
 * moved to it. */
static int ascend(struct removal *r, struct error *err)
{
	struct remove_level *l = lowest(r);
	int gone;

	r->depth--;
	gone = unlink_in(r, l->name, AT_REMOVEDIR);
	if (gone < 0 && (errno == ENOTEMPTY || errno == EEXIST) && l->changed) {
		r->depth++;
		l->changed = false;
		rewinddir(l->dir);
		return 0;
	}
	if (gone < 0 && errno != ENOENT) {
		int code = failed(r, l->name, err);

		closedir(l->dir);
		return code;
	}
	closedir(l->dir);
	if (r->depth > 0)
		lowest(r)->changed = true;
	return 0;
}

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int next_step(struct removal *r, struct error *err)
{
	const struct dirent *e;

	if (cancel_requested(r->cancel))
		return error_set(err, -ECANCELED, "cancelled");
	errno = 0;
	e = readdir(lowest(r)->dir); /* NOLINT(concurrency-mt-unsafe): one thread's stream */
	if (e == NULL && errno != 0)
		return failed(r, "", err);
	if (e == NULL)
		return ascend(r, err);
	return is_dots(e->d_name) ? 0 : remove_entry(r, e, err);
}

int remove_tree(int dir_fd, const char *name, struct cancel *cancel, struct error *err)
{
	_free_ struct removal *r = zalloc(sizeof(*r));
	struct stat above;
	int code;

	r->above_fd = dir_fd;
	r->cancel = cancel;
	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR || fstat(dir_fd, &above) != 0)
		return failed(r, name, err);
	r->device = above.st_dev;
	code = descend(r, name, err);
	while (code == 0 && r->depth > 0)
		code = next_step(r, err);
	while (r->depth > 0)
		closedir(r->levels[--r->depth].dir);
	return code;
}
