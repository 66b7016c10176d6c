/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_WORKERS_H
#define STAGERUN_WORKERS_H

#include "cancel.h"
#include "error.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What the threads of one task share: a lock, the conditions that they wait for, the first failure,
 * and the threads. Queues, and the order of the work, belong to the owner, who embeds this struct
 * in one of its own.
 *
 *	workers_init(), workers_add_condition()
 *	workers_start()                 each thread: lock, wait, unlock, work, and so on
 *	workers_fail()                  any thread; wakes all of them
 *	workers_join(), or workers_stop() when the work that is left is not needed
 *	workers_outcome()
 *	workers_done()
 *
 * The lock is `mutex`. It also guards those members of the owner that are called "under lock", and
 * all conditions belong to it. Functions that end in _locked, and workers_wait(), are called with
 * the lock held; workers_fail(), workers_outcome(), workers_next_turn(), workers_await_turn(),
 * workers_join() and workers_stop() take it themselves. Whoever calls cancel_request() must not
 * hold it.
 *
 * Once workers_must_stop() is true it stays true, and every condition has been woken: so a thread
 * that waits in a loop `while (nothing to do && !workers_must_stop(w))` misses nothing. */

/* Something that threads wait for. Embedded in the owner; any thread. */
struct workers_condition {
	pthread_cond_t cond;
	struct cancel_watch watch;
	struct workers_condition *next; /* of the same workers */
};

struct workers {
	/* Set at creation. */
	struct cancel *cancel; /* borrowed; may be NULL */
	struct workers_condition *conditions;

	atomic_bool stopped; /* any thread: one has failed, or workers_stop() was called */

	/* Under lock. */
	pthread_mutex_t mutex;
	int failed; /* code of the first failure; 0: none */
	struct error why;

	/* Only the thread that starts and joins the others; if several threads do, under lock. */
	pthread_t *threads;
	unsigned n_threads, max_threads;
};

/* max_threads may be changed later. */
void workers_init(struct workers *w, unsigned max_threads, struct cancel *cancel);
/* Before the first thread is started. *c is freed with w. */
void workers_add_condition(struct workers *w, struct workers_condition *c);
/* After all threads have been joined. */
void workers_done(struct workers *w);

/* Starts one of several equal threads, of which only the first is required. 1: started. 0: there
 * are max_threads, or the system has no more: then max_threads is lowered to the number of threads
 * there are. -errno: the first one could not be started. */
int workers_start(struct workers *w, void *(*run)(void *), void *arg, struct error *err);
/* The same if the owner can do without any thread. */
bool workers_start_extra(struct workers *w, void *(*run)(void *), void *arg);

/* Waits until all threads have ended, including those that threads start meanwhile. */
void workers_join(struct workers *w);
/* Makes workers_must_stop() true, and joins. */
void workers_stop(struct workers *w);

/* Whether nobody should wait or begin anything any more: a thread has failed, there was a cancel
 * request, or workers_stop() was called. With or without the lock. */
static inline bool workers_must_stop(const struct workers *w)
{
	return atomic_load_explicit(&w->stopped, memory_order_relaxed) ||
	       cancel_requested(w->cancel);
}

/* 0, the first failure, or -ECANCELED: negative if and only if workers_must_stop(). */
int workers_outcome(struct workers *w, struct error *err);
int workers_outcome_locked(const struct workers *w, struct error *err);

/* Records a failure, of which the first one stays, and wakes all conditions. *why is copied. */
void workers_fail(struct workers *w, int code, const struct error *why);
void workers_fail_locked(struct workers *w, int code, const struct error *why);
/* The same where the cancel request is shared with other workers, which have to stop, too. It is
 * made here. An earlier -ECANCELED is replaced, since the failure may be its cause. */
void workers_fail_and_cancel(struct workers *w, int code, const struct error *why);

/* Sleeps. May return early: the caller checks again. */
static inline void workers_wait(struct workers *w, struct workers_condition *c)
{
	pthread_cond_wait(&c->cond, &w->mutex);
}

static inline void workers_wake_one(struct workers_condition *c)
{
	pthread_cond_signal(&c->cond);
}

static inline void workers_wake_all(struct workers_condition *c)
{
	pthread_cond_broadcast(&c->cond);
}

/* Turns: pieces that several threads prepare at the same time are used in the order of their
 * numbers. *turn is the number of the next piece, under lock. Returns workers_outcome(); only after
 * 0 is it the caller's turn, until workers_next_turn(). */
int workers_await_turn(struct workers *w, struct workers_condition *c, const uint64_t *turn,
	uint64_t number, struct error *err);
void workers_next_turn(struct workers *w, struct workers_condition *c, uint64_t *turn);

#endif
