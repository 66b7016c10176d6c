/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DATASTORE_FETCH_H
#define STAGERUN_DATASTORE_FETCH_H

#include "budget.h"
#include "cancel.h"
#include "error.h"
#include "manifest.h"
#include "progress.h"
#include "store.h"
#include "tree.h"
#include "unpack.h"
#include <stdbool.h>

/* Fetches a version of a datastore into a tree, or lists its files. To be called from a worker
 * thread: both functions sleep. */

struct s3;

/* The files of one of several ranks, by a hash of the path. Directories and symbolic links belong
 * to all ranks. */
struct shard {
	unsigned rank;  /* counts from 0 */
	unsigned world; /* number of ranks; 0: all files */
};

struct fetch_options {
	struct store *store;
	struct s3 *s3; /* for versions that refer to S3 objects; may be NULL */
	struct budget *budget;
	struct cancel *cancel;
	struct progress *progress;         /* may be NULL; total and received count stored bytes */
	unsigned threads;                  /* that decode */
	unsigned connections;              /* limit for requests at a time */
	const struct selection *selection; /* NULL: all */
	struct shard shard;
	bool read_only; /* clear the write bits of all modes */
};
/* Brings the selected entries of m into the tree, which the caller finishes. The digest of each
 * file is checked. Errors: -ERR_DIGEST and -ERR_FORMAT when the store is damaged, -ENOENT when the
 * version was deleted, -ERR_REFUSED when a referenced S3 object was changed, -ERR_SPACE,
 * -ECANCELED, and those of the store and the tree. */
int datastore_fetch(const struct fetch_options *opts, const struct manifest *m, struct tree *tree,
	struct error *err);

struct index_entry;

struct files_options {
	struct store *store;
	struct cancel *cancel;
	const struct selection *selection; /* NULL: all */
	unsigned threads;                  /* that decode */
};
/* Calls each() for the selected entries in the order of the index, on the calling thread. No
 * content is fetched. e is valid during the call; if each() returns < 0, then datastore_files()
 * stops and returns that code. */
int datastore_files(const struct files_options *opts, const struct manifest *m,
	int (*each)(void *ctx, const struct index_entry *e, struct error *err), void *ctx,
	struct error *err);

#endif
