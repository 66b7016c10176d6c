/* SPDX-License-Identifier: MIT */
/* A crew writes entries into a tree: the calling thread writes by itself as long as the file system
 * is fast, and worker threads take entries from a queue when it is slow (see crew.h). Any
 * thread. */
#include "crew_private.h"
#include "text.h"
#include "tree_private.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Jobs. A job is one allocation: the struct, the names and the content. */

/* FNV-1a; never 0. */
static uint64_t hash_of(const char *bytes, size_t len)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len; i++) {
		hash ^= (uint8_t)bytes[i];
		hash *= UINT64_C(0x100000001b3);
	}
	return hash != 0 ? hash : 1;
}

/* The hash of the normalised name; 0 if the tree would refuse the name. */
static uint64_t hash_of_name(const char *name)
{
	char path[PATH_MAX];

	return tree_path_normalise(name, PATH_MAX - 1, path, NULL) < 0
		       ? 0
		       : hash_of(path, strlen(path));
}

static size_t string_size(const char *s)
{
	return s != NULL ? strlen(s) + 1 : 0;
}

/* Copies len bytes to *at, advances *at, and returns the copy; NULL if bytes is NULL. */
static const void *copy_to(char **at, const void *bytes, size_t len)
{
	char *to = *at;

	if (bytes == NULL)
		return NULL;
	*at = mempcpy(to, bytes, len);
	return to;
}

static struct crew_job *copy_entry(
	const char *name, const char *target, const struct meta *m, const struct slice *content)
{
	size_t len = content != NULL ? content->len : 0;
	struct crew_job *job = malloc(sizeof(*job) + string_size(name) + string_size(target) + len);
	char *at;

	if (job == NULL)
		return NULL;
	*job = (struct crew_job){.meta = *m, .len = len};
	at = job->bytes;
	job->name = copy_to(&at, name, string_size(name));
	job->target = copy_to(&at, target, string_size(target));
	job->content = copy_to(&at, len > 0 ? content->data : NULL, len);
	return job;
}

/* Returns NULL without memory, or if the tree would refuse a name: the caller then writes the entry
 * with its own writer, which returns the error. content may be NULL. */
static struct crew_job *crew_job_new(enum job_kind kind, const char *name, const char *target,
	const struct meta *m, const struct slice *content)
{
	uint64_t target_hash = kind == JOB_HARDLINK ? hash_of_name(target) : 0;
	char path[PATH_MAX];
	struct crew_job *job;

	if (tree_path_normalise(name, PATH_MAX - 1, path, NULL) < 0 ||
		(kind == JOB_HARDLINK && target_hash == 0))
		return NULL;
	job = copy_entry(name, target, m, content);
	if (job == NULL)
		return NULL;
	job->kind = kind;
	job->name_hash = hash_of(path, strlen(path));
	job->parent_hash = hash_of(path, tree_path_parent_len(path));
	job->target_hash = target_hash;
	return job;
}

static void crew_job_free(struct crew_job *job)
{
	free(job);
}

/* The queue and the worker threads, which take jobs from it that can run at once. */

/* Bytes reserved from the stages' memory budget for queued content: the most, and the least. */
#define ALLOWANCE_MAX ((uint64_t)16 << 20)
#define ALLOWANCE_MIN ((uint64_t)1 << 20)

/* The most workers that create in one directory: while one creates, the other waits for the
 * kernel's lock on the directory and continues as soon as that lock is free. */
enum { WORKERS_PER_DIRECTORY = 2 };

/* Worker threads. */

static bool is_full_locked(const struct crew *c, uint64_t parent_hash)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->pool.n_threads; i++)
		n += c->workers[i].in_parent == parent_hash;
	return n >= WORKERS_PER_DIRECTORY;
}

/* Removes from the queue, and returns, the first job whose directory may have one more worker; NULL
 * if there is none. */
static struct crew_job *dequeue_locked(struct crew *c)
{
	/* The directory seen full last: entries that follow each other in an archive are mostly in
	 * one directory. */
	uint64_t full = 0;

	for (struct crew_job **at = &c->first; *at != NULL; at = &(*at)->next) {
		struct crew_job *job = *at;

		if (job->parent_hash == full)
			continue;
		if (is_full_locked(c, job->parent_hash)) {
			full = job->parent_hash;
			continue;
		}
		*at = job->next;
		if (job->next == NULL)
			c->last = at;
		return job;
	}
	return NULL;
}

static struct crew_job *next_job_locked(struct crew *c, struct crew_worker *worker)
{
	struct crew_job *job = NULL;

