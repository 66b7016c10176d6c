/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_OBJECTS_H
#define STAGERUN_CREATE_OBJECTS_H

#include "create_private.h"

/* The objects that a version points into, each once. The director's. */

struct objects {
	struct create_object *first, **end; /* in the order of their appearance */
	void *by_key;                       /* tsearch() */
};

void objects_init(struct objects *o);
void objects_done(struct objects *o);
/* Those of an earlier version: known, and listed once something points into them. */
void objects_know(struct objects *o, const struct manifest *m);
/* NULL when it is not known. */
struct create_object *objects_find(struct objects *o, const char *key);
/* Takes object, and returns it or the one of the same key that was there. */
struct create_object *objects_take(struct objects *o, struct create_object *object);
/* Something of raw bytes in it is used by the new version. */
void objects_use(struct objects *o, struct create_object *object, uint64_t raw);

#endif
