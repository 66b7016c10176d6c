/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_WRITE_PATH_H
#define STAGERUN_WRITE_PATH_H

#include "error.h"
#include <stdbool.h>
#include <stddef.h>

/* Names and link targets as text: what may be created is decided here and, where text cannot tell,
 * by the kernel (beneath.h). Pure functions, any thread. */

struct component {
	const char *s;
	size_t len;
};

/* The next component of *rest, however many slashes come before it; false at the end. */
bool path_next(const char **rest, struct component *ret);
bool component_is(const struct component *c, const char *s);

/* Brings an archive's name into the one form used from here on: "a/b/c", no empty, "." or ".."
 * components; "" is the root itself. max is at most PATH_MAX - 1; ret_path has max + 1 bytes, and
 * its content is undefined on failure. */
int path_normalise(const char *name, size_t max, char *ret_path, struct error *err);

/* For normalised paths. */
size_t path_depth(const char *path);      /* how many components; 0 for the root */
size_t path_parent_len(const char *path); /* bytes of the parent's path, without the slash */
const char *path_base(const char *path);  /* the last component */

/* Whether a symbolic link at `link` may point to target. *ret_verify: the target goes up again from
 * something it names itself, so that only the finished tree can tell where it leads. */
int path_check_target(
	const char *link, const char *target, size_t max, bool *ret_verify, struct error *err);

/* -ERR_REFUSED: "'name' was refused: <why>". A name too long for a message is cut. */
int entry_refused(struct error *err, const char *name, const char *why, ...)
	__attribute__((format(printf, 3, 4)));

#endif
