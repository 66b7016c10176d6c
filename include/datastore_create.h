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

/* A new version of a datastore. Worker threads; sleeps. */

struct transfer;
struct s3;

struct create_options {
	struct store *store;
	struct budget *budget;
	struct transfer *transfer; /* for http(s) and s3 sources */
	struct s3 *s3;
	struct cancel *cancel;
	struct progress *progress;
	unsigned threads; /* that read and compress */
	const char *name;
	const char *source;       /* directory, file, URL or s3:// prefix */
	bool extract, no_extract; /* neither: archives by URL are extracted, local ones are not */
	bool no_copy;             /* s3:// prefix: by reference */
	bool dereference;         /* symbolic links that leave the tree become what they point to */
	const struct selection *selection; /* which entries; NULL: all */
	unsigned max_datastores;
	uint64_t grace_ms;
};
struct create_result {
	uint64_t sent_bytes,
		reused_files; /* what went to the store; files that were there already */
};
/* *ret is the version's manifest. */
int datastore_create(const struct create_options *opts, struct manifest **ret,
	struct create_result *result, struct error *err);

#endif
