/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STAGE_DATASTORE_H
#define STAGERUN_STAGE_DATASTORE_H

#include "stage_private.h"

/* Datastores as sources: "datastore:NAME" is the newest version, "datastore:NAME:3" always the same. */

/* Whether the source is one. */
bool stage_is_datastore(const char *url);
/* Is it well-formed, and is there a store? -ERR_USAGE. */
int stage_datastore_check(const struct stage *s, size_t i, struct error *err);
/* What names it in state files: not its version. Heap string. */
char *stage_datastore_key(const struct stage *s, size_t i);

/* Stage's or source's thread. Brings the version into the tree and says in s->arrivals[i] which it is; *ret tells
 * it from others. */
int stage_datastore_fetch(struct stage *s, size_t i, struct identity *ret, struct error *err);
/* 1: the version that is there (had) is the one that is asked for, and s->arrivals[i] says which. 0: not. */
int stage_datastore_is_unchanged(
	struct stage *s, size_t i, const struct identity *had, struct error *err);

/* Which version is asked for, without its content; *ret_bytes grows by what that has. */
int stage_datastore_look(
	struct stage *s, size_t i, struct identity *ret, uint64_t *ret_bytes, struct error *err);
/* Says in s->arrivals[i] that it is this one. */
void stage_datastore_arrived(struct stage *s, size_t i, const struct identity *id);

#endif
