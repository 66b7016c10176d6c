/* SPDX-License-Identifier: MIT */
/* The lock, the first failure and the life cycle of the threads of one task. Any thread. */
#include "workers.h"
#include "thread.h"
#include <errno.h>
#include <stdlib.h>

void workers_init(struct workers *w, unsigned max_threads, struct cancel *cancel)
{
	*w = (struct workers){.cancel = cancel, .max_threads = max_threads};
	pthread_mutex_init(&w->mutex, NULL);
}

void workers_add_condition(struct workers *w, struct workers_condition *c)
{
	pthread_cond_init(&c->cond, NULL);
	c->watch = (struct cancel_watch){.mutex = &w->mutex, .cond = &c->cond};
	c->next = w->conditions;
	w->conditions = c;
	cancel_watch(w->cancel, &c->watch);
}

void workers_done(struct workers *w)
{
	for (struct workers_condition *c = w->conditions; c != NULL; c = c->next) {
		cancel_unwatch(w->cancel, &c->watch);
		pthread_cond_destroy(&c->cond);
	}
	pthread_mutex_destroy(&w->mutex);
	free(w->threads);
}

/* Returns where the next thread's id is to be stored; NULL: there may be no more threads. */
static pthread_t *next_thread(struct workers *w)
{
	if (w->n_threads >= w->max_threads)
		return NULL;
	w->threads = reallocarray(w->threads, w->n_threads + 1, sizeof(*w->threads));
	if (w->threads == NULL)
		abort();
	return &w->threads[w->n_threads];
}

int workers_start(struct workers *w, void *(*run)(void *), void *arg, struct error *err)
{
	pthread_t *thread = next_thread(w);
	int code = thread == NULL ? 0 : thread_start_next(thread, w->n_threads, run, arg, err);

	if (code > 0)
		w->n_threads++;
	else
		w->max_threads = w->n_threads;
	return code;
}

bool workers_start_extra(struct workers *w, void *(*run)(void *), void *arg)
{
	pthread_t *thread = next_thread(w);
	bool started = thread != NULL && thread_start_extra(thread, run, arg);

	if (started)
		w->n_threads++;
	else
		w->max_threads = w->n_threads;
	return started;
}

void workers_join(struct workers *w)
{
	pthread_mutex_lock(&w->mutex);
	/* A thread that starts another one does so before it ends, so none is missed. */
	for (unsigned i = 0; i < w->n_threads; i++) {
		pthread_t thread = w->threads[i];

		pthread_mutex_unlock(&w->mutex);
		pthread_join(thread, NULL);
		pthread_mutex_lock(&w->mutex);
	}
	w->n_threads = 0;
	pthread_mutex_unlock(&w->mutex);
}

static void wake_all_locked(struct workers *w)
{
	for (struct workers_condition *c = w->conditions; c != NULL; c = c->next)
		workers_wake_all(c);
}

void workers_stop(struct workers *w)
{
	pthread_mutex_lock(&w->mutex);
	atomic_store(&w->stopped, true);
	wake_all_locked(w);
	pthread_mutex_unlock(&w->mutex);
	workers_join(w);
}

int workers_outcome_locked(const struct workers *w, struct error *err)
{
	if (!workers_must_stop(w))
		return 0;
	if (w->failed == 0)
		return error_set(err, -ECANCELED, "cancelled");
	if (err != NULL)
		*err = w->why;
	return w->failed;
}

int workers_outcome(struct workers *w, struct error *err)
{
	int code;

	pthread_mutex_lock(&w->mutex);
	code = workers_outcome_locked(w, err);
	pthread_mutex_unlock(&w->mutex);
	return code;
}

void workers_fail_locked(struct workers *w, int code, const struct error *why)
{
	if (w->failed == 0) {
		w->failed = code;
		w->why = *why;
	}
	atomic_store(&w->stopped, true);
	wake_all_locked(w);
}

void workers_fail(struct workers *w, int code, const struct error *why)
{
	pthread_mutex_lock(&w->mutex);
	workers_fail_locked(w, code, why);
	pthread_mutex_unlock(&w->mutex);
}

void workers_fail_and_cancel(struct workers *w, int code, const struct error *why)
{
	pthread_mutex_lock(&w->mutex);
	if (w->failed == -ECANCELED)
		w->failed = 0;
	workers_fail_locked(w, code, why);
	pthread_mutex_unlock(&w->mutex);
	cancel_request(w->cancel);
}

int workers_await_turn(struct workers *w, struct workers_condition *c, const uint64_t *turn,
	uint64_t number, struct error *err)
{
	int code;

	pthread_mutex_lock(&w->mutex);
	while (*turn != number && !workers_must_stop(w))
		workers_wait(w, c);
	code = workers_outcome_locked(w, err);
	pthread_mutex_unlock(&w->mutex);
	return code;
}

void workers_next_turn(struct workers *w, struct workers_condition *c, uint64_t *turn)
{
	pthread_mutex_lock(&w->mutex);
	(*turn)++;
	workers_wake_all(c);
	pthread_mutex_unlock(&w->mutex);
}
