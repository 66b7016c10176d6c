/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_UNPACK_H
#define STAGERUN_UNPACK_H

#include "budget.h"
#include "object.h"
#include "tree.h"

/* From a stream of decoded bytes to entries in a tree. Containers are known by their content: tar
 * (ustar, pax, GNU, sparse), cpio and 7z through libarchive; zip by its central directory. Anything
 * else is one file. Each container is one file in agent/unpack with a struct unpacker, and one line
 * in the table in unpack.c. */

/* Which entries, and under which name. */
struct selection {
	const char *const *include; /* NULL-terminated globs, or NULL: all */
	const char *const *exclude;
	unsigned strip_components; /* leading components to cut; shorter names are left out */
};

/* Globs are matched against the whole name inside the archive, before stripping: '*' and '?' stop
 * at
 * '/', "**" does not (and "**" between slashes may be nothing at all); a pattern that matches a
 * directory matches all beneath it; a pattern without '/' matches the last component at any depth,
 * one that begins with '/' only at the top. Exclude wins over include. "." and empty components are
 * none, also for stripping. Returns the name to use (inside name), or NULL when the entry is left
 * out. */
const char *selection_apply(const struct selection *sel, const char *name);

struct unpack_env {
	struct tree *tree;
	struct budget *budget;
	struct cancel *cancel;
	struct progress *progress; /* may be NULL */
	const struct selection *selection;
	unsigned threads; /* zip: entries inflate on this many */
	int scratch_fd; /* a directory for an unnamed temporary file, where the format needs one */
};

struct unpack_input {
	struct reader *in; /* decoded bytes from the first one; borrowed, read to its end */
	struct object
		*object;    /* the same bytes for random access; NULL when they were compressed */
	const char *source; /* for messages */
	const char *file_name; /* what a single file is called */
	bool extract;          /* false: store it as one file, whatever it is */
	time_t mtime;          /* for a single file: Last-Modified, or 0: now */
};

struct unpacker {
	const char *name;
	bool (*matches)(const uint8_t *first, size_t len); /* the first 512 bytes, or fewer */
	int (*unpack)(
		const struct unpack_env *env, const struct unpack_input *input, struct error *err);
	bool needs_object; /* zip, 7z: only for bytes that were not compressed around it */
};

/* Worker thread. Unpacks all of input; *ret_format says what it was ("tar", "zip", "file"). */
int unpack(const struct unpack_env *env, const struct unpack_input *input, const char **ret_format,
	struct error *err);

#endif
