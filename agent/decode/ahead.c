/* SPDX-License-Identifier: MIT */
/* A reader whose input runs on a thread of its own. It owns the thread and a ring of slices between
 * the thread and the caller; the end of the stream and errors are returned in order, behind the
 * slices that precede them. */
#include "decode.h"
#include "defer.h"
#include "text.h"
#include "workers.h"
#include <assert.h>
#include <errno.h>

struct ahead {
	struct reader base;

	/* Set at creation. */
	struct progress *progress;
	unsigned size; /* of ring */

	/* Used by the thread alone, until it is joined. */
	struct reader *in;

	struct workers pool; /* one thread; its failure is the end of the stream */
	/* At most one side waits: a ring is not both full and empty. */
	struct workers_condition changed;

	/* Under the pool's lock. */
	struct slice *ring;
	unsigned first, n; /* the ring has n slices, from ring[first] on, wrapping around its end */
	bool closing;      /* the caller does not need more slices */
	bool ended;        /* the thread has read the whole stream */
};

/* Appends a slice. false: it is not needed any more, and was dropped. */
static bool push(struct ahead *a, struct slice s)
{
	bool wanted;

	pthread_mutex_lock(&a->pool.mutex);
	while (a->n == a->size && !a->closing && !workers_must_stop(&a->pool))
		workers_wait(&a->pool, &a->changed);
	wanted = !a->closing && !workers_must_stop(&a->pool);
	if (wanted) {
		a->ring[(a->first + a->n++) % a->size] = s;
		workers_wake_one(&a->changed);
	}
	pthread_mutex_unlock(&a->pool.mutex);
	if (!wanted)
		slice_drop(&s);
	return wanted;
}

static void push_end(struct ahead *a)
{
	pthread_mutex_lock(&a->pool.mutex);
	a->ended = true;
	workers_wake_one(&a->changed);
	pthread_mutex_unlock(&a->pool.mutex);
}

static void *ahead_main(void *arg)
{
	struct ahead *a = arg;
	struct error why;
	struct slice s;
	int got;

	while ((got = reader_next(a->in, &s, &why)) > 0) {
		if (!push(a, s)) {
			got = error_set(&why, -ECANCELED, "cancelled");
			break;
		}
	}
	if (got < 0)
		workers_fail(&a->pool, got, &why);
	else
		push_end(a);
	return NULL;
}

static bool pop_locked(struct ahead *a, struct slice *ret)
{
	if (a->n == 0)
		return false;
	*ret = a->ring[a->first];
	a->first = (a->first + 1) % a->size;
	a->n--;
	workers_wake_one(&a->changed);
	return true;
}

static void wait_for_slice_locked(struct ahead *a)
{
	uint64_t since = now_ns();

	while (a->n == 0 && !a->ended && !workers_must_stop(&a->pool))
		workers_wait(&a->pool, &a->changed);
	if (a->progress != NULL)
		count(&a->progress->decode_ns, now_ns() - since);
}

static int ahead_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct ahead *a = container_of(r, struct ahead, base);
	int code;

	pthread_mutex_lock(&a->pool.mutex);
	if (a->n == 0 && !a->ended && !workers_must_stop(&a->pool))
		wait_for_slice_locked(a);
	if (pop_locked(a, ret))
		code = 1;
	else
		code = a->ended ? 0 : workers_outcome_locked(&a->pool, err);
	pthread_mutex_unlock(&a->pool.mutex);
	return code;
}

static void ahead_free(struct ahead *a)
{
	workers_done(&a->pool);
	free(a->ring);
	free(a);
}

/* Drops the slices before the thread is joined: it may be waiting for a block because these slices
 * are all the blocks there are. */
static void drop_slices(struct ahead *a)
{
	struct slice s;
	bool some;

	do {
		pthread_mutex_lock(&a->pool.mutex);
		a->closing = true;
		some = pop_locked(a, &s);
		workers_wake_one(&a->changed);
		pthread_mutex_unlock(&a->pool.mutex);
		if (some)
			slice_drop(&s);
	} while (some);
}

static void ahead_close(struct reader *r)
{
	struct ahead *a = container_of(r, struct ahead, base);

	drop_slices(a);
	workers_join(&a->pool);
	reader_close(a->in);
	ahead_free(a);
}

struct reader *ahead_reader(
	struct reader *in, unsigned slices, struct cancel *cancel, struct progress *progress)
{
	static const struct reader_ops ops = {.next = ahead_next, .close = ahead_close};
	struct ahead *a = zalloc(sizeof(*a));

	assert(slices > 0);
	reader_init(&a->base, &ops, in->name);
	a->progress = progress;
	a->in = in;
	a->size = slices;
	a->ring = zalloc(slices * sizeof(struct slice));
	workers_init(&a->pool, 1, cancel);
	workers_add_condition(&a->pool, &a->changed);
	if (!workers_start_extra(&a->pool, ahead_main, a)) {
		ahead_free(a);
		return in;
	}
	return &a->base;
}
