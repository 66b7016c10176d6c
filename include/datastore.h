/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DATASTORE_H
#define STAGERUN_DATASTORE_H

#include "cancel.h"
#include "error.h"
#include "manifest.h"
#include "store.h"
#include <stdbool.h>
#include <stdint.h>

/* Datastores: named, numbered, immutable datasets in a store. These functions find, create,
 * delete and collect versions. Worker threads; all but datastore_name_check() sleep. */

/* --- versions --- */

/* Checks a name: [a-z0-9], followed by [a-z0-9._-], at most 128 bytes. Returns 0, or -ERR_USAGE
 * with the reason. Any thread. */
int datastore_name_check(const char *name, struct error *err);

/* Reads the manifest of a version, or of the newest one (0). The caller frees it. -ENOENT: the
 * message names the versions that exist, or the nearest name. */
int datastore_find(struct store_conn *h, const char *name, unsigned version, struct manifest **ret,
	struct error *err);
/* Sets *ret_version to the number of the newest version, without reading its manifest. */
int datastore_newest(
	struct store_conn *h, const char *name, unsigned *ret_version, struct error *err);

/* Calls each() for every existing version, by name and number. m is valid during the call; NULL:
 * the manifest cannot be read, and err holds the reason. name NULL: all datastores. A negative
 * result of each() ends the loop and is returned. */
int datastore_each(struct store_conn *h, const char *name,
	int (*each)(void *ctx, const struct manifest *m, struct error *err), void *ctx,
	struct error *err);

/* Publishes m as the next version of m->name and sets m->version. Concurrent creators get different
 * numbers. Numbers rise by one and are never reused. */
int datastore_publish(struct store_conn *h, struct manifest *m, struct error *err);

/* Returns -ERR_LIMIT if there are max versions or more; the message names the oldest ones. */
int datastore_check_limit(struct store_conn *h, unsigned max, struct error *err);

/* --- creations in progress --- */

/* The lease of a creation. It is renewed by a thread of its own until it is released. Nothing is
 * collected as long as it exists. */
struct lease;
/* Waits for a collection in progress; -EBUSY when that takes longer than the limit, which may be
 * NULL: none. */
int lease_take(struct store *s, const char *name, const struct wait_limit *limit,
	struct cancel *cancel, struct lease **ret, struct error *err);
void lease_release(struct lease *l); /* accepts NULL */
/* Does what datastore_publish() does, for the holder of l. If l was lost meanwhile, checks that all
 * objects that m names still exist; if not, deletes the version again and returns -ERR_RESTART. */
int publish_under_lease(
	struct store_conn *h, struct lease *l, struct manifest *m, struct error *err);

/* --- deletion --- */

struct datastore_delete_options {
	/* Version 0 means all versions. If unset and there are several, version 0 is -ERR_USAGE. */
	bool all;
	bool force; /* delete although a creation of that name or a registered run uses it */
	/* how long readers may still use it, for datastore_collect() afterwards */
	uint64_t grace_ms;
};
/* Marks a version (0: all of them) as deleted, which hides it at once. A later datastore_collect()
 * removes the content. -EBUSY: it is in use; the message says by whom. */
int datastore_delete(struct store_conn *h, const char *name, unsigned version,
	const struct datastore_delete_options *opts, struct error *err);
/* Removes the objects that no version needs: the content of versions that were deleted before the
 * grace time, and the leftovers of dead creations. Removes only objects whose keys have exactly the
 * form of a store's, only in a place that is known to be a store (store.json), and nothing at all
 * if an answer of the store leaves any doubt. Does nothing and returns 0 while a creation is in
 * progress. ret_objects and ret_bytes (may be NULL) are also set on failure. */
int datastore_collect(struct store_conn *h, uint64_t grace_ms, uint64_t *ret_objects,
	uint64_t *ret_bytes, struct error *err);
/* Registers a run that uses a version until expires. The caller frees *ret_key, and ends the
 * registration by passing it to store_delete(). */
int datastore_register(struct store_conn *h, const char *name, unsigned version, time_t expires,
	char **ret_key, struct error *err);

#endif
