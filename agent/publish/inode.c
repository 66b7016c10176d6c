/* SPDX-License-Identifier: MIT */
/* Telling files apart by inode and time of birth. Any thread. It follows no links and remembers
 * nothing. */
#include "inode.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define LOOK_FLAGS (AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT)

/* Some seccomp profiles answer EPERM to a statx() they have never heard of. */
static int look_without_statx(int dir_fd, const char *name, struct inode *ret)
{
	struct stat st;

	if (fstatat(dir_fd, name, &st, LOOK_FLAGS) != 0)
		return -errno;
	*ret = (struct inode){
		.ino = st.st_ino, .mode = st.st_mode, .uid = st.st_uid, .gid = st.st_gid};
	return 0;
}

int inode_look(int dir_fd, const char *name, struct inode *ret)
{
	struct statx st;

	if (statx(dir_fd, name, LOOK_FLAGS, STATX_BASIC_STATS | STATX_BTIME, &st) != 0)
		return errno == EPERM || errno == ENOSYS ? look_without_statx(dir_fd, name, ret)
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

bool inode_is_mount_root(int dir_fd, const char *name)
{
	struct statx st;
	struct stat above, here;

	if (statx(dir_fd, name, LOOK_FLAGS, STATX_TYPE, &st) == 0 &&
		(st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) != 0)
		return (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;

	/* Before Linux 5.8. A bind mount within one file system goes unnoticed here, and is found
	 * when a directory cannot be renamed next to it. */
	return fstat(dir_fd, &above) == 0 && fstatat(dir_fd, name, &here, LOOK_FLAGS) == 0 &&
	       above.st_dev != here.st_dev;
}
