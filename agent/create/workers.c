/* SPDX-License-Identifier: MIT */
/* The worker threads. The planner (for archives: stream.c) puts jobs into a queue; each worker
 * takes the first job, or the next frame of it if that is a large file. The first failure of any
 * worker stops all of them. */
#include "workers.h"
#include "create_private.h"
#include "defer.h"
#include <errno.h>
#include <string.h>

/* Upper bound of a worker's memory: a compressed pack, a raw frame, the compressors, a part of a
 * large file. */
#define WORKER_BYTES ((uint64_t)48 << 20)

/* Workers beyond the number of threads that compress, as some wait for the network. */
enum { SENDERS = 2 };

struct create_workers {
	/* Set at creation. */
	struct creation *creation;
	struct worker *all;
	unsigned n;
	uint64_t reserved;

	struct workers pool;
	struct workers_condition changed; /* any member below, a turn, or a job's done */

	/* Under the pool's lock. */
	struct create_job *first, *last;
	size_t queued;
	size_t frame; /* the next frame of the first job, if that is a large file */
};

/* Comparison: a file that may be unchanged is read and hashed, since times prove nothing. */

static int digest_content(
	struct worker *worker, struct content *from, struct create_item *i, struct error *err)
{
	struct sha256_ctx sha256;
	uint64_t done = 0;

	sha256_init(&sha256);
	while (done < i->size) {
		size_t n = i->size - done < FRAME_RAW ? (size_t)(i->size - done) : FRAME_RAW;
		int code;

		if (workers_must_stop(&worker->workers->pool))
			return error_set(err, -ECANCELED, "cancelled");
		code = worker->creation->content_ops->read(from, done, worker->frames->raw, n, err);
		if (code < 0)
			return code;
		sha256_update(&sha256, n, worker->frames->raw);
		done += n;
	}
	sha256_digest(&sha256, sizeof(i->sha256), i->sha256);
	return 0;
}

static int compare_item(struct worker *worker, struct create_item *i, struct error *err)
{
	const struct content_ops *ops = worker->creation->content_ops;
	struct content from;
	int code = ops->open(worker, i, &from, err);

	if (code < 0)
		return code;
	code = digest_content(worker, &from, i, err);
	if (code == 0)
		code = ops->check(&from, err);
	ops->close(&from);
	if (code < 0)
		return code;
	i->changed = memcmp(i->sha256, i->earlier->sha256, sizeof(i->sha256)) != 0;
	if (!i->changed)
		count(&worker->creation->opts->progress->received, i->size);
	return 0;
}

static int compare_batch(struct worker *worker, struct create_job *job, struct error *err)
{
	int code = 0;

	for (size_t n = 0; n < job->n && code == 0; n++)
		code = compare_item(worker, job->items[n], err);
	return code;
}

/* The queue, and the threads. */

/* Returns the first job and the frame of it to process. The job is removed with its last
 * frame. */
static struct create_job *next_job_locked(struct create_workers *s, size_t *ret_frame)
{
	struct create_job *job = s->first;

	*ret_frame = s->frame;
	if (job->kind == JOB_LARGE && ++s->frame < large_frames(job->large))
		return job;
	s->frame = 0;
	s->first = job->next;
	if (s->first == NULL)
		s->last = NULL;
	s->queued--;
	return job;
}

static int run_job(struct worker *worker, struct create_job *job, size_t frame,
	struct create_job **ret_done, struct error *err)
{
	*ret_done = job;
	switch (job->kind) {
	case JOB_COMPARE:
		return compare_batch(worker, job, err);
	case JOB_PACK:
		return pack_process(worker, job, err);
	case JOB_LARGE:
		return large_process_frame(worker, job, frame, ret_done, err);
	default:
		return large_process_streamed_frame(worker, job, ret_done, err);
	}
}

/* Sleeps until there is a job; NULL: the worker ends. */
static struct create_job *await_job_locked(struct create_workers *s, size_t *ret_frame)
{
	while (s->first == NULL && !workers_must_stop(&s->pool))
		workers_wait(&s->pool, &s->changed);
	return workers_must_stop(&s->pool) ? NULL : next_job_locked(s, ret_frame);
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct create_workers *s = worker->workers;
	struct create_job *job;
	size_t frame;

	pthread_mutex_lock(&s->pool.mutex);
	while ((job = await_job_locked(s, &frame)) != NULL) {
		struct create_job *done;
		struct error err;
		int code;

		pthread_mutex_unlock(&s->pool.mutex);
		code = run_job(worker, job, frame, &done, &err);
		pthread_mutex_lock(&s->pool.mutex);
		if (code < 0)
			workers_fail_locked(&s->pool, code, &err);
		else if (done != NULL)
			atomic_store_explicit(&done->done, true, memory_order_release);
		workers_wake_all(&s->changed);
	}
	pthread_mutex_unlock(&s->pool.mutex);
	return NULL;
}

