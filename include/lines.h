/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_LINES_H
#define STAGERUN_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Reads lines of a state file in bounded memory, without trusting its content or type: it never
 * waits for a FIFO or a device, and a line of more than LINE_BYTES_MAX bytes ends the file. Does
 * not use the file offset, so several readers may share one descriptor. One thread for each
 * reader. */
enum { LINE_BYTES_MAX = 1 << 20 };

struct lines {
	int fd;
	/* Offsets of the next read, and of the end of the file or the part. */
	off_t at, end;
	char *buf;
	bool failed;            /* lines_next() returned 0 because reading failed */
	size_t cap, from, have; /* of buf: its size, and the bytes from..have not returned yet */
};

/* Opens a regular file beneath dir_fd read-only; the last component may not be a symbolic link. -1
 * with errno: ENOENT if it is anything else. The descriptor is the caller's. */
int lines_open_file(int dir_fd, const char *name);

/* Reads len bytes of fd from offset at on. fd is borrowed until lines_done(). */
void lines_init(struct lines *l, int fd, off_t at, off_t len);
void lines_done(struct lines *l);

/* 1: *ret is the line with its '\n', valid until the next call. 0: the end, an incomplete or too
 * long line, or a failure (l->failed). */
int lines_next(struct lines *l, const char **ret, size_t *ret_len);

/* The offset of the next line, and a seek to such an offset. */
off_t lines_tell(const struct lines *l);
void lines_seek(struct lines *l, off_t at);

#endif
