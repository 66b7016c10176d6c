/* SPDX-License-Identifier: MIT */
/* The hands of a crew: a queue, and threads that take from it what can be done at once. */
#include "crew_private.h"
#include "parents.h"
#include "text.h"
#include "tree_private.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

/* Of the stages' memory, as much as there is between these. */
#define ALLOWANCE_MAX ((uint64_t)16 << 20)
#define ALLOWANCE_MIN ((uint64_t)1 << 20)

/* So many stand in line to create in one directory: one creates, and the next is there when it has. */
enum { HANDS_PER_DIRECTORY = 2 };

static bool is_over_locked(const struct crew *c)
{
	return c->failed < 0 || cancel_requested(c->env.cancel);
}

static void fail_locked(struct crew *c, int code, const struct error *why)
{
	if (c->failed == 0) {
		c->failed = code;
		c->why = *why;
	}
	pthread_cond_broadcast(&c->work);
	pthread_cond_broadcast(&c->room);
}

/* A hand's side. */

static bool is_full_locked(const struct crew *c, uint64_t parent_hash)
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->n_hands; i++)
		n += c->hands[i].in_parent == parent_hash;
	return n >= HANDS_PER_DIRECTORY;
}

/* The first job in a directory with a place, taken from the queue; NULL: none. */
static struct crew_job *pick_locked(struct crew *c)
{
	uint64_t full = 0; /* neighbours in an archive are mostly neighbours in a directory */

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

static struct crew_job *take_locked(struct crew *c, struct hand *hand)
{
	struct crew_job *job = NULL;

	while (!is_over_locked(c) && (job = pick_locked(c)) == NULL) {
		if (c->closing && c->first == NULL)
			return NULL;
		c->n_idle++;
		pthread_cond_wait(&c->work, &c->mutex);
		c->n_idle--;
	}
	if (job != NULL)
		hand->in_parent = job->parent_hash;
	return job;
}

static void call_locked(struct crew *c);

static void leave_directory_locked(struct hand *hand)
{
	if (hand->in_parent == 0)
		return;
	hand->in_parent = 0;
	if (hand->crew->first != NULL)
		call_locked(hand->crew);
}

/* What follows the creation of a file keeps nobody else from creating. */
static int write_file(
	struct hand *hand, struct writer *w, const struct crew_job *job, struct error *err)
{
	int r = writer_file_open(w, job->name, &job->meta, job->len, false, err);