	while (!workers_must_stop(&c->pool) && (job = dequeue_locked(c)) == NULL) {
		if (c->closing && c->first == NULL)
			return NULL;
		c->n_idle++;
		workers_wait(&c->pool, &c->work);
		c->n_idle--;
	}
	if (job != NULL)
		worker->in_parent = job->parent_hash;
	return job;
}

static void wake_worker_locked(struct crew *c);

static void leave_directory_locked(struct crew_worker *worker)
{
	if (worker->in_parent == 0)
		return;
	worker->in_parent = 0;
	if (worker->crew->first != NULL)
		wake_worker_locked(worker->crew);
}

/* Leaves the directory once the file is created: only creation holds the kernel's lock on it. */
static int write_file(
	struct crew_worker *worker, struct writer *w, const struct crew_job *job, struct error *err)
{
	int code = writer_file_open(w, job->name, &job->meta, job->len, false, err);

	pthread_mutex_lock(&worker->crew->pool.mutex);
	leave_directory_locked(worker);
	pthread_mutex_unlock(&worker->crew->pool.mutex);
	if (code == 0 && job->len > 0)
		code = writer_file_write(w, 0, job->content, job->len, err);
	return code == 0 ? writer_file_close(w, err) : code;
}

static int write_job(
	struct crew_worker *worker, struct writer *w, const struct crew_job *job, struct error *err)
{
	switch (job->kind) {
	case JOB_DIR:
		return writer_dir(w, job->name, &job->meta, err);
	case JOB_SYMLINK:
		return writer_symlink(w, job->name, job->target, &job->meta, err);
	case JOB_HARDLINK:
		return writer_hardlink(w, job->name, job->target, err);
	default:
		return write_file(worker, w, job, err);
	}
}

static void finish_locked(struct crew_worker *worker, const struct crew_job *job)
{
	struct crew *c = worker->crew;

	leave_directory_locked(worker);
	c->names[job->slot] = 0;
	c->n_targets -= c->targets[job->slot] != 0;
	c->targets[job->slot] = 0;
	c->content_bytes -= job->len;
	c->n_jobs--;
	workers_wake_all(&c->room);
	if (c->closing)
		workers_wake_all(&c->work);
}

static void *worker_main(void *arg)
{
	struct crew_worker *worker = arg;
	struct crew *c = worker->crew;
	struct writer *w = writer_new(c->env.tree, c->env.source, c->env.progress);
	struct crew_job *job;

	writer_set_untimed(w);
	pthread_mutex_lock(&c->pool.mutex);
	while ((job = next_job_locked(c, worker)) != NULL) {
		struct error err;
		int code;

		pthread_mutex_unlock(&c->pool.mutex);
		code = write_job(worker, w, job, &err);
		pthread_mutex_lock(&c->pool.mutex);
		finish_locked(worker, job);
		crew_job_free(job);
		if (code < 0)
			workers_fail_locked(&c->pool, code, &err);
	}
	pthread_mutex_unlock(&c->pool.mutex);
	writer_close(w);
	return NULL;
}

/* Starting workers; any thread. */

static bool start_worker_locked(struct crew *c)
{
	struct crew_worker *worker;

	if (c->pool.n_threads >= c->pool.max_threads)
		return false;
	worker = &c->workers[c->pool.n_threads];
	*worker = (struct crew_worker){.crew = c};
	return workers_start_extra(&c->pool, worker_main, worker);
}

/* A queued job can run: wakes an idle worker, or starts one more. */
static void wake_worker_locked(struct crew *c)
{
	if (c->n_idle > 0)
		workers_wake_one(&c->work);
	else
		start_worker_locked(c);
}

/* The most workers that the limit on open files allows: each keeps up to PARENTS_KEPT directories
 * open, and other stages have crews too. */
static unsigned workers_for_open_files(void)
{
	struct rlimit limit;
	rlim_t n = CREW_WORKERS;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		n = limit.rlim_cur / 16 / (PARENTS_KEPT + 2);
	return n > CREW_WORKERS ? CREW_WORKERS : (unsigned)n;
}

static bool reserve_locked(struct crew *c)
{
	uint64_t bytes = ALLOWANCE_MAX;

	while (bytes >= ALLOWANCE_MIN && !budget_try_reserve(c->env.budget, bytes))
		bytes /= 2;
	if (bytes < ALLOWANCE_MIN)
		return false;
	c->allowance = bytes;
	return true;
}

