/* SPDX-License-Identifier: MIT */
/* The threads that read, compress and send. A queue that the director fills, in order; each hand takes a whole
 * work, or the next frame of a large file. The first failure of any of them stops all. */
#include "defer.h"
#include "frames.h"
#include <errno.h>
#include <string.h>

/* What a hand needs at most: a pack compressed, a raw frame, the compressors, a part of a large file. */
#define HAND_BYTES ((uint64_t)48 << 20)

/* While some send, others compress. */
enum { SENDING = 2 };

struct hands {
	/* Set at creation. */
	struct creation *creation;
	struct hand *all;
	unsigned n;
	uint64_t reserved;
	struct cancel_watch watch;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t changed; /* anything below, a turn or a work's done */
	struct work *first, *last;
	size_t queued;
	size_t frame; /* of the first work, if that is a large file: the next one */
	bool ending;
	int failed;
	struct error why;
};

static bool is_over_locked(const struct hands *s)
{
	return s->ending || s->failed < 0 || cancel_requested(s->creation->opts->cancel);
}

/* The next work, and which frame of it; it stays in the queue until its last frame is taken. */
static struct work *take_locked(struct hands *s, size_t *ret_frame)
{
	struct work *w = s->first;

	*ret_frame = s->frame;
	if (w->kind == WORK_LARGE && ++s->frame < large_frames(w->large))
		return w;
	s->frame = 0;
	s->first = w->next;
	if (s->first == NULL)
		s->last = NULL;
	s->queued--;
	return w;
}

static int do_work(
	struct hand *h, struct work *w, size_t frame, struct work **ret_done, struct error *err)
{
	*ret_done = w;
	switch (w->kind) {
	case WORK_HASH:
		return hash_make(h, w, err);
	case WORK_PACK:
		return pack_make(h, w, err);
	case WORK_LARGE:
		return large_make_frame(h, w, frame, ret_done, err);
	default:
		return streamed_make_frame(h, w, ret_done, err);
	}
}

static void fail_locked(struct hands *s, int code, const struct error *err)
{
	if (s->failed == 0) {
		s->failed = code;
		s->why = *err;
	}
}

static void *hand_main(void *arg)
{
	struct hand *h = arg;
	struct hands *s = h->hands;

	pthread_mutex_lock(&s->mutex);
	for (;;) {
		struct error err;
		struct work *w;
		size_t frame;
		struct work *done;
		int r;

		while (!is_over_locked(s) && s->first == NULL)
			pthread_cond_wait(&s->changed, &s->mutex);
		if (is_over_locked(s))
			break;
		w = take_locked(s, &frame);
		pthread_mutex_unlock(&s->mutex);
		r = do_work(h, w, frame, &done, &err);
		pthread_mutex_lock(&s->mutex);
		if (r < 0)
			fail_locked(s, r, &err);
		else if (done != NULL)
			atomic_store_explicit(&done->done, true, memory_order_release);
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->mutex);
	return NULL;
}

bool makers_await_turn(struct hands *s, const size_t *turn, size_t number)
{
	bool over;

	pthread_mutex_lock(&s->mutex);
	while (!(over = is_over_locked(s)) && *turn != number)
		pthread_cond_wait(&s->changed, &s->mutex);
	pthread_mutex_unlock(&s->mutex);
	return !over;
}

void makers_next_turn(struct hands *s, size_t *turn)
{
	pthread_mutex_lock(&s->mutex);
	(*turn)++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
}

static int outcome_locked(struct hands *s, struct error *err)
{
	if (s->failed < 0) {
		if (err != NULL)
			*err = s->why;
		return s->failed;
	}
	return cancel_requested(s->creation->opts->cancel) ? error_set(err, -ECANCELED, "cancelled")
							   : 0;
}

int makers_give(struct hands *s, struct work *w, struct error *err)
{
	int r;

	pthread_mutex_lock(&s->mutex);
	while (!is_over_locked(s) && s->queued >= 2 * (size_t)s->n)
		pthread_cond_wait(&s->changed, &s->mutex);
	r = outcome_locked(s, err);
	if (r == 0) {
		w->next = NULL;
		if (s->last != NULL)
			s->last->next = w;
		else
			s->first = w;
		s->last = w;
		s->queued++;
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->mutex);
	return r;
}

