/* SPDX-License-Identifier: MIT */
/* Jobs on their way to the workers, and the workers themselves. Jobs are taken in the order in
 * which they were planned, each as soon as there is memory for it. So the first piece of a large
 * file that is not written yet is always running, and the pieces behind it may wait for their turn
 * while they hold memory. The first failure ends the fetch.
 *
 * Workers reuse the buffers of earlier jobs: fresh memory for each job would cost one page fault
 * for each 4 KiB. */
#include "defer.h"
#include "fetch_private.h"
#include "index_ahead.h"
#include "s3.h"
#include "text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

static uint64_t buffers_size(const struct fetch_buffers *b)
{
	return b->packed_room + b->raw_room;
}

static void buffers_empty(struct fetch_buffers *b)
{
	free(b->packed);
	free(b->raw);
	b->packed = b->raw = NULL;
	b->packed_room = b->raw_room = 0;
}

static void buffers_free(struct fetch_buffers *b)
{
	buffers_empty(b);
	ZSTD_freeDCtx(b->decoder);
	free(b);
}

/* Rounds up, so that the buffers of a fetch, whose jobs differ a little in size, soon fit all
 * jobs. */
static size_t round_size(size_t size)
{
	size_t step = (size_t)64 << 10;

	while (step * 8 < size)
		step *= 2;
	return (size + step - 1) / step * step;
}

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

static uint64_t buffers_charge(const struct fetch_buffers *b, const struct fetch_job *job)
{
	size_t packed = round_size(job->length), raw = round_size(job->decoded);

	return b == NULL ? packed + raw
			 : max_size(packed, b->packed_room) + max_size(raw, b->raw_room);
}

static bool grow_buffer(uint8_t **buffer, size_t *room, size_t needed)
{
	if (needed <= *room)
		return true;
	free(*buffer);
	*buffer = malloc(needed);
	*room = *buffer != NULL ? needed : 0;
	return *buffer != NULL;
}

/* Grows the buffers to what the job needs. */
static int buffers_fit(struct fetch_buffers *b, const struct fetch_job *job, struct error *err)
{
	if (b->decoder == NULL)
		b->decoder = ZSTD_createDCtx();
	if (b->decoder == NULL ||
		!grow_buffer(&b->packed, &b->packed_room, round_size(job->length)) ||
		!grow_buffer(&b->raw, &b->raw_room, round_size(job->decoded)))
		return error_set(err, -ENOMEM, "no memory for %zu bytes of a datastore",
			job->length + job->decoded);
	return 0;
}

/* The queue. */

/* A file of many terabytes has more pieces than should be in memory. */
enum { WAITING_MAX = 4096 };

static unsigned workers_wanted(const struct fetch_options *opts)
{
	unsigned n = opts->connections > 0 ? opts->connections : 1;

	return n < FETCH_WORKERS_MAX ? n : FETCH_WORKERS_MAX;
}

static void fetch_queue_init(struct fetch *f)
{
	f->tail = &f->head;
	f->idle_since_ns = now_ns();
	workers_init(&f->pool, workers_wanted(f->opts), f->opts->cancel);
	workers_add_condition(&f->pool, &f->work);
	workers_add_condition(&f->pool, &f->decode);
	workers_add_condition(&f->pool, &f->changed);
}

static void fetch_queue_done(struct fetch *f)
{
	for (struct fetch_job *job; (job = f->head) != NULL;) {
		f->head = job->next;
		fetch_job_free(job);
	}
	for (struct fetch_buffers *b; (b = f->idle_buffers) != NULL;) {
		f->idle_buffers = b->next;
		buffers_free(b);
	}
	workers_done(&f->pool);
}

/* The walk. No more jobs will come: workers end when none is left, or at once after a failure. */
static void fetch_close(struct fetch *f)
{
	pthread_mutex_lock(&f->pool.mutex);
	f->closed = true;
	workers_wake_all(&f->work);
	pthread_mutex_unlock(&f->pool.mutex);
}

