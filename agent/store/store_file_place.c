/* SPDX-License-Identifier: MIT */
/* How a file comes into a store in a directory: written beside the others, synced and then renamed or, where it may
 * not replace another, linked into its place. Both are atomic, also over NFS. Directories come with what is in
 * them. Modes are explicit: the agent's umask is 0. */
#include "defer.h"
#include "store_file.h"
#include "text.h"
#include "tree.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILE_MODE = 0644,
	DIR_MODE = 0755,
	PLACE_TRIES = 20 /* how often another process may remove the directory that was just made */
};

static void sync_directory_of(char *path)
{
	char *slash = strrchr(path, '/');
	_close_ int fd = -1;

	if (slash == path)
		return;
	*slash = '\0';
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*slash = '/';
	/* Some file systems cannot sync directories: they promise nothing then. */
	if (fd >= 0)
		(void)!fsync(fd);
}

/* The directories that path lies in. */
static int make_parents(char *path, struct error *err)
{
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		int made, errnum;

		*slash = '\0';
		made = mkdir(path, DIR_MODE);
		errnum = errno;
		if (made == 0)
			sync_directory_of(path);
		else if (errnum != EEXIST && access(path, F_OK) != 0)
			return disk_error(err, errnum, -1, "create", path);
		*slash = '/';
	}
	return 0;
}

int store_file_temporary(
	const struct store_hand *h, char **ret_path, int *ret_fd, struct error *err)
{
	for (int tries = 0;; tries++) {
		char random[17];
		_free_ char *path = NULL;
		_close_ int fd = -1;
		int code;

		store_random(random);
		path = format_text("%s/" STORE_FILE_TEMPORARY "/%s", store_file_root(h), random);
		fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
		if (fd >= 0) {
			*ret_fd = take_fd(&fd);
			*ret_path = take_ptr(&path);
			return 0;
		}
		if ((errno != ENOENT && errno != EEXIST) || tries == PLACE_TRIES)
			return disk_error(err, errno, -1, "create", path);
		code = make_parents(path, err);
		if (code < 0)
			return code;
	}
}

int store_file_write(
	int fd, const char *path, const void *bytes, size_t len, uint64_t offset, struct error *err)
{
	const char *from = bytes;

	while (len > 0) {
		ssize_t n = pwrite(fd, from, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return disk_error(err, errno, fd, "write", path);
		from += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int cannot_place(int errnum, int fd, const char *path, bool if_absent, struct error *err)
{
	if (if_absent && errnum == EEXIST)
		return error_set(err, -EEXIST, "'%s' exists already", path);
	if (if_absent && (errnum == EPERM || errnum == EOPNOTSUPP || errnum == ENOSYS))
		return error_set(err, -ERR_UNSUPPORTED,
			"the file system of '%s' has no hard links, which decide between creators: "
			"use a directory on another one",
			path);
	return disk_error(err, errnum, fd, "create", path);
}

static bool is_in_place(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

/* Over NFS a request is sent again when its answer was lost, and then the answer is of the second: that the name is
 * taken, or that there is nothing to rename. */
static int put_name(int fd, const char *temporary, const char *path, bool if_absent)
{
	int errnum;

	if ((if_absent ? link(temporary, path) : rename(temporary, path)) == 0)
		return 0;
	errnum = errno;
	return errnum == (if_absent ? EEXIST : ENOENT) && is_in_place(fd, path) ? 0 : errnum;
}

int store_file_place(const struct store_hand *h, int fd, const char *temporary, const char *key,
	bool if_absent, struct error *err)
{
	_free_ char *path = store_file_path(h, key);
	int tries = 0, errnum;

	if (fsync(fd) < 0)
		return disk_error(err, errno, fd, "write", path);
	while ((errnum = put_name(fd, temporary, path, if_absent)) != 0) {
		int code;

		if (errnum != ENOENT || tries++ == PLACE_TRIES)
			return cannot_place(errnum, fd, path, if_absent, err);
		code = make_parents(path, err);
		if (code < 0)
			return code;
	}
	sync_directory_of(path);
	return 0;
}