int create_workers_await_turn(
	struct create_workers *s, const uint64_t *turn, uint64_t number, struct error *err)
{
	return workers_await_turn(&s->pool, &s->changed, turn, number, err);
}

void create_workers_next_turn(struct create_workers *s, uint64_t *turn)
{
	workers_next_turn(&s->pool, &s->changed, turn);
}

static void enqueue_locked(struct create_workers *s, struct create_job *job)
{
	job->next = NULL;
	if (s->last != NULL)
		s->last->next = job;
	else
		s->first = job;
	s->last = job;
	s->queued++;
	workers_wake_all(&s->changed);
}

int create_workers_submit(struct create_workers *s, struct create_job *job, struct error *err)
{
	int code;

	pthread_mutex_lock(&s->pool.mutex);
	while (s->queued >= 2 * (size_t)s->n && !workers_must_stop(&s->pool))
		workers_wait(&s->pool, &s->changed);
	code = workers_outcome_locked(&s->pool, err);
	if (code == 0)
		enqueue_locked(s, job);
	pthread_mutex_unlock(&s->pool.mutex);
	return code;
}

int create_workers_await(struct create_workers *s, struct create_job *job, struct error *err)
{
	int code;

	pthread_mutex_lock(&s->pool.mutex);
	while (!create_job_is_done(job) && !workers_must_stop(&s->pool))
		workers_wait(&s->pool, &s->changed);
	code = workers_outcome_locked(&s->pool, err);
	pthread_mutex_unlock(&s->pool.mutex);
	return code;
}

/* How many workers there is memory for. If the source is local, then the network's half of the
 * budget is theirs too, because no transfer uses it. There is always one: most content compresses,
 * so that a worker usually needs less than WORKER_BYTES. */
static unsigned count_affordable(struct create_workers *s, unsigned wanted, struct error *err)
{
	const struct create_options *o = s->creation->opts;
	uint64_t half = budget_stage_half(o->budget),
		 first = half < WORKER_BYTES ? half : WORKER_BYTES;
	unsigned n = 1;

	/* The decoder of an archive holds a reservation already: to wait for another one could
	 * deadlock. */
	if (!s->creation->streamed && budget_reserve(o->budget, first, o->cancel, err) < 0)
		return 0;
	s->reserved = s->creation->streamed ? 0 : first;
	while (n < wanted && budget_try_reserve(o->budget, WORKER_BYTES)) {
		s->reserved += WORKER_BYTES;
		n++;
	}
	if (s->creation->local)
		n += (unsigned)(budget_network_half(o->budget) / WORKER_BYTES);
	return n < wanted ? n : wanted;
}

/* 1; 0: no more threads can be started; or a negative code. */
static int start_worker(struct create_workers *s, struct worker *worker, struct error *err)
{
	const struct create_options *o = s->creation->opts;
	int code;

	worker->workers = s;
	worker->creation = s->creation;
	code = store_conn_open(o->store, o->cancel, &worker->store, err);
	if (code < 0)
		return code;
	worker->frames = frames_new();
	return workers_start(&s->pool, worker_main, worker, err);
}

int create_workers_start(struct creation *c, struct create_workers **ret, struct error *err)
{
	struct create_workers *s = zalloc(sizeof(*s));
	int code = 1;

	s->creation = c;
	s->n = count_affordable(s, (c->opts->threads > 0 ? c->opts->threads : 1) + SENDERS, err);
	workers_init(&s->pool, s->n, c->opts->cancel);
	workers_add_condition(&s->pool, &s->changed);
	s->all = zalloc((s->n + 1) * sizeof(*s->all));
	if (s->n == 0)
		code = -ECANCELED;
	for (unsigned i = 0; i < s->n && code > 0; i++)
		code = start_worker(s, &s->all[i], err);
	if (code < 0) {
		create_workers_stop(s);
		return code;
	}
	*ret = s;
	return 0;
}

static void worker_done(struct worker *worker)
{
	store_conn_close(worker->store);
	s3_client_free(worker->s3);
	frames_free(worker->frames);
	free(worker->spare_part);
}

/* All other jobs belong to their items. */
static void free_queued_frames(struct create_workers *s)
{
	struct create_job *next;

	for (struct create_job *job = s->first; job != NULL; job = next) {
		next = job->next;
		if (job->kind == JOB_STREAMED_FRAME)
			create_job_free(job);
	}
}

void create_workers_stop(struct create_workers *s)
{
	if (s == NULL)
		return;
	workers_stop(&s->pool);
	for (unsigned i = 0; i < s->n; i++)
		worker_done(&s->all[i]);
	free_queued_frames(s);
	if (s->reserved > 0)
		budget_release(s->creation->opts->budget, s->reserved);
	workers_done(&s->pool);
	free(s->all);
	free(s);
}
