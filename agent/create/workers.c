/* SPDX-License-Identifier: MIT */
/* The worker threads. The planner (for archives: stream.c) puts jobs into a queue; each worker
 * takes the first job, or the next frame of it if that is a large file. The first failure of any
 * worker stops all of them. */
#include "create_private.h"
#include "defer.h"
#include "thread.h"
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
	struct cancel_watch watch;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t changed; /* any member below, a turn, or a job's done */
	struct create_job *first, *last;
	size_t queued;
	size_t frame; /* the next frame of the first job, if that is a large file */
	bool ending;
	int failed;
	struct error why;
};

static bool is_over_locked(const struct create_workers *s)
{
	return s->ending || s->failed < 0 || cancel_requested(s->creation->opts->cancel);
}

static bool are_over(struct create_workers *s)
{
	bool over;

	pthread_mutex_lock(&s->mutex);
	over = is_over_locked(s);
	pthread_mutex_unlock(&s->mutex);
	return over;
}

/* Comparison: a file that may be unchanged is read and hashed, since times prove nothing. */

static int digest_content(
	struct worker *worker, struct content *from, struct create_item *i, struct error *err)
{
	struct sha256_ctx sha256;
	uint64_t done = 0;

	sha256_init(&sha256);
	while (done < i->size) {
		size_t n = i->size - done < FRAME_RAW ? (size_t)(i->size - done) : FRAME_RAW;
		int r = are_over(worker->workers) ? error_set(err, -ECANCELED, "cancelled")
						  : worker->creation->content_ops->read(from, done,
							    worker->frames->raw, n, err);

		if (r < 0)
			return r;
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
	int r = ops->open(worker, i, &from, err);

	if (r < 0)
		return r;
	r = digest_content(worker, &from, i, err);
	if (r == 0)
		r = ops->check(&from, err);
	ops->close(&from);
	if (r < 0)
		return r;
	i->changed = memcmp(i->sha256, i->earlier->sha256, sizeof(i->sha256)) != 0;
	if (!i->changed)
		count(&worker->creation->opts->progress->received, i->size);
	return 0;
}

static int compare_batch(struct worker *worker, struct create_job *job, struct error *err)
{
	int r = 0;

	for (size_t n = 0; n < job->n && r == 0; n++)
		r = compare_item(worker, job->items[n], err);
	return r;
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

static void fail_locked(struct create_workers *s, int code, const struct error *err)
{
	if (s->failed == 0) {
		s->failed = code;
		s->why = *err;
	}
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct create_workers *s = worker->workers;

	pthread_mutex_lock(&s->mutex);
	for (;;) {
		struct error err;
		struct create_job *job;
		size_t frame;
		struct create_job *done;
		int r;

		while (!is_over_locked(s) && s->first == NULL)
			pthread_cond_wait(&s->changed, &s->mutex);
		if (is_over_locked(s))
			break;
		job = next_job_locked(s, &frame);
		pthread_mutex_unlock(&s->mutex);
		r = run_job(worker, job, frame, &done, &err);
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

bool create_workers_await_turn(struct create_workers *s, const size_t *turn, size_t number)
{
	bool over;

	pthread_mutex_lock(&s->mutex);
	while (!(over = is_over_locked(s)) && *turn != number)
		pthread_cond_wait(&s->changed, &s->mutex);
	pthread_mutex_unlock(&s->mutex);
	return !over;
}

void create_workers_next_turn(struct create_workers *s, size_t *turn)
{
	pthread_mutex_lock(&s->mutex);
	(*turn)++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
}

static int outcome_locked(struct create_workers *s, struct error *err)
{
	if (s->failed < 0) {
		if (err != NULL)
			*err = s->why;
		return s->failed;
	}
	return cancel_requested(s->creation->opts->cancel) ? error_set(err, -ECANCELED, "cancelled")
							   : 0;
}

int create_workers_submit(struct create_workers *s, struct create_job *job, struct error *err)
{
	int r;

	pthread_mutex_lock(&s->mutex);
	while (!is_over_locked(s) && s->queued >= 2 * (size_t)s->n)
		pthread_cond_wait(&s->changed, &s->mutex);
	r = outcome_locked(s, err);
	if (r == 0) {
		job->next = NULL;
		if (s->last != NULL)
			s->last->next = job;
		else
			s->first = job;
		s->last = job;
		s->queued++;
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->mutex);
	return r;
}

int create_workers_await(struct create_workers *s, struct create_job *job, struct error *err)
{
	int r;

	pthread_mutex_lock(&s->mutex);
	while (!is_over_locked(s) && !create_job_is_done(job))
		pthread_cond_wait(&s->changed, &s->mutex);
	r = outcome_locked(s, err);
	pthread_mutex_unlock(&s->mutex);
	return r;
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
	int r;

	worker->workers = s;
	worker->creation = s->creation;
	if ((r = store_conn_open(o->store, o->cancel, &worker->store, err)) < 0)
		return r;
	worker->frames = frames_new();
	r = thread_start_next(&worker->thread, (size_t)(worker - s->all), worker_main, worker, err);
	worker->started = r > 0;
	return r;
}

int create_workers_start(struct creation *c, struct create_workers **ret, struct error *err)
{
	struct create_workers *s = zalloc(sizeof(*s));
	int r = 1;

	s->creation = c;
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->changed, NULL);
	s->watch = (struct cancel_watch){.mutex = &s->mutex, .cond = &s->changed};
	cancel_watch(c->opts->cancel, &s->watch);
	s->n = count_affordable(s, (c->opts->threads > 0 ? c->opts->threads : 1) + SENDERS, err);
	s->all = zalloc((s->n + 1) * sizeof(*s->all));
	if (s->n == 0)
		r = -ECANCELED;
	for (unsigned i = 0; i < s->n && r > 0; i++)
		r = start_worker(s, &s->all[i], err);
	if (r < 0) {
		create_workers_stop(s);
		return r;
	}
	*ret = s;
	return 0;
}

static void worker_done(struct worker *worker)
{
	if (worker->started)
		pthread_join(worker->thread, NULL);
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
	pthread_mutex_lock(&s->mutex);
	s->ending = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->mutex);
	for (unsigned i = 0; i < s->n; i++)
		worker_done(&s->all[i]);
	free_queued_frames(s);
	cancel_unwatch(s->creation->opts->cancel, &s->watch);
	if (s->reserved > 0)
		budget_release(s->creation->opts->budget, s->reserved);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->mutex);
	free(s->all);
	free(s);
}