/* The walk. Sleeps until the number of parts is below its limit. */
static int fetch_await_part(struct fetch *f, struct error *err)
{
	int code;

	pthread_mutex_lock(&f->pool.mutex);
	while (f->n_parts >= f->parts_max && !workers_must_stop(&f->pool))
		workers_wait(&f->pool, &f->changed);
	code = workers_outcome_locked(&f->pool, err);
	pthread_mutex_unlock(&f->pool.mutex);
	return code;
}

/* The walk. Sleeps until all jobs are done. */
static int fetch_await_jobs(struct fetch *f, struct error *err)
{
	int code;

	pthread_mutex_lock(&f->pool.mutex);
	while ((f->head != NULL || f->n_running > 0) && !workers_must_stop(&f->pool))
		workers_wait(&f->pool, &f->changed);
	code = workers_outcome_locked(&f->pool, err);
	pthread_mutex_unlock(&f->pool.mutex);
	return code;
}

/* A job that is larger than the whole capacity runs alone. */
static bool may_take_locked(const struct fetch *f)
{
	return f->head != NULL &&
	       (f->n_running == 0 ||
		       f->charged + buffers_charge(f->idle_buffers, f->head) <= f->capacity);
}

static struct fetch_buffers *take_buffers_locked(struct fetch *f)
{
	struct fetch_buffers *b = f->idle_buffers;
	uint64_t charge = buffers_charge(b, f->head);

	if (b != NULL) {
		f->idle_buffers = b->next;
		f->idle_bytes -= buffers_size(b);
	} else {
		b = zalloc(sizeof(*b));
	}
	for (struct fetch_buffers *idle = f->idle_buffers;
		idle != NULL && f->idle_bytes + f->charged + charge > f->capacity;
		idle = idle->next) {
		f->idle_bytes -= buffers_size(idle);
		buffers_empty(idle);
	}
	b->charged = charge;
	f->charged += charge;
	return b;
}

static struct fetch_job *take_job_locked(struct fetch *f)
{
	struct fetch_job *job = f->head;

	f->head = job->next;
	if (f->head == NULL)
		f->tail = &f->head;
	f->n_waiting--;
	f->n_running++;
	return job;
}

static struct fetch_job *take_job(struct fetch *f, struct fetch_buffers **ret_buffers)
{
	struct fetch_job *job = NULL;

	pthread_mutex_lock(&f->pool.mutex);
	while (!workers_must_stop(&f->pool) && !may_take_locked(f) &&
		!(f->closed && f->head == NULL)) {
		f->n_idle++;
		workers_wait(&f->pool, &f->work);
		f->n_idle--;
	}
	if (!workers_must_stop(&f->pool) && f->head != NULL) {
		*ret_buffers = take_buffers_locked(f);
		job = take_job_locked(f);
		if (may_take_locked(f)) /* one signal may have been sent for two jobs */
			workers_wake_one(&f->work);
		if (f->closed &&
			f->head == NULL) /* other workers wait for room, but no job is left */
			workers_wake_all(&f->work);
	}
	pthread_mutex_unlock(&f->pool.mutex);
	return job;
}

static void return_job(struct fetch *f, struct fetch_job *job, struct fetch_buffers *buffers)
{
	fetch_job_free(job);
	pthread_mutex_lock(&f->pool.mutex);
	f->n_running--;
	f->charged -= buffers->charged;
	f->idle_bytes += buffers_size(buffers);
	buffers->next = f->idle_buffers;
	f->idle_buffers = buffers;
	workers_wake_one(&f->work);
	workers_wake_all(&f->changed);
	pthread_mutex_unlock(&f->pool.mutex);
}

/* While no worker decodes, all of them wait for the network. */
static void count_idle_locked(struct fetch *f)
{
	if (f->n_decoding == 0 && f->opts->progress != NULL)
		count(&f->opts->progress->network_ns, now_ns() - f->idle_since_ns);
}