int makers_await(struct hands *s, struct work *w, struct error *err)
{
	int r;

	pthread_mutex_lock(&s->mutex);
	while (!is_over_locked(s) && !work_is_done(w))
		pthread_cond_wait(&s->changed, &s->mutex);
	r = outcome_locked(s, err);
	pthread_mutex_unlock(&s->mutex);
	return r;
}

bool makers_failed(struct hands *s)
{
	bool over;

	pthread_mutex_lock(&s->mutex);
	over = is_over_locked(s);
	pthread_mutex_unlock(&s->mutex);
	return over;
}

/* How many hands there is memory for. Where the source is no object that the network's half is for, that
 * half is theirs too. One there is always: most content becomes smaller, so that it takes less than this. */
static unsigned affordable(struct hands *s, unsigned wanted, struct error *err)
{
	const struct create_options *o = s->creation->opts;
	uint64_t half = budget_stage_half(o->budget), first = half < HAND_BYTES ? half : HAND_BYTES;
	unsigned n = 1;

	/* Whoever reads an archive has reserved already, and must not be waited for. */
	if (!s->creation->streamed && budget_reserve(o->budget, first, o->cancel, err) < 0)
		return 0;
	s->reserved = s->creation->streamed ? 0 : first;
	while (n < wanted && budget_try_reserve(o->budget, HAND_BYTES)) {
		s->reserved += HAND_BYTES;
		n++;
	}
	if (s->creation->local)
		n += (unsigned)(budget_network_half(o->budget) / HAND_BYTES);
	return n < wanted ? n : wanted;
}

static int hand_start(struct hands *s, struct hand *h, struct error *err)
{
	const struct create_options *o = s->creation->opts;
	int r;

	h->hands = s;
	h->creation = s->creation;
	if ((r = store_hand_open(o->store, o->cancel, &h->store, err)) < 0)
		return r;
	h->frames = frames_new();
	r = pthread_create(&h->thread, NULL, hand_main, h);
	if (r != 0)
		return error_set(err, -r, "start a thread: %s", "no more of them are allowed here");
	h->started = true;
	return 0;
}

int makers_start(struct creation *c, struct hands **ret, struct error *err)
{
	struct hands *s = zalloc(sizeof(*s));
	int r = 0;

	s->creation = c;
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->watch = (struct cancel_watch){.mutex = &s->mutex, .cond = &s->changed};
	cancel_watch(c->opts->cancel, &s->watch);
	s->n = affordable(s, (c->opts->threads > 0 ? c->opts->threads : 1) + SENDING, err);
	s->all = zalloc((s->n + 1) * sizeof(*s->all));
	if (s->n == 0)
		r = -ECANCELED;
	for (unsigned i = 0; i < s->n && r == 0; i++)
		r = hand_start(s, &s->all[i], err);
	if (r < 0) {
		makers_stop(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void hand_done(struct hand *h)
{
	if (h->started)
		pthread_join(h->thread, NULL);
	store_hand_close(h->store);
	s3_client_free(h->s3);
	frames_free(h->frames);
	free(h->spare);
}

/* Other works are their items'. */
static void drop_frames(struct hands *s)
{
	struct work *next;

	for (struct work *w = s->first; w != NULL; w = next) {
		next = w->next;
		if (w->kind == WORK_FRAME)
			work_free(w);
	}
}

void makers_stop(struct hands *s)
{
	if (s == NULL)
		return;
	pthread_mutex_lock(&s->mutex);
	s->ending = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
	for (unsigned i = 0; i < s->n; i++)
		hand_done(&s->all[i]);
	drop_frames(s);
	cancel_unwatch(s->creation->opts->cancel, &s->watch);
	if (s->reserved > 0)
		budget_release(s->creation->opts->budget, s->reserved);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->mutex);
	free(s->all);
	free(s);
}
