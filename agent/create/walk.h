/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_WALK_H
#define STAGERUN_CREATE_WALK_H

#include "create_private.h"

/* The entries of a directory in the index's order: each directory before what is in it, names by their bytes;
 * files that have several names come last, each followed by its other names. One thread. */

struct walk_options {
	int root_fd;
	const char *where; /* for messages */
	const struct selection *selection;
	bool dereference; /* links out of the tree become what they point to */
	struct cancel *cancel;
};

struct walk;
int walk_new(const struct walk_options *opts, struct walk **ret, struct error *err);
void walk_free(struct walk *w); /* accepts NULL */

/* 1 and *ret (the caller's), 0 at the end. -ERR_REFUSED for what no datastore can hold. */
int walk_next(struct walk *w, struct item **ret, struct error *err);
/* Whether the entries from here on are files with several names. */
bool walk_is_at_links(const struct walk *w);

/* -ERR_REFUSED for what stands at path and is neither file, directory nor symbolic link. */
int walk_refuse(const char *where, const char *path, mode_t mode, struct error *err);
/* Mode and times. */
void walk_describe(struct item *i, const struct stat *st);
/* A regular file's entry. */
struct item *walk_file(const char *path, const struct stat *st);

/* Whether a symbolic link at path leads out of the tree. is_dir: whether path, which it may change meanwhile, and
 * all above it are directories and no links. */
bool link_leaves(
	const char *path, const char *target, bool (*is_dir)(void *ctx, char *path), void *ctx);

/* The order of the index. */
int path_order(const char *a, const char *b);

#endif
