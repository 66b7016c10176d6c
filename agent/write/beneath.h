/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_WRITE_BENEATH_H
#define STAGERUN_WRITE_BENEATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tree;

/* Whether the kernel, and whatever filters our system calls, has openat2. */
bool beneath_has_openat2(int root_fd);

/* Opens (O_PATH) the directory that a normalised, non-empty path names in the tree: a real
 * directory, reached through real directories only. With create, missing ones are made. Returns the
 * fd, or -errno and in *ret_bad_len how much of path was looked at: -ENOENT (only without create),
 * -ENOTDIR when that part of path is something else, also a symbolic link to a directory. Any
 * thread. */
int beneath_open(const struct tree *t, const char *path, bool create, size_t *ret_bad_len);

/* mkdirat() that is not deceived by umask or ACL. 0 or -errno. */
int beneath_mkdir(const struct tree *t, int parent_fd, const char *base, mode_t mode);

#endif
