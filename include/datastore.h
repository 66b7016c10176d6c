/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DATASTORE_H
#define STAGERUN_DATASTORE_H

#include "budget.h"
#include "cancel.h"
#include "error.h"
#include "manifest.h"
#include "progress.h"
#include "store.h"
#include "tree.h"
#include "unpack.h"
#include <stdbool.h>
#include <stdint.h>

/* Named, numbered, immutable datasets in a store. Worker threads; everything sleeps. */

struct transfer;

/* --- versions.c: which there are --- */

/* A name: [a-z0-9] and then [a-z0-9._-], at most 128 bytes. -ERR_USAGE says what is wrong. */
int datastore_name_check(const char *name, struct error *err);

/* The manifest of NAME's version, or of its newest (0). -ENOENT: the sentence says which versions there are,
 * or the nearest name. */
int datastore_find(struct store_hand *h, const char *name, unsigned version, struct manifest **ret,
	struct error *err);
/* Only its number. */
int datastore_newest(
	struct store_hand *h, const char *name, unsigned *ret_version, struct error *err);

/* Each version that is there, by name and number. manifest is valid during the call. name NULL: all. */
int datastore_each(struct store_hand *h, const char *name,
	int (*each)(void *ctx, const struct manifest *m, struct error *err), void *ctx,
	struct error *err);

/* Publishes m as the next version of m->name (and sets m->version): of any number of creators each gets its
 * own. Numbers rise by one and are never used again. */
int datastore_publish(struct store_hand *h, struct manifest *m, struct error *err);

/* -ERR_LIMIT, naming the oldest versions, when there are max already. */
int datastore_check_limit(struct store_hand *h, unsigned max, struct error *err);

/* --- lease.c --- */

/* A creation under way: renewed by a thread of its own until it is released. While one is there nothing is
 * collected. Waits for a collection that is under way. */
struct lease;
int lease_take(struct store *s, const char *name, struct cancel *cancel, struct lease **ret,
	struct error *err);
/* 0 while it certainly holds; else -ERR_RESTART. Asked right before a manifest is published. */
int lease_check(struct lease *l, struct error *err);
void lease_release(struct lease *l); /* accepts NULL */
/* datastore_publish() for who holds l. When l was lost meanwhile, looks whether all that m names is still
 * there; if not, the version is deleted again: -ERR_RESTART. */
int lease_publish(struct store_hand *h, struct lease *l, struct manifest *m, struct error *err);

/* --- delete.c, collect.c --- */

struct datastore_delete_options {
	bool force;        /* although a creation of that name or a registered run uses it */
	uint64_t grace_ms; /* how long its readers have: for datastore_collect() afterwards */
};
/* version 0: all of them. Hides them at once; a later datastore_collect() removes their content. */
int datastore_delete(struct store_hand *h, const char *name, unsigned version,
	const struct datastore_delete_options *opts, struct error *err);
/* Removes what no version needs: of versions deleted before the grace time, and what dead creations left.
 * Does nothing (and returns 0) while a creation is under way. */
int datastore_collect(struct store_hand *h, uint64_t grace_ms, uint64_t *ret_objects,
	uint64_t *ret_bytes, struct error *err);
/* A run that uses a version says so until expires; *ret_key for the removal by store_delete(). */
int datastore_register(struct store_hand *h, const char *name, unsigned version, time_t expires,
	char **ret_key, struct error *err);

/* --- create.c --- */

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

/* --- fetch.c --- */

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

/* --- files.c --- */

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
