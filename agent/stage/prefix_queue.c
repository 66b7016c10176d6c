/* SPDX-License-Identifier: MIT */
/* The objects of a prefix between the thread that lists them and those that fetch them. */
#include "prefix_queue.h"
#include "defer.h"
#include "text.h"
#include <errno.h>
#include <string.h>

enum { WAITING_MAX = 2000, STACK_BYTES = 512 * 1024 };

void prefix_item_free(struct prefix_item *item)
{
	free(item->key);
	free(item);
}

void prefix_queue_init(struct prefix_queue *q, struct cancel *cancel, unsigned hands_max,
	void *(*hand)(void *ctx), void *ctx)
{
	*q = (struct prefix_queue){.cancel = cancel,
		.hand = hand,
		.ctx = ctx,
		.hands_max = hands_max < PREFIX_HANDS_MAX ? hands_max : PREFIX_HANDS_MAX};
	q->last = &q->first;
	pthread_mutex_init(&q->mutex, NULL);
	pthread_cond_init(&q->changed, NULL);
	q->watch = (struct cancel_watch){.mutex = &q->mutex, .cond = &q->changed};
	cancel_watch(cancel, &q->watch);
}

static bool is_over_locked(const struct prefix_queue *q)
{
	return q->code < 0 || cancel_requested(q->cancel);
}

static int cancelled(struct error *err)
{
	return error_set(err, -ECANCELED, "cancelled");
}

/* One that cannot be started is missed only when it would be the first. */
static int start_hand(struct prefix_queue *q, struct error *err)
{
	pthread_attr_t attr;
	int code;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	code = pthread_create(&q->hands[q->n_hands], &attr, q->hand, q->ctx);
	pthread_attr_destroy(&attr);
	if (code == 0)
		q->n_hands++;
	else if (q->n_hands == 0)
		return error_set(err, -code, "cannot start a thread: %s", strerrordesc_np(code));
	return 0;
}

int prefix_queue_put(struct prefix_queue *q, struct prefix_item *item, struct error *err)
{
	bool over, all_busy;

	pthread_mutex_lock(&q->mutex);
	while (q->n >= WAITING_MAX && !is_over_locked(q))
		pthread_cond_wait(&q->changed, &q->mutex);
	over = is_over_locked(q);
	if (!over) {
		*q->last = item;
		q->last = &item->next;
		q->n++;
		pthread_cond_broadcast(&q->changed);
	}
	all_busy = q->n > q->idle;
	pthread_mutex_unlock(&q->mutex);
	if (over) {
		prefix_item_free(item);
		return cancelled(err);
	}
	return all_busy && q->n_hands < q->hands_max ? start_hand(q, err) : 0;
}

struct prefix_item *prefix_queue_take(struct prefix_queue *q)
{
	struct prefix_item *item = NULL;

	pthread_mutex_lock(&q->mutex);
	q->idle++;
	while (q->n == 0 && !q->complete && !is_over_locked(q))
		pthread_cond_wait(&q->changed, &q->mutex);
	q->idle--;
	if (q->n > 0 && !is_over_locked(q)) {
		item = q->first;
		q->first = item->next;
		if (q->first == NULL)
			q->last = &q->first;
		/* Whoever lists sleeps until there is room. */
		if (q->n-- == WAITING_MAX)
			pthread_cond_broadcast(&q->changed);
	}
	pthread_mutex_unlock(&q->mutex);
	return item;
}

void prefix_queue_fail(struct prefix_queue *q, int code, const struct error *err)
{
	pthread_mutex_lock(&q->mutex);
	/* Others that were cancelled for it are its echo. */
	if (q->code == 0 || (q->code == -ECANCELED && code != -ECANCELED)) {
		q->code = code;
		q->err = *err;
	}
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->mutex);
	cancel_request(q->cancel);
}

int prefix_queue_begin_large(struct prefix_queue *q, struct error *err)
{
	bool over;

	pthread_mutex_lock(&q->mutex);
	while (q->large == PREFIX_LARGE_MAX && !is_over_locked(q))
		pthread_cond_wait(&q->changed, &q->mutex);
	over = is_over_locked(q);
	if (!over)
		q->large++;
	pthread_mutex_unlock(&q->mutex);
	return over ? cancelled(err) : 0;
}

void prefix_queue_end_large(struct prefix_queue *q)
{
	pthread_mutex_lock(&q->mutex);
	q->large--;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->mutex);
}

int prefix_queue_finish(struct prefix_queue *q, int code, struct error *err)
{
	pthread_mutex_lock(&q->mutex);
	q->complete = true;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->mutex);
	if (code < 0)
		prefix_queue_fail(q, code, err);
	for (unsigned i = 0; i < q->n_hands; i++)
		pthread_join(q->hands[i], NULL);
	cancel_unwatch(q->cancel, &q->watch);
	while (q->first != NULL) {
		struct prefix_item *item = q->first;

		q->first = item->next;
		prefix_item_free(item);
	}
	pthread_mutex_destroy(&q->mutex);
	pthread_cond_destroy(&q->changed);
	if (q->code == 0)
		return cancel_requested(q->cancel) ? cancelled(err) : 0;
	if (err != NULL)
		*err = q->err;
	return q->code;
}
