/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_MANIFEST_H
#define STAGERUN_MANIFEST_H

#include "error.h"
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* The manifest lists what a version of a datastore consists of. It is stored as JSON with a format
 * number; a reader refuses formats newer than its own. Any thread, no I/O. */

#define MANIFEST_FORMAT 1

/* A part of the index, in the order of the paths. */
struct manifest_part {
	char sha256[65]; /* of the stored bytes */
	uint64_t bytes, entries;
	char *first, *last; /* paths */
};

/* A pack or a large file that the index points into. */
struct manifest_object {
	char *key;
	char sha256[65]; /* of the stored bytes; "": unknown */
	uint64_t bytes;  /* stored */
	uint64_t raw;    /* bytes of the uncompressed tar */
	uint64_t live;   /* bytes of raw that are content of this version */
};

/* Owns all of its strings and lists. */
struct manifest {
	char *name;
	unsigned version;
	time_t created;
	char *creator; /* "stagerun 0.1.0 on HOST" */
	char *source;  /* as the user gave it, without secrets */
	char *nonce;   /* random; identifies the creation */
	/* "s3://bucket/prefix/" of a version by reference; NULL: the content is in the store. */
	char *reference;
	uint64_t entries, files, bytes; /* bytes: content of all files */
	uint64_t stored_bytes;          /* of the objects below */
	struct manifest_part *parts;
	size_t n_parts;
	struct manifest_object *objects;
	size_t n_objects;
	/* Of the JSON that it was parsed from or printed as: the identity of the version. */
	char sha256[65];
};

struct manifest *manifest_new(void);    /* zeroed */
void manifest_free(struct manifest *m); /* accepts NULL */

/* The key of the part of an index with this digest: "index/DD/DIGEST.zst"; heap. */
char *manifest_part_key(const char *sha256);

#endif
