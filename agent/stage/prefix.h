/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STAGE_PREFIX_H
#define STAGERUN_STAGE_PREFIX_H

#include "prefix_queue.h"
#include "s3.h"
#include "stage_private.h"

/* A directory of objects (s3://bucket/prefix/): source i of the stage. The stage's thread lists it, hands
 * fetch the objects and write each as the file of its name. */

struct prefix {
	/* Set at creation. */
	struct stage *stage;
	size_t i;
	struct s3_place place;
	size_t small_max; /* larger ones are streamed, a few at once */

	struct prefix_queue queue;

	/* The listing's thread. */
	struct s3_tally *tally;
	uint64_t n_listed;
};

/* Whether the source is one. */
bool stage_is_prefix(const char *url);

/* Stage's or source's thread. *ret: what tells this state of it from another. */
int stage_prefix(struct stage *s, size_t i, struct identity *ret, struct error *err);

/* Fetches one object and writes it. A hand's thread, with the client and writer that are its own. */
int prefix_fetch(struct prefix *p, const struct prefix_item *item, struct s3_client *client,
	struct writer *writer, struct error *err);

#endif
