/* SPDX-License-Identifier: MIT */
/* A slot for each batch, a ring of those that wait for a worker, and the names under way. */
#include "zip_queue.h"
#include "defer.h"
#include "zip_names.h"
#include <errno.h>
#include <pthread.h>

struct slot {
	enum { SLOT_FREE, SLOT_OPEN, SLOT_WAITING, SLOT_RUNNING } state; /* under lock */
	struct zip_batch batch; /* the walk's while it is open, then a worker's */
};

/* What the walk sleeps for, so that it is not woken for less. */
enum wish { WISH_NOTHING, WISH_ROOM, WISH_ANY_END };

struct zip_queue {
	/* Set at creation. */
	unsigned n_slots;
	struct cancel *cancel;
	struct cancel_watch watch_work, watch_done;

	/* Any thread. */
	atomic_bool stop; /* failed < 0 */

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t work; /* a batch waits, or all is over; workers sleep on it */
	pthread_cond_t done; /* what the walk wishes for, or all is over */
	enum wish wish;
	struct slot *slots;
	struct slot **ring; /* waiting ones, in order */
	unsigned first, waiting, n_free;
	struct zip_names names; /* of waiting and running slots */
	bool closed;
	int failed;
	struct error why;
};

struct zip_queue *zip_queue_new(unsigned batches, struct cancel *cancel)
{
	struct zip_queue *q = zalloc(sizeof(*q));

	q->n_slots = q->n_free = batches;
	q->slots = zalloc(batches * sizeof(struct slot));
	q->ring = zalloc(batches * sizeof(struct slot *));
	q->cancel = cancel;
	pthread_mutex_init(&q->mutex, NULL);
	pthread_cond_init(&q->work, NULL);
	pthread_cond_init(&q->done, NULL);
	q->watch_work = (struct cancel_watch){.mutex = &q->mutex, .cond = &q->work};
	q->watch_done = (struct cancel_watch){.mutex = &q->mutex, .cond = &q->done};
	cancel_watch(cancel, &q->watch_work);
	cancel_watch(cancel, &q->watch_done);
	return q;
}

void zip_queue_free(struct zip_queue *q)
{
	cancel_unwatch(q->cancel, &q->watch_done);
	cancel_unwatch(q->cancel, &q->watch_work);
	for (unsigned i = 0; i < q->n_slots; i++)
		zip_batch_done(&q->slots[i].batch);
	pthread_cond_destroy(&q->done);
	pthread_cond_destroy(&q->work);
	pthread_mutex_destroy(&q->mutex);
	free(q->ring);
	free(q->slots);
	free(q);
}

static bool is_over_locked(const struct zip_queue *q)
{
	return q->failed < 0 || cancel_requested(q->cancel);
}

static int outcome_locked(const struct zip_queue *q, struct error *err)
{
	if (q->failed < 0) {
		*err = q->why;
		return q->failed;
	}
	return cancel_requested(q->cancel) ? error_set(err, -ECANCELED, "cancelled") : 0;
}

static void fail_locked(struct zip_queue *q, int code, const struct error *why)
{
	if (q->failed == 0) {
		q->failed = code;
		q->why = *why;
	}
	atomic_store(&q->stop, true);
	pthread_cond_broadcast(&q->work);
	pthread_cond_signal(&q->done);
}

/* The workers' side. */

struct zip_batch *zip_queue_take(struct zip_queue *q)
{
	struct slot *s = NULL;

	pthread_mutex_lock(&q->mutex);
	while (q->waiting == 0 && !q->closed && !is_over_locked(q))
		pthread_cond_wait(&q->work, &q->mutex);
	if (q->waiting > 0 && !is_over_locked(q)) {
		s = q->ring[q->first];
		q->first = (q->first + 1) % q->n_slots;
		q->waiting--;
		s->state = SLOT_RUNNING;
	}
	pthread_mutex_unlock(&q->mutex);
	return s == NULL ? NULL : &s->batch;
}

void zip_queue_give_back(
	struct zip_queue *q, struct zip_batch *b, int code, const struct error *err)
{
	struct slot *s = container_of(b, struct slot, batch);

