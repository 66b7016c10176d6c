/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DATASTORE_REF_H
#define STAGERUN_DATASTORE_REF_H

#include "error.h"
#include <stdbool.h>
#include <stddef.h>

/* How people write which datastore they mean, and how it is written as a source. No store is
 * accessed. Any thread.
 *
 *   NAME[:VERSION][=DIR]       options and config.yml; NAME may be "user:name"
 *   datastore:NAME[:VERSION]   a source; without a version, the newest */

struct datastore_ref {
	char *name;      /* may be "user:name" */
	char *version;   /* NULL: newest */
	char *mount_dir; /* without a trailing slash; NULL: /datastores/<name> */
	unsigned line;   /* of config.yml */
};

/* Parses "NAME[:VERSION][=DIR]". If there is only one ':', the text after it is a version if it is
 * a number or contains a "${VAR}", and else a name. -ERR_USAGE for anything else, and for
 * "NAME:latest" and "NAME:v3", which are no versions here and hardly names. The caller frees *ret
 * with datastore_ref_done(). */
int datastore_ref_parse(const char *arg, struct datastore_ref *ret, struct error *err);
void datastore_ref_done(struct datastore_ref *d);

/* The parts: "name" or "user:name"; a number from 1, or a text with a "${VAR}" that may expand to
 * one; the first len bytes of s: a number from 1. */
bool datastore_ref_is_name(const char *s);
bool datastore_ref_is_version(const char *s);
bool datastore_ref_is_number(const char *s, size_t len);

/* The name without the "user:" of "user:name"; points into name. */
const char *datastore_ref_plain_name(const char *name);

/* Whether source is "datastore:..."; or, as people may write it, "grid:...". */
bool datastore_ref_is_source(const char *source);
bool datastore_ref_is_written_source(const char *source);
/* Makes "datastore:NAME[:VERSION]". version NULL: without one. Heap. */
char *datastore_ref_source(const char *name, const char *version);
/* If *source is "datastore:[USER:]NAME[:VERSION]", or the same with "grid:", frees it and stores
 * "datastore:NAME[:VERSION]" (heap) there. Other sources are left unchanged. -ERR_USAGE if what
 * follows the scheme is not [USER:]NAME[:VERSION]. */
int datastore_ref_normalize(char **source, struct error *err);

/* The name in "datastore:NAME[:VERSION]". Heap. */
char *datastore_ref_source_name(const char *source);
/* The version in it; 0: none. Returns 0 or a negative code. */
int datastore_ref_source_version(const char *source, unsigned *ret, struct error *err);

#endif
