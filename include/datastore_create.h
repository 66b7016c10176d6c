/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DATASTORE_CREATE_H
#define STAGERUN_DATASTORE_CREATE_H

#include "budget.h"
#include "cancel.h"
#include "error.h"
#include "manifest.h"
#include "progress.h"
#include "store.h"
#include "unpack.h"
#include <stdbool.h>
#include <stdint.h>

/* Creates a new version of a datastore from a source. Files whose content the previous version has
 * are not sent again. To be called from a worker thread: it sleeps. */

struct transfer;
struct s3;

struct create_options {
	struct store *store;
	struct budget *budget;
	struct transfer *transfer; /* for http(s) and s3 sources */
	struct s3 *s3;
	struct cancel *cancel;
	struct progress *progress;
	unsigned threads;   /* that compress; 0: one */
	const char *name;   /* of the datastore */
	const char *source; /* a directory, file, URL or s3:// prefix ("s3://bucket/prefix/") */
	bool extract, no_extract; /* neither: archives at a URL are extracted, local ones are not */
	bool no_copy;             /* s3:// prefix: store references to the objects, not content */
	bool dereference;         /* follow symbolic links that lead out of the tree */
	const struct selection *selection; /* the entries to store; NULL: all */
	unsigned max_datastores;           /* limit of the store */
	uint64_t grace_ms;                 /* of the collection that follows */
	struct wait_limit lock_limit;      /* of the wait for a collection */
};
struct create_result {
	uint64_t sent_bytes;   /* to the store */
	uint64_t reused_files; /* whose content the previous version has */
};
/* On success *ret is the manifest of the new version (the caller frees it) and *result is set.
 * Errors: -ERR_USAGE and -ERR_REFUSED for options or entries that cannot be stored, -ERR_CHANGED
 * when the source changed meanwhile, -ECANCELED, and those of the store and the source. */
int datastore_create(const struct create_options *opts, struct manifest **ret,
	struct create_result *result, struct error *err);

#endif