	pthread_mutex_lock(&hand->crew->mutex);
	leave_directory_locked(hand);
	pthread_mutex_unlock(&hand->crew->mutex);
	if (r >= 0 && job->len > 0)
		r = writer_file_write(w, 0, job->content, job->len, err);
	return r < 0 ? r : writer_file_close(w, err);
}

static int run(struct hand *hand, struct writer *w, const struct crew_job *job, struct error *err)
{
	switch (job->kind) {
	case JOB_DIR:
		return writer_dir(w, job->name, &job->meta, err);
	case JOB_SYMLINK:
		return writer_symlink(w, job->name, job->target, &job->meta, err);
	case JOB_HARDLINK:
		return writer_hardlink(w, job->name, job->target, err);
	default:
		return write_file(hand, w, job, err);
	}
}

static void finish_locked(struct hand *hand, const struct crew_job *job)
{
	struct crew *c = hand->crew;

	leave_directory_locked(hand);
	c->names[job->slot] = 0;
	c->n_targets -= c->targets[job->slot] != 0;
	c->targets[job->slot] = 0;
	c->content_bytes -= job->len;
	c->n_jobs--;
	pthread_cond_broadcast(&c->room);
	if (c->closing)
		pthread_cond_broadcast(&c->work);
}

static void *hand_main(void *arg)
{
	struct hand *hand = arg;
	struct crew *c = hand->crew;
	struct writer *w = writer_new(c->env.tree, c->env.source, c->env.progress);
	struct crew_job *job;

	writer_is_awaited(w);
	pthread_mutex_lock(&c->mutex);
	while ((job = take_locked(c, hand)) != NULL) {
		struct error err;
		int r;

		pthread_mutex_unlock(&c->mutex);
		r = run(hand, w, job, &err);
		pthread_mutex_lock(&c->mutex);
		finish_locked(hand, job);
		crew_job_free(job);
		if (r < 0)
			fail_locked(c, r, &err);
	}
	pthread_mutex_unlock(&c->mutex);
	writer_close(w);
	return NULL;
}

/* The callers' side. */

static bool hire_locked(struct crew *c)
{
	struct hand *hand;

	if (c->n_hands >= c->max_hands)
		return false;
	hand = &c->hands[c->n_hands];
	*hand = (struct hand){.crew = c};
	if (pthread_create(&hand->thread, NULL, hand_main, hand) != 0)
		return false;
	c->n_hands++;
	return true;
}

/* There is a job that somebody could do. */
static void call_locked(struct crew *c)
{
	if (c->n_idle > 0)
		pthread_cond_signal(&c->work);
	else
		hire_locked(c);
}

/* Each keeps directories open, and other stages have crews too. */
static unsigned hands_for_open_files(void)
{
	struct rlimit limit;
	rlim_t n = CREW_HANDS;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		n = limit.rlim_cur / 16 / (PARENTS_KEPT + 2);
	return n > CREW_HANDS ? CREW_HANDS : (unsigned)n;
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

bool hands_hire(struct crew *c)
{
	bool hired;

	pthread_mutex_lock(&c->mutex);
	c->max_hands = hands_for_open_files();
	hired = c->n_hands > 0 || ((c->allowance > 0 || reserve_locked(c)) && hire_locked(c));
	pthread_mutex_unlock(&c->mutex);
	if (hired)
		atomic_store_explicit(&c->has_hands, true, memory_order_release);
	return hired;
}

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

static int over_locked(const struct crew *c, struct error *err)
{
	if (c->failed == 0)
		return error_set(err, -ECANCELED, "cancelled");
	if (err != NULL)
		*err = c->why;
	return c->failed;
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
		call_locked(c);
}

static void waited(struct crew *c, uint64_t started_ns)
{
	if (c->env.progress != NULL)
		count(&c->env.progress->disk_ns, now_ns() - started_ns);
}

int hands_submit(struct crew *c, struct crew_job *job, struct error *err)
{
	uint64_t started = now_ns();
	int r = 0;

	pthread_mutex_lock(&c->mutex);
	while (!is_over_locked(c) && !has_room_locked(c, job))
		pthread_cond_wait(&c->room, &c->mutex);
	if (is_over_locked(c))
		r = over_locked(c, err);
	else
		enqueue_locked(c, job);
	pthread_mutex_unlock(&c->mutex);
	if (r < 0)
		crew_job_free(job);
	waited(c, started);
	return r;
}

int hands_await(struct crew *c, uint64_t name_hash, struct error *err)
{
	uint64_t started = now_ns();
	int r = 0;

	pthread_mutex_lock(&c->mutex);
	while (!is_over_locked(c) && is_under_way_locked(c, name_hash))
		pthread_cond_wait(&c->room, &c->mutex);
	if (is_over_locked(c))
		r = over_locked(c, err);
	pthread_mutex_unlock(&c->mutex);
	waited(c, started);
	return r;
}

int hands_dismiss(struct crew *c, int code, struct error *err)
{
	uint64_t started = now_ns();

	pthread_mutex_lock(&c->mutex);
	c->closing = true;
	if (code < 0)
		fail_locked(c, code, err);
	pthread_cond_broadcast(&c->work);
	/* While there is work, a hand may still hire another one. */
	for (unsigned i = 0; i < c->n_hands; i++) {
		pthread_mutex_unlock(&c->mutex);
		pthread_join(c->hands[i].thread, NULL);
		pthread_mutex_lock(&c->mutex);
	}
	pthread_mutex_unlock(&c->mutex);
	waited(c, started);
	while (c->first != NULL) {
		struct crew_job *job = c->first;

		c->first = job->next;
		crew_job_free(job);
	}
	if (c->allowance > 0)
		budget_release(c->env.budget, c->allowance);
	if (c->failed == 0 && !cancel_requested(c->env.cancel))
		return code;
	return over_locked(c, err);
}
