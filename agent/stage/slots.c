/* SPDX-License-Identifier: MIT */
/* A counting semaphore that a cancel can wake. */
#include "stage_private.h"
#include <errno.h>

void slots_init(struct slots *s, unsigned n)
{
	pthread_mutex_init(&s->mutex, NULL);
	pthread_cond_init(&s->freed, NULL);
	s->free = n;
}

void slots_done(struct slots *s)
{
	pthread_cond_destroy(&s->freed);
	pthread_mutex_destroy(&s->mutex);
}

int slots_take(struct slots *s, struct cancel *cancel, struct error *err)
{
	struct cancel_watch watch = {.mutex = &s->mutex, .cond = &s->freed};
	bool taken = false;

	cancel_watch(cancel, &watch);
	pthread_mutex_lock(&s->mutex);
	while (s->free == 0 && !cancel_requested(cancel))
		pthread_cond_wait(&s->freed, &s->mutex);
	if (!cancel_requested(cancel)) {
		s->free--;
		taken = true;
	}
	pthread_mutex_unlock(&s->mutex);
	cancel_unwatch(cancel, &watch);
	return taken ? 0 : error_set(err, -ECANCELED, "cancelled");
}

void slots_give(struct slots *s)
{
	pthread_mutex_lock(&s->mutex);
	s->free++;
	pthread_cond_signal(&s->freed);
	pthread_mutex_unlock(&s->mutex);
}
