/* SPDX-License-Identifier: MIT */
/* Where a destination really is. Worker threads. Symbolic links in the user's path are followed
 * once, here; after this nothing of the path is followed again. */
#include "resolve.h"
#include "defer.h"
#include "publish.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#define PARENT_MODE 0755

int resolve_is_own_name(const char *name)
{
	size_t len = strlen(STATE_NAME);

	return strncmp(name, STATE_NAME, len) == 0 && (name[len] == '\0' || name[len] == '-');
}

int resolve_is_refusal(int errnum)
{
	return errnum == EACCES || errnum == EPERM || errnum == EROFS || errnum == EXDEV;
}

const char *resolve_why(int errnum, char buf[static 64])
{
	if (errnum == EROFS)
		snprintf(buf, 64, "read-only");
	else if (errnum == EXDEV)
		snprintf(buf, 64, "on another file system than its entries");
	else
		snprintf(buf, 64, "not writable by uid %u", (unsigned)geteuid());
	return buf;
}

static int absolute(const char *dir, char **ret, struct error *err)
{
	char cwd[PATH_MAX];

	if (dir[0] == '\0')
		return error_set(err, -ERR_USAGE, "the destination directory has an empty name");
	if (dir[0] == '/') {
		*ret = copy_text(dir);
		return 0;
	}
	if (getcwd(cwd, sizeof(cwd)) == NULL)
		return error_set(err, -errno,
			"cannot resolve %s: the current directory is not known: %m", dir);
	*ret = format_text("%s/%s", cwd, dir);
	return 0;
}

/* Cuts "/a/b//" to "/a": the length of what is left, 1 for "/". */
static size_t cut_last(const char *path, size_t len)
{
	while (len > 1 && path[len - 1] == '/')
		len--;
	while (len > 1 && path[len - 1] != '/')
		len--;
	while (len > 1 && path[len - 1] == '/')
		len--;
	return len;
}

/* The real path of the longest beginning of path that exists, and how long that beginning is. */
static int resolve_existing(
	const char *path, char real[static PATH_MAX], size_t *ret_len, struct error *err)
{
	_free_ char *head = copy_text(path);
	size_t len = strlen(head);
	struct stat st;

	while (realpath(head, real) == NULL) {
		if (errno != ENOENT)
			return error_set(err, -errno, "cannot resolve %s: %s: %m", path, head);
		while (len > 1 && head[len - 1] == '/')
			head[--len] = '\0';
		if (lstat(head, &st) == 0 && S_ISLNK(st.st_mode))
			return error_set(err, -ENOENT,
				"cannot resolve %s: %s is a symbolic link to something that does "
				"not exist",
				path, head);
		/* Another stage may have made it since. */
		if (lstat(head, &st) == 0)
			continue;
		len = cut_last(head, len);
		head[len] = '\0';
	}
	*ret_len = len;
	return 0;
}

static int append_missing(struct text *real, char *rest, const char *dir, struct error *err)
{
	char *state = NULL;

	for (char *name = strtok_r(rest, "/", &state); name != NULL;
		name = strtok_r(NULL, "/", &state)) {
		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0)
			return error_set(err, -ERR_USAGE,
				"cannot resolve %s: \"..\" after a directory that does not exist",
				dir);
		if (real->s[real->len - 1] != '/')
			text_add(real, "/");
		text_add(real, name);
	}
	return 0;
}

static int refuse_own_names(const char *path, const char *dir, struct error *err)
{
	_free_ char *copy = copy_text(path);
	char *state = NULL;

	for (char *name = strtok_r(copy, "/", &state); name != NULL;
		name = strtok_r(NULL, "/", &state))
		if (resolve_is_own_name(name))
			return error_set(err, -ERR_USAGE,
				"cannot stage into %s: the agent keeps its own files in %s", dir,
				name);
	return 0;
}

static int join(char *real, char *rest, const char *dir, char **ret_path, struct error *err)
{
	struct text path = {0};
	int code;

	text_add(&path, real);
	code = append_missing(&path, rest, dir, err);
	if (code == 0 && strcmp(path.s, "/") == 0)
		code = error_set(err, -ERR_USAGE, "cannot stage into /: name a directory in it");
	if (code == 0 && path.len >= PATH_MAX)
		code = error_set(
			err, -ENAMETOOLONG, "cannot resolve %s: the path is too long", dir);
	if (code == 0)
		code = refuse_own_names(path.s, dir, err);
	if (code == 0)
		*ret_path = text_take(&path);
	text_done(&path);
	return code;
}

/* A link into a node cache is itself what is staged into: it is not followed. */
static int resolve_beginning(
	const char *path, char real[static PATH_MAX], size_t *ret_len, struct error *err)
{
	_free_ char *above = NULL;

	if (!destination_is_link(path))
		return resolve_existing(path, real, ret_len, err);
	above = format_text("%.*s", (int)cut_last(path, strlen(path)), path);
	return resolve_existing(above, real, ret_len, err);
}

int resolve_path(const char *dir, char **ret_path, struct error *err)
{
	_free_ char *path = NULL;
	char real[PATH_MAX];
	size_t len = 0;
	int code = absolute(dir, &path, err);

	if (path != NULL)
		code = resolve_beginning(path, real, &len, err);
	return code < 0 ? code : join(real, path + len, dir, ret_path, err);
}

/* made: the part of path that exists. name: what cannot be made in it. */
static int cannot_make(
	const char *path, size_t made, const char *name, const char *dest, struct error *err)
{
	int errnum = errno;
	char why[64];
	_free_ char *there = format_text("%.*s", made > 0 ? (int)made : 1, path);
	_free_ char *missing = format_text("%s%s%s", there, made > 0 ? "/" : "", name);

	if (resolve_is_refusal(errnum))
		return error_set(err, -errnum,
			"cannot make %s: %s does not exist and %s is %s; mount a volume at %s or "
			"stage elsewhere",
			dest, missing, there, resolve_why(errnum, why), missing);
	errno = errnum;
	return error_set(err, -errnum, "cannot make %s: %s: %m", dest, missing);
}

static int enter(int dir_fd, const char *name)
{
	const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir_fd, name, flags);

	if (fd >= 0 || errno != ENOENT)
		return fd;
	/* Somebody else may have made it first: that is as good. */
	if (mkdirat(dir_fd, name, PARENT_MODE) != 0 && errno != EEXIST)
		return -1;
	return openat(dir_fd, name, flags);
}

int resolve_parents(const char *path, const char *dest, int *ret_fd, struct error *err)
{
	_close_ int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_free_ char *copy = copy_text(path);
	char *state = NULL;
	size_t made = 0;

	for (char *name = strtok_r(copy, "/", &state); name != NULL;
		name = strtok_r(NULL, "/", &state)) {
		int next = enter(fd, name);

		if (next < 0)
			return cannot_make(path, made, name, dest, err);
		close(fd);
		fd = next;
		made += strlen(name) + 1;
	}
	*ret_fd = take_fd(&fd);
	return 0;
}
