/* SPDX-License-Identifier: MIT */
/* The workers of the zip reader, and everything on the way to them: jobs (one entry each), batches
 * of jobs, the queue of batches, and the threads. The walking thread adds jobs, the workers
 * inflate, check and write them. */
#include "defer.h"
#include "text.h"
#include "unpack_private.h"
#include "workers.h"
#include "zip_private.h"
#include <assert.h>
#include <errno.h>
#include <libdeflate.h>
#include <string.h>

static void zip_job_done(struct zip_job *job)
{
	slice_drop(&job->packed[0]);
	slice_drop(&job->packed[1]);
}

/* Returns the worker's block, or another one while a writer still references the former. */
static struct block *output(struct zip_worker *worker)
{
	struct block *b = worker->output;

	if (b != NULL && atomic_load_explicit(&b->refs, memory_order_acquire) == 1)
		return b;
	block_unref(b);
	worker->output = block_pool_take(worker->outputs, worker->cancel);
	return worker->output;
}

static int inflate(
	const struct zip_job *job, struct zip_worker *worker, struct slice *ret, struct error *err)
{
	const struct slice *in = &job->packed[0];
	struct block *b = output(worker);
	enum libdeflate_result result;
	size_t used = 0;

	if (b == NULL)
		return error_set(err, -ECANCELED, "cancelled at '%s'", job->name);
	result = libdeflate_deflate_decompress_ex(
		worker->inflater, in->data, in->len, b->data, job->size, &used, NULL);
	if (result == LIBDEFLATE_BAD_DATA)
		return error_set(
			err, -ERR_FORMAT, "the compressed data of '%s' is damaged", job->name);
	if (result != LIBDEFLATE_SUCCESS || used != in->len)
		return error_set(err, -ERR_FORMAT,
			"the data of '%s' is not as long as the zip says (%zu bytes)", job->name,
			job->size);
	*ret = (struct slice){.data = b->data, .len = job->size, .owner = b};
	return 0;
}

static int write_link(const struct zip_job *job, const struct zip_worker *worker,
	const struct slice *content, struct error *err)
{
	_free_ char *target = zalloc(content->len + 1);

	if (content->len > 0)
		memcpy(target, content->data, content->len);
	if (strlen(target) != content->len)
		return error_set(err, -ERR_REFUSED,
			"the target of the symbolic link '%s' holds a NUL byte", job->name);
	return crew_symlink(worker->crew, worker->writer, job->name, target, &job->meta, err);
}

static int write_parts(const struct zip_job *job, const struct zip_worker *worker,
	const struct slice parts[static 2], struct error *err)
{
	struct writer *writer = worker->writer;
	int code;

	if (parts[1].len == 0)
		return crew_file(worker->crew, writer, job->name, &job->meta, &parts[0], err);
	code = crew_await(worker->crew, job->name, err);
	if (code == 0)
		code = writer_file_open(writer, job->name, &job->meta, job->size, false, err);
	if (code == 0)
		code = writer_file_write(writer, 0, parts[0].data, parts[0].len, err);
	if (code == 0)
		code = writer_file_write(writer, parts[0].len, parts[1].data, parts[1].len, err);
	return code == 0 ? writer_file_close(writer, err) : code;
}

static int write_content(const struct zip_job *job, const struct zip_worker *worker,
	const struct slice parts[static 2], struct error *err)
{
	uint32_t crc = libdeflate_crc32(0, parts[0].data, parts[0].len);

	if (parts[1].len > 0) /* with NULL, the function would return its initial value */
		crc = libdeflate_crc32(crc, parts[1].data, parts[1].len);
	if (crc != job->crc)
		return error_set(err, -ERR_FORMAT,
			"'%s' is damaged: its checksum is not the one in the zip", job->name);
	if (job->type == S_IFLNK)
		return write_link(job, worker, &parts[0], err);
	return write_parts(job, worker, parts, err);
}

/* Inflates, checks and writes the entry. The caller keeps the job. */
static int zip_job_run(const struct zip_job *job, struct zip_worker *worker, struct error *err)
{
	struct slice inflated[2] = {0}; /* borrowed: the block belongs to the worker */
	int code;

	if (job->method == ZIP_STORED)
		return write_content(job, worker, job->packed, err);
	code = inflate(job, worker, &inflated[0], err);
	return code == 0 ? write_content(job, worker, inflated, err) : code;
}

/* Batches. */

/* As many bytes are worth waking a thread for. */
#define FULL_BYTES ((uint64_t)256 << 10)
#define FULL_NAMES ((size_t)16 << 10)

