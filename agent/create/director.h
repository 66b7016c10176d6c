/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_DIRECTOR_H
#define STAGERUN_CREATE_DIRECTOR_H

#include "base.h"

/* Entries in the index's order, on their way into it: gathered to works, awaited, written. One thread. */

struct director {
	/* Set at creation. */
	struct creation *creation;
	struct hands *hands;
	struct base *base;
	struct objects *objects;
	struct store_hand *store; /* the thread's own */
	struct index_writer *index;
	struct manifest *manifest; /* gets totals and the parts of the index */

	/* The entries that are not in the index yet. */
	struct item *first, *last;
	struct item *next; /* the first that has no place yet */
	uint64_t numbers;  /* of entries so far */
	size_t waiting;

	bool was_there; /* the last one with a place has it where earlier versions put it */

	/* Being filled. */
	struct work *pack, *batch;

	struct item *target; /* the last file in the index: hard links to it follow */
	struct create_object *target_object;
	uint64_t reused_files;
};

void director_init(struct director *d, struct creation *c);
void director_done(struct director *d);

/* Takes i, also when it fails. */
int director_add(struct director *d, struct item *i, struct error *err);
/* For entries that have their place and are in order: into the index once that is made. Takes i, also when it
 * fails. */
int director_add_placed(struct director *d, struct item *i, struct error *err);
void director_drop(struct director *d, struct item *i);
int director_go_to_links(struct director *d, struct error *err);
/* After the last entry: waits until all are in the index, and the index is stored. */
int director_finish(struct director *d, struct error *err);

/* index_step.c: entries into the index. on_part of the writer; ctx is the director. */
int director_index(struct director *d, struct item *i, struct error *err);
int director_on_part(void *ctx, const struct index_part_info *part, struct error *err);

#endif
