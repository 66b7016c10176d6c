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

/* The index of a version lists every entry, and where its content lies. It is divided into parts,
 * each of which can be read alone and is one zstd frame (with content size and checksum) of text.
 * Lines end in '\n', fields are separated by one '\t':
 *
 *   stagerun-index  1                                                  the first line
 *   p  KEY                                                             object 0, 1, ... of the part
 *   k  OBJECT  OFFSET  LENGTH  RAW                                     frame 0, 1, ... of the part
 *   d  MODE  MTIME  PATH                                               directory
 *   l  MODE  MTIME  PATH  TARGET                                       symbolic link
 *   f  MODE  MTIME  SIZE  SHA256  FRAME  SKIP  FLAGS  PATH             file
 *   h  MODE  MTIME  SIZE  SHA256  FRAME  SKIP  FLAGS  PATH  TARGET     hard link to TARGET
 *   x  MODE  MTIME  SIZE  ETAG  PATH  KEY                              S3 object of another owner
 *
 * MODE is octal. MTIME is SECONDS.NANOSECONDS; the nanoseconds have nine digits and are added also
 * when SECONDS is negative. '-' means an empty field. FLAGS is 's' for a sparse file. KEY, PATH,
 * TARGET and ETAG are bytes, in which \t, \n, \r and \\ stand for a tab, a line feed, a carriage
 * return and a backslash. The line of an object precedes the frames in it; the frames of an entry
 * have consecutive numbers and precede the entry.
 *
 * Entries are in the order of a walk: each directory before its content, names by their bytes.
 * Files with several names come last, each followed by its other names. Any thread, one at a
 * time. */

#define INDEX_FORMAT       1
#define INDEX_PART_ENTRIES ((size_t)16384) /* limit for the entries of a part */
/* Bytes of text after which the writer ends a part. */
#define INDEX_PART_TEXT ((size_t)4 << 20)
/* The last entry of a part may name many frames and make the text longer than that: limit for the
 * text of a part. */
#define INDEX_TEXT_MAX  ((size_t)64 << 20)
#define INDEX_FRAME_MAX ((uint32_t)64 << 20) /* limit for the decoded bytes of a frame */

enum index_type {
	INDEX_FILE = 'f',
	INDEX_DIR = 'd',
	INDEX_SYMLINK = 'l',
	/* target: the path of the file before it. The location of the content is repeated, for
	 * readers that did not select that file. */
	INDEX_HARDLINK = 'h',
	/* The content is an S3 object that is not ours: target is its key, etag its version. */
	INDEX_REFERENCE = 'x',
};

/* The bytes [offset, offset + length) of an object are one zstd frame, which decodes to raw
 * bytes. */
struct index_frame {
	uint32_t object; /* in index_part.objects */
	uint64_t offset;
	uint32_t length, raw;
	/* Decoded bytes of the part's frames before this one. Set by the reader. */
	uint64_t raw_before;
};

struct index_entry {
	enum index_type type;
	mode_t mode; /* permission bits */
	struct timespec mtime;
	uint64_t size;      /* of files, hard links and references */
	const char *path;   /* see index_path_is_plain(); "." is the root itself */
	const char *target; /* symbolic link, hard link, reference; else NULL */
	const char *sha256; /* of the content, 64 hex digits; NULL: there is none */
	const char *etag;   /* reference */
	/* The content begins skip bytes into the decoded frame index_part.frames[frame], and
	 * continues in the frames after it. frame is INDEX_NO_FRAME when size is 0. */
	uint32_t frame, skip;
	bool sparse; /* runs of zeros are holes */
};
#define INDEX_NO_FRAME UINT32_MAX

/* A parsed part. The strings point into text. */
struct index_part {
	char *text;
	struct index_entry *entries;
	size_t n_entries;
	struct index_frame *frames;
	size_t n_frames;
	const char **objects; /* keys in the store */
	size_t n_objects;
};

/* Parses the stored (compressed) bytes of a part, which need not be trusted: paths and targets are
 * checked, and references to frames lie within the part. Free *ret with index_part_done(). Any
 * thread. Errors: -ERR_FORMAT, -ENOMEM. */
int index_part_decode(const void *bytes, size_t len, struct index_part *ret, struct error *err);
void index_part_done(struct index_part *p);

/* Writing: entries are added in order. Whenever a part is full, and at the end, on_part() is called
 * with its stored bytes, which are valid during the call; its failure is returned to the caller. */
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
/* frames: the n_frames frames that hold the content of e, which begins e->skip bytes into the first
 * one; they all lie in the object with the key object, and frames[i].object, e->frame are ignored.
 * n_frames 0: no content. Everything is copied. Errors: -ERR_UNSUPPORTED, -ERR_FORMAT, -ERR_LIMIT,
 * and those of on_part(). */
int index_writer_add(struct index_writer *w, const struct index_entry *e, const char *object,
	const struct index_frame *frames, size_t n_frames, struct error *err);
int index_writer_finish(struct index_writer *w, struct error *err); /* writes the last part */
void index_writer_free(struct index_writer *w);                     /* accepts NULL */

/* Whether path is ".", or a relative path without empty components, "." and "..", shorter than
 * PATH_MAX and with components of at most NAME_MAX bytes. All paths in an index are like that. Any
 * thread. */
bool index_path_is_plain(const char *path);

#endif