void zip_batch_add(struct zip_batch *b, const struct zip_job *job)
{
	unsigned i = b->n++;

	assert(i < ZIP_BATCH_JOBS);
	b->jobs[i] = *job;
	b->hashes[i] = select_name_hash(job->name);
	b->name_at[i] = b->names.len;
	text_add_bytes(&b->names, job->name, strlen(job->name) + 1);
	b->bytes += job->packed[0].len + job->packed[1].len + job->size;
}

bool zip_batch_is_full(const struct zip_batch *b, unsigned max)
{
	return b->n >= max || b->bytes >= FULL_BYTES || b->names.len >= FULL_NAMES;
}

int zip_batch_run(
	struct zip_batch *b, struct zip_worker *worker, const atomic_bool *stop, struct error *err)
{
	int code = 0;

	for (unsigned i = 0; i < b->n; i++) {
		struct zip_job *job = &b->jobs[i];

		/* only now: the buffer may have moved while jobs were added */
		job->name = b->names.s + b->name_at[i];
		if (code == 0 && !atomic_load_explicit(stop, memory_order_relaxed))
			code = zip_job_run(job, worker, err);
		zip_job_done(job);
	}
	return code;
}

void zip_batch_clear(struct zip_batch *b)
{
	for (unsigned i = 0; i < b->n; i++)
		zip_job_done(&b->jobs[i]);
	b->n = 0;
	b->bytes = 0;
	b->names.len = 0;
}

void zip_batch_done(struct zip_batch *b)
{
	zip_batch_clear(b);
	text_done(&b->names);
}

/* Counts of names by the lowest bits of their hashes: a quick check that nearly always says that a
 * name is not among them, and may be wrong when it says that it is. */

#define NAME_BUCKETS 16384

struct zip_name_counts {
	uint32_t count[NAME_BUCKETS];
};

static void zip_name_counts_add(struct zip_name_counts *names, uint64_t hash)
{
	names->count[hash % NAME_BUCKETS]++;
}

static void zip_name_counts_remove(struct zip_name_counts *names, uint64_t hash)
{
	names->count[hash % NAME_BUCKETS]--;
}

static bool zip_name_counts_may_have(const struct zip_name_counts *names, uint64_t hash)
{
	return names->count[hash % NAME_BUCKETS] > 0;
}

/* The queue: a slot for each batch, a ring of the slots that wait for a worker, and the names of
 * the entries that are waiting or running. */

struct zip_slot {
	enum { SLOT_FREE, SLOT_OPEN, SLOT_WAITING, SLOT_RUNNING } state; /* under lock */
	/* owned by the walking thread while the slot is open, then by a worker */
	struct zip_batch batch;
};

/* What the walking thread waits for, so that it is not woken for less. */
enum zip_wait { WAIT_NOTHING, WAIT_ROOM, WAIT_ANY_BATCH };

struct zip_queue {
	/* Set at creation. */
	unsigned n_slots;

	struct workers pool;           /* its threads are started by the walking thread */
	struct workers_condition work; /* a batch is waiting, or none will come; workers wait */
	struct workers_condition done; /* what the walking thread waits for has happened */

	/* Under the pool's lock. */
	enum zip_wait awaited;
	struct zip_slot *slots;
	struct zip_slot **ring; /* slots that are waiting, in order */
	unsigned first, waiting, n_free;
	struct zip_name_counts name_counts; /* of the jobs in waiting and running slots */
	bool closed;
};

struct zip_queue *zip_queue_new(unsigned batches, struct cancel *cancel)
{
	struct zip_queue *q = zalloc(sizeof(*q));

	q->n_slots = q->n_free = batches;
	q->slots = zalloc(batches * sizeof(struct zip_slot));
	q->ring = zalloc(batches * sizeof(struct zip_slot *));
	workers_init(&q->pool, 0, cancel); /* zip_workers_start() says how many */
	workers_add_condition(&q->pool, &q->work);
	workers_add_condition(&q->pool, &q->done);
	return q;
}

void zip_queue_free(struct zip_queue *q)
{
	workers_done(&q->pool);
	for (unsigned i = 0; i < q->n_slots; i++)
		zip_batch_done(&q->slots[i].batch);
	free(q->ring);
	free(q->slots);
	free(q);
}

/* Functions of the workers. */

struct zip_batch *zip_queue_take(struct zip_queue *q)
{
	struct zip_slot *s = NULL;