bool crew_start_workers(struct crew *c)
{
	bool started;

	pthread_mutex_lock(&c->pool.mutex);
	c->pool.max_threads = workers_for_open_files();
	started = c->pool.n_threads > 0 ||
		  ((c->allowance > 0 || reserve_locked(c)) && start_worker_locked(c));
	pthread_mutex_unlock(&c->pool.mutex);
	if (started)
		atomic_store_explicit(&c->has_workers, true, memory_order_release);
	return started;
}

/* The callers' side of the queue. */

/* Whether a queued or running job has this name, or links to it. */
static bool is_under_way_locked(const struct crew *c, uint64_t hash)
{
	for (unsigned i = 0; c->n_jobs > 0 && i < CREW_JOBS; i++)
		if (c->names[i] == hash)
			return true;
	for (unsigned i = 0; c->n_targets > 0 && i < CREW_JOBS; i++)
		if (c->targets[i] == hash)
			return true;
	return false;
}

static bool has_room_locked(const struct crew *c, const struct crew_job *job)
{
	if (c->n_jobs == CREW_JOBS || is_under_way_locked(c, job->name_hash))
		return false;
	if (job->target_hash != 0 && is_under_way_locked(c, job->target_hash))
		return false;
	return c->content_bytes == 0 || c->content_bytes + job->len <= c->allowance;
}

static void enqueue_locked(struct crew *c, struct crew_job *job)
{
	while (c->names[job->slot] != 0)
		job->slot++;
	c->names[job->slot] = job->name_hash;
	c->targets[job->slot] = job->target_hash;
	c->n_targets += job->target_hash != 0;
	c->n_jobs++;
	c->content_bytes += job->len;
	*c->last = job;
	c->last = &job->next;
	if (!is_full_locked(c, job->parent_hash))
		wake_worker_locked(c);
}

static void add_wait_time(struct crew *c, uint64_t started_ns)
{
	if (c->env.progress != NULL)
		count(&c->env.progress->disk_ns, now_ns() - started_ns);
}

/* Waits until the job may be queued. Takes ownership of job, also on failure. */
static int crew_submit(struct crew *c, struct crew_job *job, struct error *err)
{
	uint64_t started = now_ns();
	int code;

	pthread_mutex_lock(&c->pool.mutex);
	while (!workers_must_stop(&c->pool) && !has_room_locked(c, job))
		workers_wait(&c->pool, &c->room);
	code = workers_outcome_locked(&c->pool, err);
	if (code == 0)
		enqueue_locked(c, job);
	pthread_mutex_unlock(&c->pool.mutex);
	if (code < 0)
		crew_job_free(job);
	add_wait_time(c, started);
	return code;
}

static int crew_await_hash(struct crew *c, uint64_t name_hash, struct error *err)
{
	uint64_t started = now_ns();
	int code;

	pthread_mutex_lock(&c->pool.mutex);
	while (!workers_must_stop(&c->pool) && is_under_way_locked(c, name_hash))
		workers_wait(&c->pool, &c->room);
	code = workers_outcome_locked(&c->pool, err);
	pthread_mutex_unlock(&c->pool.mutex);
	add_wait_time(c, started);
	return code;
}

/* code < 0 discards the jobs that no worker has started yet. Returns the first failure, or code. */
static int finish_jobs(struct crew *c, int code, struct error *err)
{
	uint64_t started = now_ns();
	int outcome;

	pthread_mutex_lock(&c->pool.mutex);
	c->closing = true;
	if (code < 0)
		workers_fail_locked(&c->pool, code, err);
	workers_wake_all(&c->work);
	pthread_mutex_unlock(&c->pool.mutex);
	workers_join(&c->pool); /* while jobs are left, a worker may still start another one */
	add_wait_time(c, started);
	while (c->first != NULL) {
		struct crew_job *job = c->first;

		c->first = job->next;
		crew_job_free(job);
	}
	if (c->allowance > 0)
		budget_release(c->env.budget, c->allowance);
	outcome = workers_outcome(&c->pool, err);
	return outcome < 0 ? outcome : code;
}

/* Decides which thread writes an entry: the caller or a worker. */

/* A small file on a local disk takes about 20 µs, and one round trip to a server many times that.
 * The commit of a file system's journal also delays a file now and then, hence the count of slow
 * files. */
enum { SLOW_FILE_NS = 400000, SMALL_FILE_BYTES = 128 << 10, SLOW_FILES = 12, MOST_SLOW_FILES = 16 };

struct crew *crew_new(const struct crew_env *env)
{
	struct crew *c = zalloc(sizeof(*c));

	c->env = *env;
	c->last = &c->first;
	workers_init(&c->pool, CREW_WORKERS, env->cancel);
	workers_add_condition(&c->pool, &c->work);
	workers_add_condition(&c->pool, &c->room);
	return c;
}