	pthread_mutex_lock(&q->mutex);
	if (code < 0)
		fail_locked(q, code, err);
	for (unsigned i = 0; i < b->n; i++)
		zip_names_remove(&q->names, b->hashes[i]);
	s->state = SLOT_FREE;
	q->n_free++;
	if (q->wish == WISH_ANY_END || (q->wish == WISH_ROOM && q->n_free >= q->n_slots / 2))
		pthread_cond_signal(&q->done);
	pthread_mutex_unlock(&q->mutex);
}

/* The walk's side. */

/* Sleeps until there is a reason to look again, unless all is over. */
static int sleep_locked(struct zip_queue *q, enum wish wish, struct error *err)
{
	if (!is_over_locked(q)) {
		q->wish = wish;
		pthread_cond_wait(&q->done, &q->mutex);
		q->wish = WISH_NOTHING;
	}
	return outcome_locked(q, err);
}

static bool is_under_way_locked(const struct zip_queue *q, uint64_t hash)
{
	if (!zip_names_may_have(&q->names, hash))
		return false;
	for (unsigned i = 0; i < q->n_slots; i++) {
		const struct slot *s = &q->slots[i];

		if (s->state != SLOT_WAITING && s->state != SLOT_RUNNING)
			continue;
		for (unsigned k = 0; k < s->batch.n; k++)
			if (s->batch.hashes[k] == hash)
				return true;
	}
	return false;
}

static int await_name_locked(struct zip_queue *q, uint64_t hash, struct error *err)
{
	int r = outcome_locked(q, err);

	while (r >= 0 && is_under_way_locked(q, hash))
		r = sleep_locked(q, WISH_ANY_END, err);
	return r;
}

static struct slot *free_slot_locked(struct zip_queue *q)
{
	struct slot *s = q->slots;

	while (s->state != SLOT_FREE)
		s++;
	s->state = SLOT_OPEN;
	q->n_free--;
	return s;
}

int zip_queue_open(struct zip_queue *q, struct zip_batch **ret, struct error *err)
{
	struct slot *s = NULL;
	int r;

	pthread_mutex_lock(&q->mutex);
	r = outcome_locked(q, err);
	while (r >= 0 && q->n_free == 0)
		r = sleep_locked(q, WISH_ROOM, err);
	if (r >= 0)
		s = free_slot_locked(q);
	pthread_mutex_unlock(&q->mutex);
	if (r < 0)
		return r;
	zip_batch_clear(&s->batch);
	*ret = &s->batch;
	return 0;
}

static void enqueue_locked(struct zip_queue *q, struct slot *s)
{
	for (unsigned i = 0; i < s->batch.n; i++)
		zip_names_add(&q->names, s->batch.hashes[i]);
	s->state = SLOT_WAITING;
	q->ring[(q->first + q->waiting++) % q->n_slots] = s;
	pthread_cond_signal(&q->work);
}

int zip_queue_put(struct zip_queue *q, struct zip_batch *b, struct error *err)
{
	int r = 0;

	pthread_mutex_lock(&q->mutex);
	for (unsigned i = 0; i < b->n && r >= 0; i++)
		r = await_name_locked(q, b->hashes[i], err);
	if (r >= 0)
		enqueue_locked(q, container_of(b, struct slot, batch));
	pthread_mutex_unlock(&q->mutex);
	return r;
}

int zip_queue_await(struct zip_queue *q, uint64_t hash, struct error *err)
{
	int r;

	pthread_mutex_lock(&q->mutex);
	r = await_name_locked(q, hash, err);
	pthread_mutex_unlock(&q->mutex);
	return r;
}

/* Both sides. */

const atomic_bool *zip_queue_stop(const struct zip_queue *q)
{
	return &q->stop;
}

void zip_queue_fail(struct zip_queue *q, int code, const struct error *why)
{
	pthread_mutex_lock(&q->mutex);
	fail_locked(q, code, why);
	pthread_mutex_unlock(&q->mutex);
}

void zip_queue_close(struct zip_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	q->closed = true;
	pthread_cond_broadcast(&q->work);
	pthread_mutex_unlock(&q->mutex);
}

int zip_queue_outcome(struct zip_queue *q, struct error *err)
{
	int r;

	pthread_mutex_lock(&q->mutex);
	r = outcome_locked(q, err);
	pthread_mutex_unlock(&q->mutex);
	return r;
}