int fetch_begin_decoding(struct fetch *f, struct error *err)
{
	int code;

	pthread_mutex_lock(&f->pool.mutex);
	while (f->n_decoding == f->decoders_max && !workers_must_stop(&f->pool))
		workers_wait(&f->pool, &f->decode);
	code = workers_outcome_locked(&f->pool, err);
	if (code == 0) {
		count_idle_locked(f);
		f->n_decoding++;
	}
	pthread_mutex_unlock(&f->pool.mutex);
	return code;
}

void fetch_end_decoding(struct fetch *f)
{
	pthread_mutex_lock(&f->pool.mutex);
	if (--f->n_decoding == 0)
		f->idle_since_ns = now_ns();
	workers_wake_one(&f->decode);
	pthread_mutex_unlock(&f->pool.mutex);
}

/* The workers. One more is started when a job finds none idle. */

static int run_job(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	int code = buffers_fit(w->buffers, job, err);

	if (code < 0)
		return code;
	switch (job->kind) {
	case FETCH_SPAN:
		return fetch_span(w, job, err);
	case FETCH_PIECE:
		return fetch_piece(w, job, err);
	case FETCH_REFERENCE:
		return fetch_reference(w, job, err);
	}
	return 0;
}

static void *worker_main(void *ctx)
{
	struct fetch_worker *w = ctx;
	struct fetch *f = w->fetch;
	struct fetch_job *job;

	w->writer = writer_new(f->tree, f->name, f->opts->progress);
	while ((job = take_job(f, &w->buffers)) != NULL) {
		struct error err = {0};
		int code = run_job(w, job, &err);

		if (code < 0)
			workers_fail(&f->pool, code, &err);
		return_job(f, job, w->buffers);
	}
	writer_close(w->writer);
	store_conn_close(w->store);
	s3_client_free(w->s3);
	return NULL;
}

static int start_worker(struct fetch *f, struct error *err)
{
	struct fetch_worker *w = &f->workers[f->pool.n_threads];
	int code;

	*w = (struct fetch_worker){.fetch = f};
	code = workers_start(&f->pool, worker_main, w, err);
	return code < 0 ? code : 0;
}

int fetch_put(struct fetch *f, struct fetch_job *job, struct error *err)
{
	bool start;
	int code;

	pthread_mutex_lock(&f->pool.mutex);
	while (f->n_waiting >= WAITING_MAX && !workers_must_stop(&f->pool))
		workers_wait(&f->pool, &f->changed);
	code = workers_outcome_locked(&f->pool, err);
	if (code == 0) {
		f->n_waiting++;
		*f->tail = job;
		f->tail = &job->next;
		f->total += job->length;
		workers_wake_one(&f->work);
	}
	/* Only the walk starts threads: no lock guards their number. */
	start = f->n_idle == 0 && f->pool.n_threads < f->pool.max_threads;
	pthread_mutex_unlock(&f->pool.mutex);
	if (code < 0)
		fetch_job_free(job);
	return code == 0 && start ? start_worker(f, err) : code;
}

/* datastore_fetch(): brings a version, or a part of it, into a tree. Selects entries, shares out
 * the memory, walks through the index, makes the hard links and waits for the workers. The calling
 * thread's. */

/* Makes the hard links of a part. They come last in the index; their targets must have been
 * written, so that it waits for all jobs first. */
static int make_links(struct fetch_part *p, struct error *err)
{
	struct fetch *f = p->fetch;
	int code = p->n_links > 0 ? fetch_await_jobs(f, err) : 0;

	for (size_t i = 0; i < p->n_links && code == 0; i++) {
		const struct fetch_item *link = &p->links[i];

		code = crew_hardlink(
			f->crew, f->writer, link->name, fetch_select_target(f, link->entry), err);
	}
	return code;
}

