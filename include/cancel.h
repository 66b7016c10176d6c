/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CANCEL_H
#define STAGERUN_CANCEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* One cancel request for all threads of a stage set. Threads at work poll cancel_requested()
 * between entries and blocks. A thread that sleeps on a condition is woken because its condition is
 * watched. */

struct cancel_watch {
	struct cancel_watch *next; /* owned by the cancel */
	pthread_mutex_t *mutex;
	pthread_cond_t *cond;
};

struct cancel {
	atomic_bool requested;
	pthread_mutex_t mutex; /* guards watches */
	struct cancel_watch *watches;
};

void cancel_init(struct cancel *c);
void cancel_done(struct cancel *c); /* no watch may be left */

/* Any thread; idempotent. Broadcasts every watched condition while holding its mutex, so the caller
 * must hold none of those mutexes. */
void cancel_request(struct cancel *c);

static inline bool cancel_requested(const struct cancel *c)
{
	return c != NULL && atomic_load_explicit(&c->requested, memory_order_relaxed);
}

/* From watch to unwatch, *w, its mutex and its condition must stay valid. The caller must not hold
 * w->mutex. c may be NULL: then nothing happens. */
void cancel_watch(struct cancel *c, struct cancel_watch *w);
void cancel_unwatch(struct cancel *c, struct cancel_watch *w);

/* How long a wait for somebody else may last at most. Zeroed: without a limit. */
struct wait_limit {
	bool limited;
	uint64_t ms; /* when limited; 0: there is no wait at all */
};

#endif
