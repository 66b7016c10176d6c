/* SPDX-License-Identifier: MIT */
/* A reader whose input runs on a thread of its own. It owns the thread and a ring of slices between
 * the thread and the caller; the end of the stream and errors are returned in order, behind the
 * slices that precede them. */
#include "decode.h"
#include "defer.h"
#include "text.h"
#include "thread.h"
#include <assert.h>
#include <errno.h>
#include <pthread.h>

struct ahead {
	struct reader base;

	/* Set at creation. */
	struct cancel *cancel;
	struct progress *progress;
	struct cancel_watch watch; /* wakes the thread or the caller, whichever sleeps */
	pthread_t thread;
	unsigned size; /* of ring */

	/* Used by the thread alone, until it is joined. */
	struct reader *in;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t changed; /* at most one side waits: a ring is not both full and empty */
	struct slice *ring;
	unsigned first, n; /* the ring has n slices, from ring[first] on, wrapping around its end */
	bool closing;      /* the caller does not need more slices */
	bool ended;        /* the thread has finished; result and why are set */
	int result;        /* 0: the end of the stream; negative: the code of why */
	struct error why;
};

static bool may_sleep_locked(const struct ahead *a)
{
	return !a->closing && !cancel_requested(a->cancel);
}

/* Appends a slice. false: it is not needed any more, and was dropped. */
static bool push(struct ahead *a, struct slice s)
{
	bool wanted;

	pthread_mutex_lock(&a->mutex);
	while (a->n == a->size && may_sleep_locked(a))
		pthread_cond_wait(&a->changed, &a->mutex);
	wanted = may_sleep_locked(a);
	if (wanted) {
		a->ring[(a->first + a->n++) % a->size] = s;
		pthread_cond_signal(&a->changed);
	}
	pthread_mutex_unlock(&a->mutex);
	if (!wanted)
		slice_drop(&s);
	return wanted;
}

static void push_end(struct ahead *a, int result, const struct error *why)
{
	pthread_mutex_lock(&a->mutex);
	a->ended = true;
	a->result = result;
	if (result < 0)
		a->why = *why;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->mutex);
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
	push_end(a, got, &why);
	return NULL;
}

static bool pop_locked(struct ahead *a, struct slice *ret)
{
	if (a->n == 0)
		return false;
	*ret = a->ring[a->first];
	a->first = (a->first + 1) % a->size;
	a->n--;
	pthread_cond_signal(&a->changed);
	return true;
}

static void wait_for_slice_locked(struct ahead *a)
{
	uint64_t since = now_ns();

	while (a->n == 0 && !a->ended && !cancel_requested(a->cancel))
		pthread_cond_wait(&a->changed, &a->mutex);
	if (a->progress != NULL)
		count(&a->progress->decode_ns, now_ns() - since);
}

static int ahead_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct ahead *a = container_of(r, struct ahead, base);
	int code;

	pthread_mutex_lock(&a->mutex);
	if (a->n == 0 && !a->ended)
		wait_for_slice_locked(a);
	if (pop_locked(a, ret)) {
		code = 1;
	} else if (a->ended) {
		code = a->result;
		if (code < 0 && err != NULL)
			*err = a->why;
	} else {
		code = error_set(err, -ECANCELED, "cancelled");
	}
	pthread_mutex_unlock(&a->mutex);
	return code;
}

static void ahead_free(struct ahead *a)
{
	cancel_unwatch(a->cancel, &a->watch);
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->mutex);
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
		pthread_mutex_lock(&a->mutex);
		a->closing = true;
		some = pop_locked(a, &s);
		pthread_cond_signal(&a->changed);
		pthread_mutex_unlock(&a->mutex);
		if (some)
			slice_drop(&s);
	} while (some);
}

static void ahead_close(struct reader *r)
{
	struct ahead *a = container_of(r, struct ahead, base);

	drop_slices(a);
	pthread_join(a->thread, NULL);
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
	a->cancel = cancel;
	a->progress = progress;
	a->in = in;
	a->size = slices;
	a->ring = zalloc(slices * sizeof(struct slice));
	pthread_mutex_init(&a->mutex, NULL);
	pthread_cond_init(&a->changed, NULL);
	a->watch = (struct cancel_watch){.mutex = &a->mutex, .cond = &a->changed};
	cancel_watch(cancel, &a->watch);
	if (!thread_start_extra(&a->thread, ahead_main, a)) {
		ahead_free(a);
		return in;
	}
	return &a->base;
}
