/* SPDX-License-Identifier: MIT */
/* The threads behind the walk through a zip: a queue in front, a slot for each entry under way. */
#include "zip_workers.h"
#include "defer.h"
#include "names.h"
#include "text.h"
#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>

#define SLOTS 128

struct slot {
	enum { SLOT_FREE, SLOT_WAITING, SLOT_RUNNING } state;
	uint64_t hash; /* of the job's name */
	struct zip_job job;
};

struct zip_workers {
	/* Set at creation. */
	const struct unpack_env *env;
	const char *source;
	struct block_pool *outputs;
	pthread_t *threads;
	unsigned n_threads;
	struct cancel_watch watch_work, watch_done;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t work; /* a slot waits, or all is over; workers sleep on it */
	pthread_cond_t done; /* a slot is free again, or all is over; the walk sleeps on it */
	struct slot slots[SLOTS];
	unsigned queue[SLOTS]; /* ring of waiting slots */
	unsigned first, waiting;
	bool closing; /* no more jobs will come */
	int failed;
	struct error why;
};

static bool is_over_locked(const struct zip_workers *w)
{
	return w->failed < 0 || cancel_requested(w->env->cancel);
}

static void fail_locked(struct zip_workers *w, int code, const struct error *why)
{
	if (w->failed == 0) {
		w->failed = code;
		w->why = *why;
	}
	pthread_cond_broadcast(&w->work);
	pthread_cond_signal(&w->done);
}

/* The slot to work on; NULL when there will be none. */
static struct slot *take_locked(struct zip_workers *w)
{
	struct slot *s;

	while (w->waiting == 0 && !w->closing && !is_over_locked(w))
		pthread_cond_wait(&w->work, &w->mutex);
	if (w->waiting == 0 || is_over_locked(w))
		return NULL;
	s = &w->slots[w->queue[w->first]];
	w->first = (w->first + 1) % SLOTS;
	w->waiting--;
	s->state = SLOT_RUNNING;
	return s;
}

static void work_until_over(struct zip_workers *w, const struct zip_hands *hands)
{
	struct slot *s;

	pthread_mutex_lock(&w->mutex);
	while ((s = take_locked(w)) != NULL) {
		struct error err;
		int r;

		pthread_mutex_unlock(&w->mutex);
		r = zip_job_run(&s->job, hands, &err);
		zip_job_done(&s->job);
		pthread_mutex_lock(&w->mutex);
		s->state = SLOT_FREE;
		pthread_cond_signal(&w->done);
		if (r < 0)
			fail_locked(w, r, &err);
	}
	pthread_mutex_unlock(&w->mutex);
}

static void *worker_main(void *ctx)
{
	struct zip_workers *w = ctx;
	struct zip_hands hands = {
		.writer = writer_new(w->env->tree, w->source, w->env->progress),
		.inflater = libdeflate_alloc_decompressor(),
		.outputs = w->outputs,
		.cancel = w->env->cancel,
	};
	struct error err;

	if (hands.inflater != NULL) {
		work_until_over(w, &hands);
	} else {
		pthread_mutex_lock(&w->mutex);
		fail_locked(w, error_set(&err, -ENOMEM, "out of memory"), &err);
		pthread_mutex_unlock(&w->mutex);
	}
	libdeflate_free_decompressor(hands.inflater);
	writer_close(hands.writer);
	return NULL;
}

int zip_workers_start(const struct unpack_env *env, const char *source, unsigned threads,
	size_t part, struct zip_workers **ret, struct error *err)
{
	struct zip_workers *w = zalloc(sizeof(*w));
	int r = 0;

	w->env = env;
	w->source = source;
	w->outputs = block_pool_new(part, threads, NULL, NULL);
	w->threads = zalloc(threads * sizeof(pthread_t));
	pthread_mutex_init(&w->mutex, NULL);
	pthread_cond_init(&w->work, NULL);
	pthread_cond_init(&w->done, NULL);
	w->watch_work = (struct cancel_watch){.mutex = &w->mutex, .cond = &w->work};
	w->watch_done = (struct cancel_watch){.mutex = &w->mutex, .cond = &w->done};
	cancel_watch(env->cancel, &w->watch_work);
	cancel_watch(env->cancel, &w->watch_done);
	while (w->n_threads < threads && r == 0) {
		r = pthread_create(&w->threads[w->n_threads], NULL, worker_main, w);
		w->n_threads += r == 0;
	}
	if (w->n_threads == 0) { /* fewer would do */
		errno = r;
		return zip_workers_finish(w, error_set(err, -r, "start a thread: %m"), err);
	}
	*ret = w;
	return 0;
}

/* A free slot, or NULL when there is none or one of this name is under way. */
static struct slot *free_slot_locked(struct zip_workers *w, uint64_t hash)
{
	struct slot *found = NULL;

	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *s = &w->slots[i];

		if (s->state != SLOT_FREE && s->hash == hash)
			return NULL;
		if (s->state == SLOT_FREE)
			found = s;
	}
	return found;
}

static int await_slot_locked(
	struct zip_workers *w, uint64_t hash, struct slot **ret, struct error *err)
{
	struct slot *s = NULL;

	while (!is_over_locked(w) && (s = free_slot_locked(w, hash)) == NULL)
		pthread_cond_wait(&w->done, &w->mutex);
	if (w->failed < 0) {
		*err = w->why;
		return w->failed;
	}
	if (s == NULL)
		return error_set(err, -ECANCELED, "cancelled");
	*ret = s;
	return 0;
}

int zip_workers_submit(struct zip_workers *w, const struct zip_job *job, struct error *err)
{
	struct zip_job mine = *job;
	uint64_t hash = name_hash(job->name);
	struct slot *s;
	int r;

	pthread_mutex_lock(&w->mutex);
	r = await_slot_locked(w, hash, &s, err);
	if (r >= 0) {
		*s = (struct slot){.state = SLOT_WAITING, .hash = hash, .job = mine};
		w->queue[(w->first + w->waiting++) % SLOTS] = (unsigned)(s - w->slots);
		pthread_cond_signal(&w->work);
	}
	pthread_mutex_unlock(&w->mutex);
	if (r < 0)
		zip_job_done(&mine);
	return r;
}

int zip_workers_await(struct zip_workers *w, const char *name, struct error *err)
{
	struct slot *s;
	int r;

	pthread_mutex_lock(&w->mutex);
	r = await_slot_locked(w, name_hash(name), &s, err);
	pthread_mutex_unlock(&w->mutex);
	return r;
}

static void free_workers(struct zip_workers *w)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (w->slots[i].state == SLOT_WAITING)
			zip_job_done(&w->slots[i].job);
	block_pool_free(w->outputs);
	pthread_cond_destroy(&w->done);
	pthread_cond_destroy(&w->work);
	pthread_mutex_destroy(&w->mutex);
	free(w->threads);
	free(w);
}

int zip_workers_finish(struct zip_workers *w, int code, struct error *err)
{
	pthread_mutex_lock(&w->mutex);
	w->closing = true;
	if (code < 0)
		fail_locked(w, code, err);
	pthread_cond_broadcast(&w->work);
	pthread_mutex_unlock(&w->mutex);
	for (unsigned i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
	cancel_unwatch(w->env->cancel, &w->watch_done);
	cancel_unwatch(w->env->cancel, &w->watch_work);

	code = w->failed;
	if (code < 0)
		*err = w->why;
	else if (cancel_requested(w->env->cancel))
		code = error_set(err, -ECANCELED, "cancelled");
	free_workers(w);
	return code;
}
