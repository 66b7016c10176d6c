/* SPDX-License-Identifier: MIT */
/* The one way from a worker thread to the loop thread: a list under a lock, and a libuv async that
 * wakes the loop. Carries no data of its own; a post is embedded in what it is about. */
#include "defer.h"
#include "engine.h"

int inbox_init(struct inbox *in, uv_loop_t *loop, uv_async_cb on_wake)
{
	in->first = NULL;
	in->last = &in->first;
	in->shut = false;
	pthread_mutex_init(&in->lock, NULL);
	return uv_async_init(loop, &in->wake, on_wake);
}

void inbox_done(struct inbox *in)
{
	pthread_mutex_destroy(&in->lock);
}

bool inbox_post(struct inbox *in, struct post *post)
{
	bool open;

	pthread_mutex_lock(&in->lock);
	open = !in->shut;
	if (open && !post->queued) {
		post->queued = true;
		post->next = NULL;
		*in->last = post;
		in->last = &post->next;
		/* Under the lock: once it is shut, the handle may be closed. */
		uv_async_send(&in->wake);
	}
	pthread_mutex_unlock(&in->lock);
	return open;
}

static struct post *inbox_take(struct inbox *in)
{
	struct post *post;

	pthread_mutex_lock(&in->lock);
	post = in->first;
	if (post != NULL) {
		in->first = post->next;
		if (in->first == NULL)
			in->last = &in->first;
		post->queued = false;
	}
	pthread_mutex_unlock(&in->lock);
	return post;
}

void inbox_run(struct inbox *in)
{
	struct post *post;

	while ((post = inbox_take(in)) != NULL)
		post->run(post);
}

void inbox_shut(struct inbox *in)
{
	pthread_mutex_lock(&in->lock);
	in->shut = true;
	pthread_mutex_unlock(&in->lock);
}

void inbox_wake(void *ctx)
{
	struct inbox *in = ctx;

	uv_async_send(&in->wake);
}
