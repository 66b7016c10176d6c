/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_OPEN_BENEATH_H
#define STAGERUN_OPEN_BENEATH_H

/* Opens path beneath the directory root_fd without following a symbolic link in any component. path
 * is relative; "" and "." are the directory itself. flags: of open(2), without O_CREAT; O_CLOEXEC
 * and O_NOFOLLOW are added. Returns the descriptor or -errno: -ELOOP or -ENOTDIR for a symbolic
 * link, -EXDEV for a ".." component. Any thread. */
int open_beneath(int root_fd, const char *path, int flags);

/* The same with one openat2(). A failure may mean that the kernel does not have it. */
int open_beneath_at_once(int root_fd, const char *path, int flags);

#endif
