/* SPDX-License-Identifier: MIT */
/* The threads behind the walk through a zip, and the batch that the walk is filling for them. */
#include "zip_workers.h"
#include "defer.h"
#include "names.h"
#include "text.h"
#include "zip_queue.h"
#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>

/* Batches for each worker: one that it works on, and the next; and as many again, so that the walk
 * is woken for several at once. */
#define BATCHES_EACH 4

struct zip_workers {
	/* Set at creation. */
	const struct unpack_env *env;
	const char *source;
	struct crew *crew;
	struct block_pool *outputs;
	struct zip_queue *queue;
	pthread_t *threads;
	unsigned n_threads, batch_jobs;

	/* The walk's. */
	struct zip_batch *filling; /* NULL: none */
};

static void work_until_over(struct zip_workers *w, struct zip_hands *hands)
{
	const atomic_bool *stop = zip_queue_stop(w->queue);
	struct zip_batch *b;

	while ((b = zip_queue_take(w->queue)) != NULL) {
		struct error err;
		int r = zip_batch_run(b, hands, stop, &err);

		zip_queue_give_back(w->queue, b, r, &err);
	}
}

static void *worker_main(void *ctx)
{
	struct zip_workers *w = ctx;
	struct zip_hands hands = {
		.crew = w->crew,
		.writer = writer_new(w->env->tree, w->source, w->env->progress),
		.inflater = libdeflate_alloc_decompressor(),
		.outputs = w->outputs,
		.cancel = w->env->cancel,
	};
	struct error err;

	if (hands.inflater != NULL)
		work_until_over(w, &hands);
	else
		zip_queue_fail(w->queue, error_set(&err, -ENOMEM, "out of memory"), &err);
	block_unref(hands.output);
	libdeflate_free_decompressor(hands.inflater);
	writer_close(hands.writer);
	return NULL;
}

/* So many that every worker gets some, and that the last ones are not left to one. */
static unsigned jobs_in_batch(const struct zip_workforce *force)
{
	uint64_t n = force->entries / (force->threads * (uint64_t)BATCHES_EACH);

	return n < 1 ? 1 : n > ZIP_BATCH_JOBS ? ZIP_BATCH_JOBS : (unsigned)n;
}

int zip_workers_start(const struct unpack_env *env, const struct zip_workforce *force,
	struct zip_workers **ret, struct error *err)
{
	struct zip_workers *w = zalloc(sizeof(*w));
	int r = 0;

	w->env = env;
	w->source = force->source;
	w->crew = force->crew;
	w->batch_jobs = jobs_in_batch(force);
	w->outputs = block_pool_new(force->part, force->threads, NULL, NULL);
	w->queue = zip_queue_new(force->threads * BATCHES_EACH, env->cancel);
	w->threads = zalloc(force->threads * sizeof(pthread_t));
	while (w->n_threads < force->threads && r == 0) {
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

int zip_workers_flush(struct zip_workers *w, struct error *err)
{
	int r;

	if (w->filling == NULL)
		return 0;
	r = zip_queue_put(w->queue, w->filling, err);
	if (r >= 0)
		w->filling = NULL;
	return r;
}

int zip_workers_add(struct zip_workers *w, const struct zip_job *job, struct error *err)
{
	int r = w->filling != NULL ? 0 : zip_queue_open(w->queue, &w->filling, err);

	if (r < 0) {
		struct zip_job mine = *job;

		zip_job_done(&mine);
		return r;
	}
	zip_batch_add(w->filling, job);
	return zip_batch_is_full(w->filling, w->batch_jobs) ? zip_workers_flush(w, err) : 0;
}

int zip_workers_await(struct zip_workers *w, const char *name, struct error *err)
{
	int r = zip_workers_flush(w, err);

	return r < 0 ? r : zip_queue_await(w->queue, name_hash(name), err);
}

int zip_workers_finish(struct zip_workers *w, int code, struct error *err)
{
	if (code >= 0)
		code = zip_workers_flush(w, err);
	if (code < 0)
		zip_queue_fail(w->queue, code, err);
	zip_queue_close(w->queue);
	for (unsigned i = 0; i < w->n_threads; i++)
		pthread_join(w->threads[i], NULL);
	code = zip_queue_outcome(w->queue, err);
	zip_queue_free(w->queue);
	block_pool_free(w->outputs);
	free(w->threads);
	free(w);
	return code;
}