	pthread_mutex_lock(&q->pool.mutex);
	while (q->waiting == 0 && !q->closed && !workers_must_stop(&q->pool))
		workers_wait(&q->pool, &q->work);
	if (q->waiting > 0 && !workers_must_stop(&q->pool)) {
		s = q->ring[q->first];
		q->first = (q->first + 1) % q->n_slots;
		q->waiting--;
		s->state = SLOT_RUNNING;
	}
	pthread_mutex_unlock(&q->pool.mutex);
	return s == NULL ? NULL : &s->batch;
}

void zip_queue_return(struct zip_queue *q, struct zip_batch *b, int code, const struct error *err)
{
	struct zip_slot *s = container_of(b, struct zip_slot, batch);

	pthread_mutex_lock(&q->pool.mutex);
	if (code < 0)
		workers_fail_locked(&q->pool, code, err);
	for (unsigned i = 0; i < b->n; i++)
		zip_name_counts_remove(&q->name_counts, b->hashes[i]);
	s->state = SLOT_FREE;
	q->n_free++;
	if (q->awaited == WAIT_ANY_BATCH ||
		(q->awaited == WAIT_ROOM && q->n_free >= q->n_slots / 2))
		workers_wake_one(&q->done);
	pthread_mutex_unlock(&q->pool.mutex);
}

/* Functions of the walking thread. */

/* Waits for an event, unless the workers must stop. May return early; the caller checks again. */
static int sleep_locked(struct zip_queue *q, enum zip_wait awaited, struct error *err)
{
	if (!workers_must_stop(&q->pool)) {
		q->awaited = awaited;
		workers_wait(&q->pool, &q->done);
		q->awaited = WAIT_NOTHING;
	}
	return workers_outcome_locked(&q->pool, err);
}

