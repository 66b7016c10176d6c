/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_WRITE_PARENTS_H
#define STAGERUN_WRITE_PARENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tree;

/* The directories one writer worked in last, kept open: archives list entries directory by
 * directory, so that nearly every one needs no look-up from the root. What is open stays right,
 * because a tree never loses a directory. */

#define PARENTS_KEPT 16

struct parent {
	char *path; /* NULL: free */
	size_t len;
	int fd;
	uint64_t used; /* the clock when last asked for */
};

struct parents {
	struct parent kept[PARENTS_KEPT];
	struct parent *last; /* NULL: none yet */
	uint64_t clock;
};

/* An O_PATH fd of the directory that the first len bytes of path name (none: the root); the
 * cache's, and open at least until PARENTS_KEPT other ones were asked for. Otherwise as
 * beneath_open(). */
int parents_get(struct parents *p, const struct tree *t, const char *path, size_t len, bool create,
	size_t *ret_bad_len);

void parents_done(struct parents *p); /* accepts a zeroed one */

#endif