/* Which entries are selected: by globs, and by rank. A rank gets the files whose path in the
 * datastore hashes to it. So ranks need not communicate, and new files do not move old ones to
 * another rank. All ranks get the directories and symbolic links, which cost nothing. Pure; any
 * thread. */

static bool is_in_shard(const struct shard *shard, const char *path)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;
	uint64_t hash = 0;

	if (shard->world <= 1)
		return true;
	sha256_init(&ctx);
	sha256_update(&ctx, strlen(path), (const uint8_t *)path);
	sha256_digest(&ctx, sizeof(digest), digest);
	for (unsigned i = 0; i < 8; i++)
		hash = hash << 8 | digest[i];
	return hash % shard->world == shard->rank;
}

const char *fetch_select(const struct fetch *f, const struct index_entry *e)
{
	const char *name = select_apply(f->opts->selection, e->path);

	if (name == NULL || e->type == INDEX_DIR || e->type == INDEX_SYMLINK)
		return name;
	return is_in_shard(&f->opts->shard, e->path) ? name : NULL;
}

const char *fetch_select_target(const struct fetch *f, const struct index_entry *e)
{
	const char *name = select_apply(f->opts->selection, e->target);

	return name != NULL && is_in_shard(&f->opts->shard, e->target) ? name : NULL;
}

/* The walk, its memory and its workers. */

#define MIB ((uint64_t)1 << 20)

/* Memory for one part of the index; the share of the reservation that allows for one more part. */
#define PART_BYTES     (8 * MIB)
#define BYTES_FOR_PART (32 * MIB)
#define DECODER_BYTES  (32 * MIB) /* per decoder: decoded bytes, and those that arrive meanwhile */
#define SPAN_MOST      (8 * MIB)
#define SPAN_LEAST     (1 * MIB)
enum { PARTS_MOST = 4 };

/* Several datastores that are fetched at the same time should not wait for each other: a half or a
 * quarter is enough when there is no more. */
static int reserve_memory(struct fetch *f, struct error *err)
{
	struct budget *b = f->opts->budget;
	uint64_t most = BYTES_FOR_PART + f->decoders_max * DECODER_BYTES;
	uint64_t half = budget_stage_half(b), wanted = most < half ? most : half;
	int code = 0;

	f->reserved = wanted;
	if (!budget_try_reserve(b, f->reserved)) {
		f->reserved = wanted / 2;
		if (!budget_try_reserve(b, f->reserved)) {
			f->reserved = wanted / 4;
			code = budget_reserve_counted(b, f->reserved, f->opts->cancel,
				f->opts->progress != NULL ? &f->opts->progress->budget_ns : NULL,
				err);
		}
	}
	if (code < 0)
		f->reserved = 0;
	return code;
}

static void share_memory(struct fetch *f)
{
	uint64_t parts = f->reserved / BYTES_FOR_PART, span;

	f->parts_max = parts < 1 ? 1 : parts > PARTS_MOST ? PARTS_MOST : (unsigned)parts;
	f->capacity = f->reserved / 2;
	if (f->reserved > 2 * PART_BYTES * (f->parts_max + 1))
		f->capacity = f->reserved - PART_BYTES * (f->parts_max + 1);
	span = f->capacity / (2 * f->decoders_max + 1);
	f->span_max = span < SPAN_LEAST ? SPAN_LEAST : span > SPAN_MOST ? SPAN_MOST : span;
}

static int open_bucket(struct fetch *f, struct error *err)
{
	struct s3_bucket_key place = {0};
	int code;

	if (f->manifest->reference == NULL)
		return 0;
	code = s3_bucket_key_parse(f->manifest->reference, &place, err);
	if (code == 0)
		f->bucket = text_copy(place.bucket);
	s3_bucket_key_done(&place);
	return code;
}

