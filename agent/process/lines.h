/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_LINES_H
#define STAGERUN_PROCESS_LINES_H

#include <stddef.h>

enum { LINE_MAX_BYTES = 64 * 1024 };

/* Cuts a stream of bytes into lines. A line longer than LINE_MAX_BYTES comes in pieces. */
struct lines {
	void (*on_line)(void *ctx, const char *line, size_t len); /* without its newline */
	void *ctx;
	size_t len;
	char pending[LINE_MAX_BYTES];
};

void lines_add(struct lines *l, const char *bytes, size_t len);
void lines_end(struct lines *l); /* a last line without a newline is a line too */

#endif
