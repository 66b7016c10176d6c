/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_UNPACK_H
#define STAGERUN_UNPACK_H

#include "budget.h"
#include "object.h"
#include "text.h"
#include "tree.h"
#include <stdatomic.h>

/* Extracts a stream of decoded bytes into a tree. The format is detected by content: tar (ustar,
 * pax, GNU, sparse) and 7z are read by libarchive, cpio and zip by readers of our own, zip by its
 * central directory. Anything else is stored as one file. Each format is one file in agent/unpack
 * that defines a struct unpacker, and one line in the table in unpack.c. */

/* The first names that a selection left out, for the message that it left out all. Initially all
 * zero; any thread adds. */
enum { SELECTION_LEFT_MAX = 3 };
struct selection_left {
	atomic_uint n; /* of names that were left out; directories do not count */
	char *_Atomic names[SELECTION_LEFT_MAX]; /* heap */
};

/* Appends ": there are 'a', 'b', ..."; nothing if no name was left out. */
void select_describe_left(struct selection_left *left, struct text *ret);
void select_left_done(struct selection_left *left);

/* Which entries of an archive are extracted, and under which names. */
struct selection {
	const char *const *include; /* NULL-terminated globs, or NULL: all */
	const char *const *exclude;
	/* leading components to remove; an entry with no more components than that is left out */
	unsigned strip_components;
	struct selection_left *left; /* NULL: nobody wants to know them */
};

/* Returns the name under which an entry is extracted, which points into name, or NULL when the
 * entry is left out. sel may be NULL: every entry, under its own name. Pure; any thread.
 *
 * Globs are matched against the whole name inside the archive, before components are removed: '*'
 * and '?' do not match '/', "**" does ("**" between slashes also matches nothing at all); a pattern
 * that matches a directory matches everything below it; a pattern without '/' matches the last
 * component at any depth, one that begins with '/' only at the top. Exclude takes precedence over
 * include. "." and empty components are ignored, also when components are removed. */
const char *select_apply(const struct selection *sel, const char *name);

struct unpack_env {
	struct tree *tree;
	struct budget *budget;
	struct cancel *cancel;
	struct progress *progress; /* may be NULL */
	const struct selection *selection;
	unsigned threads; /* zip: number of workers that inflate entries; 0 is 1 */
	/* the character set of names in zips that do not declare theirs; NULL, "": bytes stay
	 * unchanged */
	const char *zip_names;
	int scratch_fd; /* descriptor of a directory for unnamed temporary files; borrowed */
};

struct unpack_input {
	struct reader *in; /* decoded bytes from the first one on; borrowed, read to the end */
	/* the same bytes for random access, borrowed; NULL when they were compressed */
	struct object *object;
	const char *source; /* for messages */
	/* the requested URL, whose name may promise an archive; NULL: no promise */
	const char *url;
	const struct said *said; /* response headers of the server; NULL: there is no server */
	const char *compression; /* name of the compression that was removed ("gzip"); NULL: none */
	const char *file_name;   /* the name of the result if it is a single file */
	bool extract;            /* false: store the input as one file, whatever it is */
	time_t mtime;            /* Last-Modified, for a single file; 0: the current time */
};

struct unpacker {
	const char *name;
	/* first: the first 512 bytes, or fewer when the stream is shorter */
	bool (*matches)(const uint8_t *first, size_t len);
	int (*unpack)(
		const struct unpack_env *env, const struct unpack_input *input, struct error *err);
	bool needs_object; /* zip, 7z: only for bytes that were not compressed as a whole */
};

/* Worker thread. Unpacks the whole input; *ret_format is the name of its format ("tar", "zip",
 * "file"). Content that is neither an archive nor compressed although its name promises that is
 * -ERR_FORMAT with a message about what it is, unless input->extract is false; a Git LFS pointer
 * is, whatever its name. A single file that the selection leaves out is -ERR_CONFIG. */
int unpack(const struct unpack_env *env, const struct unpack_input *input, const char **ret_format,
	struct error *err);

/* An open object, for unpack_decoded(). Everything but in is borrowed. */
struct unpack_object {
	struct object *object;
	struct reader *in;  /* its stream, or readers around that; closed in any case */
	const char *source; /* for messages */
	const char *url;    /* as requested: a single file is named after it */
	bool extract;       /* false: the bytes are stored as one file, compressed or not */
};

/* Worker thread. Decodes the object on a thread of its own, if it is compressed, and unpacks it. It
 * has succeeded when the last entry is written and every reader has come to its end, where digests
 * are verified. *ret_format: the name of the format, with the first suffix of its compression
 * ("tar.gz"); heap. */
int unpack_decoded(const struct unpack_env *env, const struct unpack_object *from,
	char **ret_format, struct error *err);

#endif
