/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_INODE_H
#define STAGERUN_PUBLISH_INODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What tells one file from another that later took its name. The device is left out on purpose: its
 * number differs from mount to mount of one volume, and the state directory lies on the same file
 * system as what it speaks of. The time of birth is there because file systems such as ext4 give
 * the number of a removed directory to the next one. */
struct inode {
	uint64_t ino;
	mode_t mode; /* type and permission bits */
	uid_t uid;
	gid_t gid;
	bool has_birth; /* false where the file system does not keep it */
	int64_t birth_sec;
	uint32_t birth_nsec;
};

/* Does not follow a symbolic link. name "": dir_fd itself. 0 or -errno. */
int inode_look(int dir_fd, const char *name, struct inode *ret);

/* The same file as when it was recorded, whatever its permissions are now. */
bool inode_same(const struct inode *a, const struct inode *b);

/* Is a file system mounted at dir_fd/name? */
bool inode_is_mount_root(int dir_fd, const char *name);

#endif
