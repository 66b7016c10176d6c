/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_INODE_H
#define STAGERUN_INODE_H

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Identifies a file, so that it can be told from another one that later has the same name. The
 * device is left out on purpose: its number differs from mount to mount of one volume, and the
 * state directory is on the same file system as the entries that it describes. The time of birth is
 * included because file systems such as ext4 give the number of a removed directory to the next
 * one. Not every file system keeps its numbers (FUSE, SMB, gVisor), and files that are copied to
 * another one, or come with an image, have new numbers: see journal.h. */
struct inode {
	uint64_t ino;
	mode_t mode; /* type and permission bits */
	uid_t uid;
	gid_t gid;
	bool has_birth; /* false if the file system does not store it */
	int64_t birth_sec;
	uint32_t birth_nsec;
};

/* Reads the inode of dir_fd/name, without following a symbolic link; name "": of dir_fd itself. 0
 * or -errno. */
int inode_stat(int dir_fd, const char *name, struct inode *ret);

/* Whether both are the same file, whatever its permissions are. */
bool inode_same(const struct inode *a, const struct inode *b);

/* Prints number and birth as text, which differs for different files. */
#define INODE_TEXT 64
void inode_print(const struct inode *inode, char buf[static INODE_TEXT]);

/* Opens the directory dir_fd/name without following a link; "." for dir_fd itself. NULL with errno.
 * The caller calls closedir(). */
DIR *publish_listing_open(int dir_fd, const char *name);

/* Returns the next name except "." and "..", valid until the next call; NULL at the end (errno 0)
 * or after a failure. */
const char *publish_listing_next(DIR *dir);

#endif
