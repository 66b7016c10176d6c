/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_INDEX_H
#define STAGERUN_INDEX_H

#include "error.h"
#include "text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* The index of a version: every entry and where its content lies, in parts. A part stands alone and is one
 * zstd frame (with content size and checksum) of text; lines end in '\n', fields are separated by one '\t':
 *
 *   stagerun-index  1                                                  the first line
 *   p  KEY                                                             object 0, 1, ... of this part
 *   k  OBJECT  OFFSET  LENGTH  RAW                                     frame 0, 1, ... of this part
 *   d  MODE  MTIME  PATH                                               directory
 *   l  MODE  MTIME  PATH  TARGET                                       symbolic link
 *   f  MODE  MTIME  SIZE  SHA256  FRAME  SKIP  FLAGS  PATH             file
 *   h  MODE  MTIME  SIZE  SHA256  FRAME  SKIP  FLAGS  PATH  TARGET     hard link to the path TARGET
 *   x  MODE  MTIME  SIZE  ETAG  PATH  KEY                              an S3 object that is not ours
 *
 * MODE is octal; MTIME is SECONDS.NANOSECONDS, nine digits of them, to be added also when SECONDS is negative;
 * '-' stands for nothing; FLAGS is 's' for a sparse file. KEY, PATH, TARGET and ETAG are bytes, with \t, \n,
 * \r and \\ for a tab, a line feed, a carriage return and a backslash. An object's line comes before the
 * frames in it, and all frames of an entry, with numbers that follow each other, before the entry.
 *
 * Entries are in the order of a walk (each directory before what is in it, names by their bytes), files with
 * several names come last, each followed by its other names. Any thread, one at a time. */

#define INDEX_FORMAT       1
#define INDEX_PART_ENTRIES ((size_t)16384)    /* a part has at most so many */
#define INDEX_PART_TEXT    ((size_t)4 << 20)  /* and is full with so much text */
#define INDEX_TEXT_MAX     ((size_t)64 << 20) /* more, for an entry with many frames, is refused */
#define INDEX_FRAME_MAX    ((uint32_t)64 << 20) /* decoded bytes of one frame */

enum index_type {
	INDEX_FILE = 'f',
	INDEX_DIR = 'd',
	INDEX_SYMLINK = 'l',
	INDEX_HARDLINK =
		'h', /* target: the path that comes before it; the content too, for a part of a tree */
	INDEX_REFERENCE =
		'x', /* content is an S3 object that is not ours: target is its key, etag its version */
};

/* Bytes [offset, offset + length) of an object are one zstd frame that decodes to raw bytes. */
struct index_frame {
	uint32_t object; /* in index_part.objects */
	uint64_t offset;
	uint32_t length, raw;
	uint64_t
		raw_before; /* decoded bytes of the part's frames before this one; set by the reader */
};

struct index_entry {
	enum index_type type;
	mode_t mode; /* permission bits */
	struct timespec mtime;
	uint64_t size;      /* of files, hard links and references */
	const char *path;   /* relative, no "." or ".." in it; "." is the root itself */
	const char *target; /* symbolic link, hard link, reference; else NULL */
	const char *sha256; /* 64 hex digits of the content; NULL: has none */
	const char *etag;   /* reference */
	uint32_t frame,
		skip; /* the content begins skip bytes into this decoded frame (index_part.frames) and
				  goes on in the next ones; frame INDEX_NO_FRAME when size is 0 */
	bool sparse; /* runs of zeros are holes */
};
#define INDEX_NO_FRAME UINT32_MAX

/* One part, parsed. Strings point into text. */
struct index_part {
	char *text;
	struct index_entry *entries;
	size_t n_entries;
	struct index_frame *frames;
	size_t n_frames;
	const char **objects; /* keys in the store */
	size_t n_objects;
};

/* Parses the stored (compressed) bytes of a part. -ERR_FORMAT; hostile bytes are refused: paths and targets
 * are checked, references to frames are within the part. */
int index_part_decode(const void *bytes, size_t len, struct index_part *ret, struct error *err);
void index_part_done(struct index_part *p);

/* Writing: entries in order; whenever a part is full, and at the end, on_part gets its stored bytes. */
struct index_part_info {
	const void *bytes;
	size_t len;
	char sha256[65]; /* of bytes */
	uint64_t entries;
	const char *first, *last; /* paths */
};
struct index_writer;
struct index_writer *index_writer_new(
	int (*on_part)(void *ctx, const struct index_part_info *part, struct error *err),
	void *ctx);
/* The frames that hold e's content, the first of them with e->skip (n_frames 0: none); frames[i].object is
 * ignored, object names the one they are all in. Everything is copied. */
int index_writer_add(struct index_writer *w, const struct index_entry *e, const char *object,
	const struct index_frame *frames, size_t n_frames, struct error *err);
int index_writer_finish(struct index_writer *w, struct error *err); /* the last part */
void index_writer_free(struct index_writer *w);                     /* accepts NULL */

/* A relative path without empty components, "." and "..", as all in an index are; or "." itself. Any thread. */
bool path_is_plain(const char *path);

#endif
