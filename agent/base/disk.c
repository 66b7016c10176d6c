/* SPDX-License-Identifier: MIT */
/* Free space of a file system, syncing, and which file system it is. Any thread. */
#include "disk.h"
#include "defer.h"
#include "text.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static uint64_t in_bytes(uint64_t blocks, uint64_t size)
{
	uint64_t bytes;

	return __builtin_mul_overflow(blocks, size, &bytes) ? UINT64_MAX : bytes;
}

bool disk_space(int fd, struct disk_space *ret)
{
	struct statvfs fs;
	uint64_t size;

	if (fstatvfs(fd, &fs) != 0)
		return false;
	size = fs.f_frsize != 0 ? fs.f_frsize : fs.f_bsize;
	if (size == 0 || fs.f_blocks == 0 || fs.f_bfree > fs.f_blocks || fs.f_bavail > fs.f_blocks)
		return false;
	/* Root may use the blocks that are reserved for it. */
	*ret = (struct disk_space){
		.free = in_bytes(geteuid() == 0 ? fs.f_bfree : fs.f_bavail, size),
		.avail = in_bytes(fs.f_bavail, size),
		.total = in_bytes(fs.f_blocks, size)};
	if (fs.f_files != 0 && fs.f_ffree <= fs.f_files && fs.f_favail <= fs.f_files) {
		ret->of_inodes = fs.f_files;
		ret->inodes = fs.f_favail;
	}
	return true;
}

static int ignore_unsupported(int failed)
{
	switch (failed != 0 ? errno : 0) {
	case EINVAL:
	case EROFS:
	case ENOSYS:
	case EOPNOTSUPP:
		return 0;
	default:
		return failed;
	}
}

int disk_sync(int fd, bool data_only)
{
	return ignore_unsupported(data_only ? fdatasync(fd) : fsync(fd));
}

int disk_sync_all(int fd)
{
	int failed = syncfs(fd);

	/* Fails under a seccomp profile that does not know the call. */
	if (failed != 0 && (errno == ENOSYS || errno == EPERM)) {
		sync();
		return 0;
	}
	return ignore_unsupported(failed);
}

/* Returns the mount ID, with which lines of mountinfo begin; -1: not known. */
static long mount_id_of(int fd)
{
	_free_ char *path = text_format("/proc/self/fdinfo/%d", fd);
	_free_ char *line = NULL;
	FILE *f = fd < 0 ? NULL : fopen(path, "re");
	size_t size = 0;
	long id = -1;

	while (f != NULL && id < 0 && getline(&line, &size, f) > 0)
		if (strncmp(line, "mnt_id:", 7) == 0)
			id = strtol(line + 7, NULL, 10);
	if (f != NULL)
		fclose(f);
	return id;
}

/* Parses "36 35 98:0 /root /point options optional - type source super"; the results point into
 * line. False: the line is of another mount. */
static bool parse_mount(char *line, long id, const char **ret_point, const char **ret_type)
{
	char *end, *state = NULL, *type = strstr(line, " - ");

	if (strtol(line, &end, 10) != id || type == NULL)
		return false;
	*type = '\0';
	*ret_type = strtok_r(type + 3, " \n", &state);
	state = NULL;
	*ret_point = strtok_r(line, " ", &state);
	for (int i = 0; i < 4 && *ret_point != NULL; i++)
		*ret_point = strtok_r(NULL, " ", &state);
	return *ret_type != NULL && *ret_point != NULL;
}

const char *disk_describe(int fd, char buf[static DISK_TEXT])
{
	long id = mount_id_of(fd);
	FILE *f = id < 0 ? NULL : fopen("/proc/self/mountinfo", "re");
	_free_ char *line = NULL;
	const char *point, *type;
	size_t size = 0;

	buf[0] = '\0';
	while (f != NULL && buf[0] == '\0' && getline(&line, &size, f) > 0)
		if (parse_mount(line, id, &point, &type))
			snprintf(buf, DISK_TEXT, " (%.60s at %.200s)", type, point);
	if (f != NULL)
		fclose(f);
	return buf;
}
