/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_MANIFEST_H
#define STAGERUN_MANIFEST_H

#include "error.h"
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* What a version of a datastore consists of. JSON with a format number; a reader refuses a number it does not
 * know. Any thread. */

#define MANIFEST_FORMAT 1

struct manifest_part { /* of the index, in order */
	char sha256[65];
	uint64_t bytes, entries;
	char *first, *last; /* paths */
};

struct manifest_object { /* packs and large files that the index points into */
	char *key;
	char sha256[65]; /* of the stored bytes; "" when not known */
	uint64_t bytes;  /* stored */
	uint64_t raw;    /* of the uncompressed tar */
	uint64_t live;   /* of raw, content that this version uses */
};

struct manifest {
	char *name;
	unsigned version;
	time_t created;
	char *creator; /* "stagerun 0.1.0 on HOST" */
	char *source;  /* as given, without secrets */
	char *nonce;   /* random: tells one creation from another */
	char *reference; /* "s3://bucket/prefix/" of a version by reference; NULL: the data is in the store */
	uint64_t entries, files, bytes; /* bytes: content of all files */
	uint64_t stored_bytes;          /* of the objects below */
	struct manifest_part *parts;
	size_t n_parts;
	struct manifest_object *objects;
	size_t n_objects;
	char sha256[65]; /* of the JSON it was read from or written as: its identity */
};

struct manifest *manifest_new(void);
void manifest_free(struct manifest *m);   /* accepts NULL */
char *manifest_print(struct manifest *m); /* heap JSON; sets sha256 */
int manifest_parse(const char *json, size_t len, struct manifest **ret, struct error *err);

#endif
