/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_VERSIONS_H
#define STAGERUN_VERSIONS_H

#include "datastore.h"

/* What one listing of the store says of versions. */
struct version {
	char *name;
	unsigned number;
	bool exists; /* has a manifest and was not deleted */
	bool deleted;
	bool collected;             /* its content is gone */
	time_t created, deleted_at; /* by the store's clock */
};

struct versions {
	struct version *v; /* by name and number */
	size_t n, cap;
};

/* name NULL: of all. */
int versions_list(struct store_hand *h, const char *name, struct versions *ret, struct error *err);
void versions_done(struct versions *v);

/* -ENOENT, saying what there is instead. version 0: any. */
int versions_missing(struct store_hand *h, const struct versions *of_name, const char *name,
	unsigned version, struct error *err);

/* "datastores/NAME/V/FILE"; heap. */
char *version_key(const char *name, unsigned number, const char *file);
/* The manifest of a version that is, or was, there. */
int version_manifest(struct store_hand *h, const char *name, unsigned number, struct manifest **ret,
	struct error *err);

/* 1 when m has its number now, 0 when another has it. */
int publish_number(struct store_hand *h, struct manifest *m, struct error *err);

/* The manifests of those that are wanted, in their order; some are read at a time, since each is a round
 * trip. < 0 from each() stops. */
typedef int versions_read_cb(
	void *ctx, const struct version *v, const struct manifest *m, struct error *err);
int versions_read(struct store_hand *h, const struct versions *all,
	bool (*want)(void *ctx, const struct version *v), versions_read_cb *each, void *ctx,
	struct error *err);

/* Its tombstone. */
int version_bury(struct store_hand *h, const char *name, unsigned number, struct error *err);

/* Larger ones are neither written nor read: 250,000 packs, 8 TB. */
#define MANIFEST_MAX_BYTES ((size_t)64 << 20)

#endif
