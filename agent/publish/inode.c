/* SPDX-License-Identifier: MIT */
/* Identity of files by inode and time of birth, and reading of directories. Any thread; an open
 * directory is used by one thread at a time. No function follows links or stores anything. */
#include "inode.h"
#include "defer.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

DIR *publish_listing_open(int dir_fd, const char *name)
{
	_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir != NULL)
		take_fd(&fd);
	return dir;
}

const char *publish_listing_next(DIR *dir)
{
	const struct dirent *entry;

	do {
		errno = 0;
		/* This is safe: no other thread uses this stream. */
		entry = readdir(dir); /* NOLINT(concurrency-mt-unsafe) */
	} while (entry != NULL &&
		 (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
	return entry != NULL ? entry->d_name : NULL;
}

#define STAT_FLAGS (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT)

/* Some seccomp profiles answer EPERM to a statx() that they do not know. */
static int stat_without_statx(int dir_fd, const char *name, struct inode *ret)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, STAT_FLAGS) != 0)
		return -errno;
	*ret = (struct inode){
		.ino = st.st_ino, .mode = st.st_mode, .uid = st.st_uid, .gid = st.st_gid};
	return 0;
}

int inode_stat(int dir_fd, const char *name, struct inode *ret)
{
	struct statx st;

	if (statx(dir_fd, name, STAT_FLAGS, STATX_BASIC_STATS | STATX_BTIME, &st) != 0)
		return errno == EPERM || errno == ENOSYS ? stat_without_statx(dir_fd, name, ret)
							 : -errno;
	*ret = (struct inode){.ino = st.stx_ino,
		.mode = st.stx_mode,
		.uid = st.stx_uid,
		.gid = st.stx_gid,
		.has_birth = (st.stx_mask & STATX_BTIME) != 0,
		.birth_sec = st.stx_btime.tv_sec,
		.birth_nsec = st.stx_btime.tv_nsec};
	return 0;
}

bool inode_same(const struct inode *a, const struct inode *b)
{
	if (a->ino != b->ino || (a->mode & S_IFMT) != (b->mode & S_IFMT))
		return false;
	if (!a->has_birth || !b->has_birth)
		return true;
	return a->birth_sec == b->birth_sec && a->birth_nsec == b->birth_nsec;
}

void inode_print(const struct inode *inode, char buf[static INODE_TEXT])
{
	snprintf(buf, INODE_TEXT, "%" PRIu64 " %" PRId64 " %" PRIu32, inode->ino,
		inode->has_birth ? inode->birth_sec : 0, inode->has_birth ? inode->birth_nsec : 0);
}