static bool is_queued_locked(const struct zip_queue *q, uint64_t hash)
{
	if (!zip_name_counts_may_have(&q->name_counts, hash))
		return false;
	for (unsigned i = 0; i < q->n_slots; i++) {
		const struct zip_slot *s = &q->slots[i];

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
	int code = workers_outcome_locked(&q->pool, err);

	while (code == 0 && is_queued_locked(q, hash))
		code = sleep_locked(q, WAIT_ANY_BATCH, err);
	return code;
}

static struct zip_slot *free_slot_locked(struct zip_queue *q)
{
	struct zip_slot *s = q->slots;

	while (s->state != SLOT_FREE)
		s++;
	s->state = SLOT_OPEN;
	q->n_free--;
	return s;
}

int zip_queue_open(struct zip_queue *q, struct zip_batch **ret, struct error *err)
{
	struct zip_slot *s = NULL;
	int code;

	pthread_mutex_lock(&q->pool.mutex);
	code = workers_outcome_locked(&q->pool, err);
	while (code == 0 && q->n_free == 0)
		code = sleep_locked(q, WAIT_ROOM, err);
	if (code == 0)
		s = free_slot_locked(q);
	pthread_mutex_unlock(&q->pool.mutex);
	if (s == NULL)
		return code;
	zip_batch_clear(&s->batch);
	*ret = &s->batch;
	return 0;
}

static void enqueue_locked(struct zip_queue *q, struct zip_slot *s)
{
	for (unsigned i = 0; i < s->batch.n; i++)
		zip_name_counts_add(&q->name_counts, s->batch.hashes[i]);
	s->state = SLOT_WAITING;
	q->ring[(q->first + q->waiting++) % q->n_slots] = s;
	workers_wake_one(&q->work);
}

int zip_queue_put(struct zip_queue *q, struct zip_batch *b, struct error *err)
{
	int code = 0;

	pthread_mutex_lock(&q->pool.mutex);
	for (unsigned i = 0; i < b->n && code == 0; i++)
		code = await_name_locked(q, b->hashes[i], err);
	if (code == 0)
		enqueue_locked(q, container_of(b, struct zip_slot, batch));
	pthread_mutex_unlock(&q->pool.mutex);
	return code;
}

/* Waits until no entry with this hash is waiting or running. */
static int zip_queue_await(struct zip_queue *q, uint64_t hash, struct error *err)
{
	int code;

	pthread_mutex_lock(&q->pool.mutex);
	code = await_name_locked(q, hash, err);
	pthread_mutex_unlock(&q->pool.mutex);
	return code;
}

/* Functions of both. */

const atomic_bool *zip_queue_stop(const struct zip_queue *q)
{
	return &q->pool.stopped;
}

static void zip_queue_close(struct zip_queue *q)
{
	pthread_mutex_lock(&q->pool.mutex);
	q->closed = true;
	workers_wake_all(&q->work);
	pthread_mutex_unlock(&q->pool.mutex);
}

/* The threads, and the batch that the walking thread is filling. */

/* Batches per worker: one that it runs, the next one, and two more, so that the walking thread is
 * woken for several at once. */
#define BATCHES_EACH 4

struct zip_workers {
	/* Set at creation. */
	const struct unpack_env *env;
	const char *source;
	struct crew *crew;
	struct block_pool *outputs;
	struct zip_queue *queue; /* with the threads */
	unsigned batch_jobs;

	/* Used by the walking thread alone. */
	struct zip_batch *filling; /* NULL: there is none */
};

static void run_batches(struct zip_workers *w, struct zip_worker *worker)
{
	const atomic_bool *stop = zip_queue_stop(w->queue);
	struct zip_batch *b;

	while ((b = zip_queue_take(w->queue)) != NULL) {
		struct error err;
		int code = zip_batch_run(b, worker, stop, &err);

		zip_queue_return(w->queue, b, code, &err);
	}
}

static void *worker_main(void *ctx)
{
	struct zip_workers *w = ctx;
	struct zip_worker worker = {
		.crew = w->crew,
		.writer = writer_new(w->env->tree, w->source, w->env->progress),
		.inflater = libdeflate_alloc_decompressor(),
		.outputs = w->outputs,
		.cancel = w->env->cancel,
	};
	struct error err;

	if (worker.inflater != NULL)
		run_batches(w, &worker);
	else
		workers_fail(&w->queue->pool, error_set(&err, -ENOMEM, "out of memory"), &err);
	block_unref(worker.output);
	libdeflate_free_decompressor(worker.inflater);
	writer_close(worker.writer);
	return NULL;
}

/* The number of jobs in a batch: few enough that every worker gets some, and that one worker does
 * not get all of the last ones. */
static unsigned choose_batch_jobs(const struct zip_workers_options *options)
{
	uint64_t n = options->entries / (options->threads * (uint64_t)BATCHES_EACH);

	return n < 1 ? 1 : n > ZIP_BATCH_JOBS ? ZIP_BATCH_JOBS : (unsigned)n;
}

int zip_workers_start(const struct unpack_env *env, const struct zip_workers_options *options,
	struct zip_workers **ret, struct error *err)
{
	struct zip_workers *w = zalloc(sizeof(*w));
	int code;

	w->env = env;
	w->source = options->source;
	w->crew = options->crew;
	w->batch_jobs = choose_batch_jobs(options);
	w->outputs = block_pool_new(options->part, options->threads, NULL, NULL);
	w->queue = zip_queue_new(options->threads * BATCHES_EACH, env->cancel);
	w->queue->pool.max_threads = options->threads;
	do
		code = workers_start(&w->queue->pool, worker_main, w, err);
	while (code > 0);
	if (code < 0)
		return zip_workers_finish(w, code, err);
	*ret = w;
	return 0;
}

int zip_workers_flush(struct zip_workers *w, struct error *err)
{
	int code;

	if (w->filling == NULL)
		return 0;
	code = zip_queue_put(w->queue, w->filling, err);
	if (code == 0)
		w->filling = NULL;
	return code;
}

int zip_workers_add(struct zip_workers *w, const struct zip_job *job, struct error *err)
{
	int code = w->filling != NULL ? 0 : zip_queue_open(w->queue, &w->filling, err);

	if (w->filling == NULL) {
		struct zip_job mine = *job;

		zip_job_done(&mine);
		return code;
	}
	zip_batch_add(w->filling, job);
	return zip_batch_is_full(w->filling, w->batch_jobs) ? zip_workers_flush(w, err) : 0;
}

int zip_workers_await(struct zip_workers *w, const char *name, struct error *err)
{
	int code = zip_workers_flush(w, err);

	return code == 0 ? zip_queue_await(w->queue, select_name_hash(name), err) : code;
}

int zip_workers_finish(struct zip_workers *w, int code, struct error *err)
{
	struct workers *pool = &w->queue->pool;

	if (code >= 0)
		code = zip_workers_flush(w, err);
	if (code < 0)
		workers_fail(pool, code, err);
	zip_queue_close(w->queue);
	workers_join(pool);
	code = workers_outcome(pool, err);
	zip_queue_free(w->queue);
	block_pool_free(w->outputs);
	free(w);
	return code;
}