static int plan_part(struct fetch *f, struct index_part *index, struct error *err)
{
	struct fetch_part *p = fetch_part_new(f, index);
	int code = fetch_plan_part(p, err);

	if (code == 0)
		code = make_links(p, err);
	fetch_part_unref(p);
	return code;
}

static int walk_parts(struct fetch *f, struct index_ahead *ahead, struct error *err)
{
	struct index_part index;
	int code = fetch_await_part(f, err), found = 0;

	while (code == 0 && (found = index_ahead_next(ahead, &index, err)) > 0) {
		code = plan_part(f, &index, err);
		if (code == 0)
			code = fetch_await_part(f, err);
	}
	return code < 0 ? code : found;
}

static int walk(struct fetch *f, struct error *err)
{
	const struct index_ahead_env env = {.store = f->opts->store,
		.cancel = f->opts->cancel,
		.manifest = f->manifest,
		.threads = 1,
		.window = 1};
	struct index_ahead *ahead = NULL;
	int code = index_ahead_open(&env, &ahead, err);

	if (code == 0)
		code = walk_parts(f, ahead, err);
	index_ahead_close(ahead);
	if (code == 0 && f->opts->progress != NULL)
		atomic_store(&f->opts->progress->total, f->total);
	return code;
}

/* Returns the first failure, of the walk or of a worker. */
static int walk_with_workers(struct fetch *f, struct error *err)
{
	int r;

	fetch_queue_init(f);
	f->writer = writer_new(f->tree, f->name, f->opts->progress);
	r = walk(f, err);
	if (r < 0)
		workers_fail(&f->pool, r, err);
	fetch_close(f);
	workers_join(&f->pool);
	writer_close(f->writer);
	r = workers_outcome(&f->pool, err);
	fetch_queue_done(f);
	return r;
}

static int fetch_all(struct fetch *f, struct error *err)
{
	const struct fetch_options *opts = f->opts;
	const struct crew_env crew = {.tree = f->tree,
		.source = f->name,
		.budget = opts->budget,
		.cancel = opts->cancel,
		.progress = opts->progress};

	share_memory(f);
	f->crew = crew_new(&crew);
	return crew_finish(f->crew, walk_with_workers(f, err), err);
}

/* The size of a selection is only known when it has been fetched. */
static int check_room(const struct fetch *f, struct error *err)
{
	const struct selection *s = f->opts->selection;
	bool is_whole = f->opts->shard.world <= 1 &&
			(s == NULL || (s->include == NULL && s->exclude == NULL &&
					      s->strip_components == 0));

	if (!is_whole)
		return 0;
	if (f->opts->progress != NULL)
		atomic_store(&f->opts->progress->total, f->manifest->stored_bytes);
	return tree_check_room(f->tree, f->manifest->bytes, f->manifest->entries, err);
}

static int check_shard(const struct shard *s, struct error *err)
{
	if (s->world == 0 || s->rank < s->world)
		return 0;
	return error_set(err, -ERR_USAGE, "there is no rank %u among %u: ranks count from 0",
		s->rank, s->world);
}

int datastore_fetch(const struct fetch_options *opts, const struct manifest *m, struct tree *tree,
	struct error *err)
{
	struct fetch *f = zalloc(sizeof(*f));
	int code = check_shard(&opts->shard, err);

	f->opts = opts;
	f->manifest = m;
	f->tree = tree;
	f->uid = geteuid();
	f->gid = getegid();
	f->name = text_format("datastore %s:%u", m->name, m->version);
	f->decoders_max = opts->threads > 0 ? opts->threads : 1;
	if (code == 0)
		code = open_bucket(f, err);
	if (code == 0)
		code = check_room(f, err);
	if (code == 0)
		code = reserve_memory(f, err);
	if (code == 0)
		code = fetch_all(f, err);
	if (f->reserved > 0)
		budget_release(opts->budget, f->reserved);
	fetch_parents_done(f);
	free(f->bucket);
	free(f->name);
	free(f);
	return code;
}
