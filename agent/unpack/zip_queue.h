/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_QUEUE_H
#define STAGERUN_ZIP_QUEUE_H

#include "zip_batch.h"

/* Batches on their way from the walk through a zip, which is one thread, to the workers, and empty
 * ones on the way back. One lock, taken twice for a batch by each side. */

struct zip_queue;

struct zip_queue *zip_queue_new(unsigned batches, struct cancel *cancel); /* never NULL */
void zip_queue_free(struct zip_queue *q);                                 /* nobody uses it */

/* The walk's. They return 0 or why all is over: a worker's failure or a cancel. */

/* An empty batch; waits for one. It is the walk's until it is put. */
int zip_queue_open(struct zip_queue *q, struct zip_batch **ret, struct error *err);
/* Waits until no entry with a name of this batch is under way, then hands it to a worker. When that
 * fails, it still is the walk's. */
int zip_queue_put(struct zip_queue *q, struct zip_batch *b, struct error *err);
/* Waits until no entry with this hash is under way. */
int zip_queue_await(struct zip_queue *q, uint64_t hash, struct error *err);

/* The workers'. */

/* The next batch; NULL: there will be none. */
struct zip_batch *zip_queue_take(struct zip_queue *q);
/* It was run, with this result. */
void zip_queue_give_back(
	struct zip_queue *q, struct zip_batch *b, int code, const struct error *err);

/* Any thread. */

/* Set once there was a failure: nothing of what is under way is needed any more. */
const atomic_bool *zip_queue_stop(const struct zip_queue *q);
void zip_queue_fail(struct zip_queue *q, int code, const struct error *why); /* the first counts */
void zip_queue_close(struct zip_queue *q); /* nothing more will be put */
/* 0, or the first failure, or -ECANCELED. */
int zip_queue_outcome(struct zip_queue *q, struct error *err);

#endif