int crew_finish(struct crew *c, int code, struct error *err)
{
	code = finish_jobs(c, code, err);
	workers_done(&c->pool);
	free(c);
	return code;
}

bool crew_has_workers(const struct crew *c)
{
	return atomic_load_explicit(&c->has_workers, memory_order_acquire);
}

/* How often this thread slept voluntarily: to wait for a disk, not because it was preempted. */
static long voluntary_switches(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

/* Adds a file to the count of slow files, and starts workers when the count is reached. Two threads
 * that change the count at once may make it wrong by one, which does not matter. */
static void count_slow_file(struct crew *c, bool is_slow)
{
	int slow = atomic_load_explicit(&c->slow, memory_order_relaxed);

	if (!is_slow)
		slow -= slow > 0;
	else if (slow < MOST_SLOW_FILES)
		slow++;
	atomic_store_explicit(&c->slow, slow, memory_order_relaxed);
	if (slow >= SLOW_FILES && !crew_start_workers(c))
		atomic_store_explicit(&c->slow, 0, memory_order_relaxed); /* try again later */
}

/* Writes a file and measures how long that takes. Once files seem slow it also checks that the
 * thread slept meanwhile, which costs system calls. */
static int write_timed(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	const struct slice *content, struct error *err)
{
	bool probing = atomic_load_explicit(&c->slow, memory_order_relaxed) > 0;
	long before = probing ? voluntary_switches() : 0;
	int code = writer_file(own, name, m, content, err);
	bool is_slow = own->spent_ns >= SLOW_FILE_NS && (!probing || voluntary_switches() > before);

	if (is_slow || probing)
		count_slow_file(c, is_slow);
	return code;
}

static bool is_for_workers(const struct meta *m, const struct slice *content)
{
	return m->n_xattrs == 0 && (content == NULL || content->len <= CREW_FILE_MAX);
}

/* Queues job and returns 0. If job is NULL, waits until no job of this name is queued or running
 * and returns 1: the caller then writes the entry itself. */
static int submit_or_await(
	struct crew *c, struct crew_job *job, const char *name, struct error *err)
{
	int code;

	if (job != NULL)
		return crew_submit(c, job, err);
	code = crew_await(c, name, err);
	return code < 0 ? code : 1;
}

int crew_dir(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	struct error *err)
{
	struct crew_job *job = NULL;
	int code;

	if (crew_has_workers(c) && is_for_workers(m, NULL))
		job = crew_job_new(JOB_DIR, name, NULL, m, NULL);
	code = submit_or_await(c, job, name, err);
	return code > 0 ? writer_dir(own, name, m, err) : code;
}

int crew_symlink(struct crew *c, struct writer *own, const char *name, const char *target,
	const struct meta *m, struct error *err)
{
	struct crew_job *job = NULL;
	int code;

	if (crew_has_workers(c))
		job = crew_job_new(JOB_SYMLINK, name, target, m, NULL);
	code = submit_or_await(c, job, name, err);
	return code > 0 ? writer_symlink(own, name, target, m, err) : code;
}

int crew_hardlink(
	struct crew *c, struct writer *own, const char *name, const char *target, struct error *err)
{
	static const struct meta none;
	struct crew_job *job = NULL;
	int code;

	if (crew_has_workers(c))
		job = crew_job_new(JOB_HARDLINK, name, target, &none, NULL);
	code = submit_or_await(c, job, name, err);
	if (code > 0)
		code = submit_or_await(c, NULL, target, err);
	return code > 0 ? writer_hardlink(own, name, target, err) : code;
}

int crew_file(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	const struct slice *content, struct error *err)
{
	struct crew_job *job = NULL;
	int code;

	if (crew_has_workers(c) && is_for_workers(m, content))
		job = crew_job_new(JOB_FILE, name, NULL, m, content);
	/* The queue owns it now. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	code = submit_or_await(c, job, name, err);
	if (code <= 0)
		return code;
	if (content->len > SMALL_FILE_BYTES || c->env.tree->sink != NULL)
		return writer_file(own, name, m, content, err);
	return write_timed(c, own, name, m, content, err);
}

int crew_has(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	uint64_t size, struct error *err)
{
	int code = c->env.tree->continued ? crew_await(c, name, err) : 0;

	return code < 0 ? code : writer_has(own, name, m, size, err);
}

int crew_await(struct crew *c, const char *name, struct error *err)
{
	return crew_has_workers(c) ? crew_await_hash(c, hash_of_name(name), err) : 0;
}
