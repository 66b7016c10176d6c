/* SPDX-License-Identifier: MIT */
/* Removes a directory tree with a bounded number of open directories: what lies deeper than that is
 * renamed up to the top, where it is found again. Never follows a link, never goes up by "..", and
 * makes directories writable only when they are in the way. */
#include "defer.h"
#include "text.h"
#include "tree.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define LEVELS 48

struct level {
	DIR *dir;
	char name[NAME_MAX + 1]; /* in the level above */
	bool changed; /* something went since the directory was last read from its start */
};

struct removal {
	int above_fd; /* where the top is */
	struct cancel *cancel;
	unsigned long moved; /* directories renamed to the top: their new names are numbers */
	size_t depth;        /* levels in use */
	struct level levels[LEVELS];
};

static struct level *lowest(struct removal *r)
{
	return &r->levels[r->depth - 1];
}

/* The directory that the lowest level (or, before there is any, the top) is in. */
static int fd_of(const struct removal *r, size_t depth)
{
	return depth == 0 ? r->above_fd : dirfd(r->levels[depth - 1].dir);
}

static int failed(const struct removal *r, const char *name, struct error *err)
{
	struct text path = {0};
	int errnum = errno, code;

	for (size_t i = 0; i < r->depth; i++)
		text_addf(&path, "%s/", r->levels[i].name);
	text_add(&path, name);
	code = disk_error(err, errnum, r->above_fd, "remove", path.s);
	text_done(&path);
	return code;
}

/* After EACCES: opens up the directory that name is in, unless that is above the top. */
static bool open_up(const struct removal *r)
{
	if (errno != EACCES || r->depth == 0)
		return false;
	if (fchmod(fd_of(r, r->depth), S_IRWXU) == 0)
		return true;
	errno = EACCES; /* the reason that matters */
	return false;
}

/* 0, or -1 and errno. */
static int unlink_in(const struct removal *r, const char *name, int flags)
{
	int fd = fd_of(r, r->depth);

	if (unlinkat(fd, name, flags) == 0)
		return 0;
	return open_up(r) ? unlinkat(fd, name, flags) : -1;
}

static int open_dir(const struct removal *r, const char *name)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, parent = fd_of(r, r->depth);
	int fd = openat(parent, name, flags);

	if (fd >= 0 || errno != EACCES)
		return fd;
	open_up(r);
	if (fchmodat(parent, name, S_IRWXU, 0) < 0)
		return -1;
	return openat(parent, name, flags);
}

static int descend(struct removal *r, const char *name, struct error *err)
{
	int fd = open_dir(r, name);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct level *l;

	if (dir == NULL) {
		int code = failed(r, name, err);

		if (fd >= 0)
			close(fd);
		return code;
	}
	l = &r->levels[r->depth++];
	*l = (struct level){.dir = dir};
	snprintf(l->name, sizeof(l->name), "%s", name);
	return 0;
}

/* 0, or -1 and errno. What has the new name already is to be removed too, so replacing it is fine.
 */
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

/* A directory that moves is written to: its ".." changes. */
static int move_up(struct removal *r, const char *name, struct error *err)
{
	int done = rename_to_top(r, name);

	if (done < 0 && open_up(r) && fchmod(fd_of(r, 1), S_IRWXU) == 0 &&
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

/* The lowest directory was read to its end: it goes, or is read again when entries came or were
 * passed over meanwhile. */
static int ascend(struct removal *r, struct error *err)
{
	struct level *l = lowest(r);
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
	int code;

	r->above_fd = dir_fd;
	r->cancel = cancel;
	if (unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return failed(r, name, err);
	code = descend(r, name, err);
	while (code == 0 && r->depth > 0)
		code = next_step(r, err);
	while (r->depth > 0)
		closedir(r->levels[--r->depth].dir);
	return code;
}
