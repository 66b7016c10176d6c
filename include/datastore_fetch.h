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

/* A version of a datastore into a tree, or its list of files. Worker threads; sleeps. */

struct s3;

struct shard {
	unsigned rank,
		world; /* world 0: not sharded; else this rank's files, by hash of the path */
};

struct fetch_options {
	struct store *store;
	struct s3 *s3; /* for versions by reference */
	struct budget *budget;
	struct cancel *cancel;
	struct progress *progress; /* total and received count stored bytes */
	unsigned threads;          /* that decode */
	unsigned connections;      /* at most so many requests at once */
	const struct selection *selection;
	struct shard shard;
	bool read_only; /* modes lose their write bits */
};
/* Brings the selected entries of m into the tree; each file's digest is checked. */
int datastore_fetch(const struct fetch_options *opts, const struct manifest *m, struct tree *tree,
	struct error *err);

struct index_entry;

struct files_options {
	struct store *store;
	struct cancel *cancel;
	const struct selection *selection; /* NULL: all */
	unsigned threads;                  /* that decode */
};
/* Each selected entry, in order, from the index alone; each() returns < 0 to stop with that code. */
int datastore_files(const struct files_options *opts, const struct manifest *m,
	int (*each)(void *ctx, const struct index_entry *e, struct error *err), void *ctx,
	struct error *err);

#endif
