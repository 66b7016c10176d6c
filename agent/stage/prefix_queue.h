/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STAGE_PREFIX_QUEUE_H
#define STAGERUN_STAGE_PREFIX_QUEUE_H

#include "cancel.h"
#include "error.h"
#include "s3.h"
#include <pthread.h>

/* Objects that were listed and wait for a hand, and the hands: as many threads as find work. */

enum { PREFIX_HANDS_MAX = 128, PREFIX_LARGE_MAX = 8 };

struct prefix_item {
	struct prefix_item *next;
	char *key;
	const char *name; /* in the tree; inside key */
	uint64_t size;
	time_t modified;
	char etag[128];
};

struct prefix_queue {
	/* Set at creation. */
	struct cancel *cancel;
	struct cancel_watch watch;
	void *(*hand)(void *ctx); /* a thread's main function: takes until there is no more */
	void *ctx;
	unsigned hands_max;

	/* The listing's thread. */
	pthread_t hands[PREFIX_HANDS_MAX];
	unsigned n_hands;

	/* Under mutex. */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	struct prefix_item *first, **last;
	unsigned n, idle;
	unsigned large; /* streams under way */
	bool complete;  /* nothing more will come */
	int code;       /* of the first failure */
	struct error err;
};

void prefix_queue_init(struct prefix_queue *q, struct cancel *cancel, unsigned hands_max,
	void *(*hand)(void *ctx), void *ctx);

/* The listing's thread. Takes the item; sleeps while many wait. Starts a hand when all are busy. */
int prefix_queue_put(struct prefix_queue *q, struct prefix_item *item, struct error *err);
/* The listing's thread: nothing more comes (code < 0: and the listing failed). Waits for the hands; returns
 * the first failure. */
int prefix_queue_finish(struct prefix_queue *q, int code, struct error *err);

/* Hands. NULL: there is no more, or it is over. */
struct prefix_item *prefix_queue_take(struct prefix_queue *q);
void prefix_queue_fail(struct prefix_queue *q, int code, const struct error *err);
int prefix_queue_begin_large(struct prefix_queue *q, struct error *err); /* sleeps for its turn */
void prefix_queue_end_large(struct prefix_queue *q);

void prefix_item_free(struct prefix_item *item);

#endif
