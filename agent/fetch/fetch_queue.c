/* SPDX-License-Identifier: MIT */
/* Jobs on their way to workers: taken in the order in which the walk cut them, each when there is memory for it.
 * So the first piece of a large file that is not written yet always runs, and those behind it may wait for
 * their turn while they hold memory. One failure ends it all. */
#include "fetch_private.h"
#include "text.h"
#include <errno.h>
#include <stdlib.h>

/* A file of many terabytes has more pieces than should lie in memory. */
enum { WAITING_MAX = 4096 };

void fetch_queue_init(struct fetch *f)
{
	f->tail = &f->head;
	pthread_mutex_init(&f->mutex, NULL);
	pthread_cond_init(&f->work, NULL);
	pthread_cond_init(&f->decode, NULL);
	pthread_cond_init(&f->changed, NULL);
	f->watch_work = (struct cancel_watch){.mutex = &f->mutex, .cond = &f->work};
	f->idle_since_ns = now_ns();
	f->watch_changed = (struct cancel_watch){.mutex = &f->mutex, .cond = &f->changed};
	f->watch_decode = (struct cancel_watch){.mutex = &f->mutex, .cond = &f->decode};
	cancel_watch(f->opts->cancel, &f->watch_work);
	cancel_watch(f->opts->cancel, &f->watch_decode);
	cancel_watch(f->opts->cancel, &f->watch_changed);
}

void fetch_queue_done(struct fetch *f)
{
	for (struct fetch_job *job; (job = f->head) != NULL;) {
		f->head = job->next;
		fetch_job_free(job);
	}
	for (struct fetch_kit *k; (k = f->kits) != NULL;) {
		f->kits = k->next;
		fetch_kit_free(k);
	}
	cancel_unwatch(f->opts->cancel, &f->watch_changed);
	cancel_unwatch(f->opts->cancel, &f->watch_decode);
	cancel_unwatch(f->opts->cancel, &f->watch_work);
	pthread_cond_destroy(&f->changed);
	pthread_cond_destroy(&f->decode);
	pthread_cond_destroy(&f->work);
	pthread_mutex_destroy(&f->mutex);
}

static bool is_over_locked(const struct fetch *f)
{
	return f->failed != 0 || cancel_requested(f->opts->cancel);
}

static int outcome_locked(const struct fetch *f, struct error *err)
{
	if (f->failed != 0) {
		if (err != NULL)
			*err = f->why;
		return f->failed;
	}
	if (cancel_requested(f->opts->cancel))
		return error_set(err, -ECANCELED, "cancelled");
	return 0;
}

int fetch_outcome(struct fetch *f, struct error *err)
{
	int r;

	pthread_mutex_lock(&f->mutex);
	r = outcome_locked(f, err);
	pthread_mutex_unlock(&f->mutex);
	return r;
}

void fetch_fail(struct fetch *f, int code, const struct error *why)
{
	pthread_mutex_lock(&f->mutex);
	if (f->failed == 0) {
		f->failed = code;
		f->why = *why;
	}
	pthread_cond_broadcast(&f->work);
	pthread_cond_broadcast(&f->decode);
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->mutex);
}

void fetch_close(struct fetch *f)
{
	pthread_mutex_lock(&f->mutex);
	f->closed = true;
	pthread_cond_broadcast(&f->work);
	pthread_mutex_unlock(&f->mutex);
}

int fetch_put(struct fetch *f, struct fetch_job *job, struct error *err)
{
	bool hire;
	int r;

	pthread_mutex_lock(&f->mutex);
	while (f->n_waiting >= WAITING_MAX && !is_over_locked(f))
		pthread_cond_wait(&f->changed, &f->mutex);
	r = outcome_locked(f, err);
	if (r == 0) {
		f->n_waiting++;
		*f->tail = job;
		f->tail = &job->next;
		f->total += job->length;
		pthread_cond_signal(&f->work);
	}
	hire = f->n_idle == 0 && f->n_workers < f->workers_max;
	pthread_mutex_unlock(&f->mutex);
	if (r < 0)
		fetch_job_free(job);
	return r == 0 && hire ? fetch_hire(f, err) : r;
}

int fetch_await_part(struct fetch *f, struct error *err)
{
	int r;

	pthread_mutex_lock(&f->mutex);
	while (f->n_parts >= f->parts_max && !is_over_locked(f))
		pthread_cond_wait(&f->changed, &f->mutex);
	r = outcome_locked(f, err);
	pthread_mutex_unlock(&f->mutex);
	return r;
}

