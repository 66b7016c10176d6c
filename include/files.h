/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_FILES_H
#define STAGERUN_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Files that are read, written and created in ways that many need. Any thread. */

/* Reads len bytes at offset, or fewer where the file ends before. Returns their number or -errno,
 * to which errno is set. */
ssize_t files_read_at(int fd, void *buf, size_t len, uint64_t offset);

/* Writes all bytes at offset; FILES_POSITION: at the position of fd. Returns 0 or -errno, to which
 * errno is set; -EIO if nothing is written and no reason is given. */
#define FILES_POSITION UINT64_MAX
int files_write_all(int fd, const void *bytes, size_t len, uint64_t offset);
/* The same at the position of fd, a stream that another process may have made non-blocking: waits
 * until it has room, at most wait_ms each time (-1: forever), or fails with -ETIMEDOUT. */
int files_write_stream(int fd, const void *bytes, size_t len, int wait_ms);

/* Creates a file of this mode in dir_fd for reading and writing. Returns its descriptor or -errno.
 * ret_name is "" if the file has no name, else a name that the caller must unlink. */
#define FILES_UNNAMED_TEXT 48
int files_create_unnamed(int dir_fd, mode_t mode, char ret_name[static FILES_UNNAMED_TEXT]);
/* The same with mode 0600, and without a name in any case. */
int files_create_temporary(int dir_fd);

#endif
