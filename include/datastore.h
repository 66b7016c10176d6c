/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DATASTORE_H
#define STAGERUN_DATASTORE_H

#include "cancel.h"
#include "error.h"
#include "manifest.h"
#include "store.h"
#include <stdbool.h>
#include <stdint.h>

/* Named, numbered, immutable datasets in a store: which versions there are, how one comes to be and goes. Worker
 * threads; everything sleeps. */

/* --- which there are --- */

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

/* --- creations under way --- */

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

/* --- deletion --- */

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

#endif