int fetch_await_jobs(struct fetch *f, struct error *err)
{
	int r;

	pthread_mutex_lock(&f->mutex);
	while ((f->head != NULL || f->n_running > 0) && !is_over_locked(f))
		pthread_cond_wait(&f->changed, &f->mutex);
	r = outcome_locked(f, err);
	pthread_mutex_unlock(&f->mutex);
	return r;
}

/* A job that is larger than all that there is runs alone. */
static bool may_take_locked(const struct fetch *f)
{
	return f->head != NULL &&
	       (f->n_running == 0 ||
		       f->charged + fetch_kit_charge(f->kits, f->head) <= f->capacity);
}

static struct fetch_kit *take_kit_locked(struct fetch *f)
{
	struct fetch_kit *k = f->kits;
	uint64_t charge = fetch_kit_charge(k, f->head);

	if (k != NULL) {
		f->kits = k->next;
		f->kept -= fetch_kit_room(k);
	} else {
		k = zalloc(sizeof(*k));
	}
	for (struct fetch_kit *idle = f->kits;
		idle != NULL && f->kept + f->charged + charge > f->capacity; idle = idle->next) {
		f->kept -= fetch_kit_room(idle);
		fetch_kit_empty(idle);
	}
	k->charged = charge;
	f->charged += charge;
	return k;
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

struct fetch_job *fetch_take(struct fetch *f, struct fetch_kit **ret_kit)
{
	struct fetch_job *job = NULL;

	pthread_mutex_lock(&f->mutex);
	while (!is_over_locked(f) && !may_take_locked(f) && !(f->closed && f->head == NULL)) {
		f->n_idle++;
		pthread_cond_wait(&f->work, &f->mutex);
		f->n_idle--;
	}
	if (!is_over_locked(f) && f->head != NULL) {
		*ret_kit = take_kit_locked(f);
		job = take_job_locked(f);
		if (may_take_locked(f)) /* there may have been one signal for two jobs */
			pthread_cond_signal(&f->work);
		if (f->closed && f->head == NULL) /* who waited for room waits for nothing now */
			pthread_cond_broadcast(&f->work);
	}
	pthread_mutex_unlock(&f->mutex);
	return job;
}

void fetch_give_back(struct fetch *f, struct fetch_job *job, struct fetch_kit *kit)
{
	fetch_job_free(job);
	pthread_mutex_lock(&f->mutex);
	f->n_running--;
	f->charged -= kit->charged;
	f->kept += fetch_kit_room(kit);
	kit->next = f->kits;
	f->kits = kit;
	pthread_cond_signal(&f->work);
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->mutex);
}

/* While nobody decodes, all wait for the network. */
static void count_idle_locked(struct fetch *f)
{
	if (f->n_decoding == 0 && f->opts->progress != NULL)
		count(&f->opts->progress->network_ns, now_ns() - f->idle_since_ns);
}

int fetch_begin_decoding(struct fetch *f, struct error *err)
{
	int r;

	pthread_mutex_lock(&f->mutex);
	while (f->n_decoding == f->decoders_max && !is_over_locked(f))
		pthread_cond_wait(&f->decode, &f->mutex);
	r = outcome_locked(f, err);
	if (r == 0) {
		count_idle_locked(f);
		f->n_decoding++;
	}
	pthread_mutex_unlock(&f->mutex);
	return r;
}

void fetch_end_decoding(struct fetch *f)
{
	pthread_mutex_lock(&f->mutex);
	if (--f->n_decoding == 0)
		f->idle_since_ns = now_ns();
	pthread_cond_signal(&f->decode);
	pthread_mutex_unlock(&f->mutex);
}

int fetch_await_turn(struct fetch *f, struct fetch_large *l, uint64_t turn, struct error *err)
{
	int r;

	pthread_mutex_lock(&f->mutex);
	while (l->turn != turn && !is_over_locked(f))
		pthread_cond_wait(&f->changed, &f->mutex);
	r = outcome_locked(f, err);
	pthread_mutex_unlock(&f->mutex);
	return r;
}

void fetch_next_turn(struct fetch *f, struct fetch_large *l)
{
	pthread_mutex_lock(&f->mutex);
	l->turn++;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->mutex);
}
