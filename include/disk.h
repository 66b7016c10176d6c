/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DISK_H
#define STAGERUN_DISK_H

#include <stdbool.h>
#include <stdint.h>

/* File systems: free space, syncing, description. Any thread. */

struct disk_space {
	uint64_t free;  /* bytes that this user may still write; for root all free bytes */
	uint64_t avail; /* bytes without those that are reserved for root */
	uint64_t total; /* bytes */
	/* Free, and all; of_inodes 0: allocated as needed, or not known. */
	uint64_t inodes, of_inodes;
};

/* False: not known. Many file systems in user space, and some network file systems, have no
 * statfs(), report zero for everything, or more free space than there is: such answers are
 * ignored. */
bool disk_space(int fd, struct disk_space *ret);

/* Syncs fd; data_only: as fdatasync() does. 0, or -1 and errno. 0 also if the file system does not
 * support it, for example for directories (SMB, 9p). */
int disk_sync(int fd, bool data_only);

/* Syncs the whole file system of fd. */
int disk_sync_all(int fd);

/* The file system of fd: " (ext4 at /data)"; "": not known. fd may be -1. Returns buf. */
#define DISK_TEXT 320
const char *disk_describe(int fd, char buf[static DISK_TEXT]);

#endif
