/* SPDX-License-Identifier: MIT */
/* One request to stop, for all threads of a stage set. Owns the list of conditions to wake; knows
 * nothing of what the threads do. */
#include "cancel.h"
#include <assert.h>
#include <stddef.h>

void cancel_init(struct cancel *c)
{
	atomic_init(&c->requested, false);
	pthread_mutex_init(&c->mutex, NULL);
	c->watches = NULL;
}

void cancel_done(struct cancel *c)
{
	assert(c->watches == NULL);
	pthread_mutex_destroy(&c->mutex);
}

void cancel_request(struct cancel *c)
{
	struct cancel_watch *w;

	pthread_mutex_lock(&c->mutex);
	atomic_store(&c->requested, true);
	for (w = c->watches; w != NULL; w = w->next) {
		/* With its mutex held, a thread is either asleep, and woken, or has not looked yet.
		 */
		pthread_mutex_lock(w->mutex);
		pthread_cond_broadcast(w->cond);
		pthread_mutex_unlock(w->mutex);
	}
	pthread_mutex_unlock(&c->mutex);
}

void cancel_watch(struct cancel *c, struct cancel_watch *w)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&c->mutex);
	w->next = c->watches;
	c->watches = w;
	pthread_mutex_unlock(&c->mutex);
}

void cancel_unwatch(struct cancel *c, struct cancel_watch *w)
{
	struct cancel_watch **at;

	if (c == NULL)
		return;
	pthread_mutex_lock(&c->mutex);
	for (at = &c->watches; *at != NULL; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			break;
		}
	}
	pthread_mutex_unlock(&c->mutex);
}
