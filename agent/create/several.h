/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_SEVERAL_H
#define STAGERUN_CREATE_SEVERAL_H

#include "create_private.h"

/* Files with several names, kept until all else of a tree is told. One thread. */

struct named {
	struct item *item;
	dev_t dev;
	ino_t ino;
	size_t number; /* in the order of the walk */
	size_t first;  /* of the first name of this file */
};

struct several {
	struct named *names;
	size_t n, cap, told;
	char *first_name; /* of the file told last */
};

void several_keep(struct several *s, struct item *i, const struct stat *st); /* takes i */
void several_done(struct several *s);

/* When all are there: brings the names of each file together. */
void several_group(struct several *s);
/* Each file, and then its other names as hard links to the first; NULL at the end. The caller's. */
struct item *several_next(struct several *s);

#endif
