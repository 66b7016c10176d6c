/* SPDX-License-Identifier: MIT */
/* Files: the caller's umask (set once, before threads are started), reading and writing, opening
 * paths without symbolic links, temporary files and the directory for them. Any thread. */
#include "files.h"
#include "defer.h"
#include "open_beneath.h"
#include "random.h"
#include "temporary.h"
#include "text.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static mode_t callers_umask;

mode_t umask_set_aside(void)
{
	callers_umask = umask(0);
	return callers_umask;
}

mode_t umask_apply(mode_t mode)
{
	return mode & ~callers_umask;
}

ssize_t files_read_at(int fd, void *buf, size_t len, uint64_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* Sets errno to ETIMEDOUT when there is no room in time. */
static bool wait_for_room(int fd, int wait_ms)
{
	if (poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, wait_ms) != 0)
		return true;
	errno = ETIMEDOUT;
	return false;
}

static int write_all(int fd, const void *bytes, size_t len, uint64_t offset, int wait_ms)
{
	const char *from = bytes;

	while (len > 0) {
		ssize_t n = offset == FILES_POSITION ? write(fd, from, len)
						     : pwrite(fd, from, len, (off_t)offset);

		if (n < 0 && (errno == EINTR || (errno == EAGAIN && wait_for_room(fd, wait_ms))))
			continue;
		/* POSIX does not say what such an answer means: asking again may never end. */
		if (n == 0)
			errno = EIO;
		if (n <= 0)
			return -errno;
		from += n;
		len -= (size_t)n;
		if (offset != FILES_POSITION)
			offset += (uint64_t)n;
	}
	return 0;
}

int files_write_all(int fd, const void *bytes, size_t len, uint64_t offset)
{
	return write_all(fd, bytes, len, offset, -1);
}

int files_write_stream(int fd, const void *bytes, size_t len, int wait_ms)
{
	return write_all(fd, bytes, len, FILES_POSITION, wait_ms);
}

static int create_named(int dir_fd, mode_t mode, char name[static FILES_UNNAMED_TEXT])
{
	for (int attempt = 0; attempt < 16; attempt++) {
		uint64_t random = 0;
		int fd;

		random_fill(&random, sizeof(random));
		snprintf(name, FILES_UNNAMED_TEXT, ".unnamed-%016llx", (unsigned long long)random);
		fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
		if (fd >= 0)
			return fd;
		name[0] = '\0';
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

int files_create_unnamed(int dir_fd, mode_t mode, char ret_name[static FILES_UNNAMED_TEXT])
{
	int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);

	ret_name[0] = '\0';
	/* NFS and others have no O_TMPFILE, and fail with different errnos. */
	return fd >= 0 ? fd : create_named(dir_fd, mode, ret_name);
}

int files_create_temporary(int dir_fd)
{
	char name[FILES_UNNAMED_TEXT];
	int fd = files_create_unnamed(dir_fd, 0600, name);

	if (name[0] != '\0')
		unlinkat(dir_fd, name, 0);
	return fd;
}

/* Opening beneath a directory. */

#define DIRECTORY (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int open_beneath_at_once(int root_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (unsigned)(flags | O_NOFOLLOW | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd = syscall(SYS_openat2, root_fd, *path != '\0' ? path : ".", &how, sizeof(how));

	return fd < 0 ? -errno : (int)fd;
}

/* Copies the first component of path, unless it is too long; *ret_len: its length. Returns the rest
 * of path after the slashes, "" after the last component. */
static const char *next_component(
	const char *path, char component[static NAME_MAX + 1], size_t *ret_len)
{
	size_t len = strcspn(path, "/");

	*ret_len = len;
	if (len <= NAME_MAX)
		*(char *)mempcpy(component, path, len) = '\0';
	path += len;
	return path + strspn(path, "/");
}

/* Opens one component at a time. */
static int walk_components(int root_fd, const char *path, int flags)
{
	int dir = root_fd, fd;

	do {
		char name[NAME_MAX + 1];
		size_t len;

		path = next_component(path, name, &len);
		if (len > NAME_MAX)
			fd = -ENAMETOOLONG;
		else if (len == 2 && memcmp(name, "..", 2) == 0)
			fd = -EXDEV;
		else if ((fd = openat(dir, len > 0 ? name : ".",
				  *path != '\0' ? DIRECTORY : flags | O_NOFOLLOW | O_CLOEXEC)) < 0)
			fd = -errno;
		if (dir != root_fd)
			close(dir);
		dir = fd;
	} while (fd >= 0 && *path != '\0');
	return fd;
}

/* The walk meets every error of openat2() that concerns the path, so it decides. */
int open_beneath(int root_fd, const char *path, int flags)
{
	int fd = open_beneath_at_once(root_fd, path, flags);

	return fd >= 0 ? fd : walk_components(root_fd, path, flags);
}

enum { CANDIDATES = 5 };

/* A file system without free inodes fails when the file is created, a full one when it is
 * written. */
static int try_directory(const char *dir)
{
	_free_ char *path = text_format("%s/stagerun-probe-XXXXXX", dir);
	_close_ int fd = mkostemp(path, O_CLOEXEC);
	int code = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, "\n", 1) != 1)
		code = -errno;
	unlink(path);
	return code;
}

static bool forbids_programs(const char *dir)
{
	struct statvfs fs;

	return statvfs(dir, &fs) == 0 && (fs.f_flag & ST_NOEXEC) != 0;
}

static bool comes_earlier(const char *const *dirs, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (dirs[k] != NULL && strcmp(dirs[k], dirs[i]) == 0)
			return true;
	return false;
}

/* Returns NULL if the directory is suitable. *ret_works: a file could be written. */
static const char *check_directory(const char *dir, bool executes, bool *ret_works)
{
	int code = try_directory(dir);

	*ret_works = code == 0;
	if (code == 0)
		return executes && forbids_programs(dir) ? "mounted noexec" : NULL;
	return strerrordesc_np(-code);
}

/* Returns the first suitable directory, else the first one that works, else NULL. why: the reasons
 * against those before it; *ret_first: the first reason, heap. */
static const char *choose_directory(
	const struct temporary_request *wish, struct text *why, char **ret_first)
{
	const char *dirs[CANDIDATES] = {wish->tmpdir, "/tmp", "/var/tmp", wish->home, "/dev/shm"};
	const char *second_best = NULL;

	for (size_t i = 0; i < CANDIDATES; i++) {
		const char *wrong;
		bool works;

		if (dirs[i] == NULL || *dirs[i] == '\0' || comes_earlier(dirs, i))
			continue;
		wrong = check_directory(dirs[i], wish->executes, &works);
		if (wrong == NULL)
			return dirs[i];
		if (works && second_best == NULL)
			second_best = dirs[i];
		text_addf(why, "%s%s: %s", why->len > 0 ? ", " : "", dirs[i], wrong);
		if (*ret_first == NULL)
			*ret_first = text_copy(why->s);
	}
	return second_best;
}

int temporary_directory(
	const struct temporary_request *wish, char **ret, char **ret_why, struct error *err)
{
	_free_ char *first = NULL;
	struct text why = {0};
	const char *dir = choose_directory(wish, &why, &first);
	int code = 0;

	if (dir == NULL)
		code = error_set(err, -EROFS,
			"there is no directory for temporary files (%s); mount a writable one at /tmp, or set TMPDIR",
			why.s);
	else
		*ret = text_copy(dir);
	if (code == 0 && ret_why != NULL)
		*ret_why = take_ptr(&first);
	text_done(&why);
	return code;
}
