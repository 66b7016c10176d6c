/* SPDX-License-Identifier: MIT */
/* The bytes between the ranges, which the loop thread fills, and the one worker that consumes them
 * in order. Bytes that have arrived are never written again, so they are copied and read without
 * the lock; the lock guards the positions of both sides. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct block **slot_of(struct range *r, uint64_t block)
{
	return &r->slots[block % r->n_slots];
}

static struct block *new_block(struct range *r)
{
	struct http_object *o = r->object;

	if (r->reserved > 0) {
		struct block *b = block_pool_take_reserved(r->pool);

		r->reserved -= b != NULL;
		return b;
	}
	if (schedule_reserve(o, 1))
		return block_pool_take_reserved(o->t->pool);
	if (block_pool_reserve(o->own, 1))
		return block_pool_take_reserved(o->own);
	return NULL;
}

static bool slot_is_free(struct range *r)
{
	bool is_free;

	pthread_mutex_lock(&r->object->lock);
	is_free = *slot_of(r, r->blocks) == NULL;
	pthread_mutex_unlock(&r->object->lock);
	return is_free;
}

bool window_ensure_room(struct range *r, size_t len)
{
	uint64_t needed = (r->at - r->start + len + BLOCK_BYTES - 1) / BLOCK_BYTES;

	while (r->blocks < needed) {
		struct block *b = slot_is_free(r) ? new_block(r) : NULL;

		if (b == NULL)
			return false;
		pthread_mutex_lock(&r->object->lock);
		*slot_of(r, r->blocks++) = b;
		pthread_mutex_unlock(&r->object->lock);
	}
	return true;
}

/* Drops the references to full blocks that the worker has consumed. */
static void release_locked(struct range *r, uint64_t position)
{
	uint64_t limit = position < r->at ? position : r->at;

	while (r->released * BLOCK_BYTES < limit - r->start) {
		uint64_t block_end = r->start + (r->released + 1) * BLOCK_BYTES;
		struct block **slot = slot_of(r, r->released);

		if ((block_end < r->end ? block_end : r->end) > limit)
			break;
		block_unref(*slot);
		*slot = NULL;
		r->released++;
	}
}

void window_fill(struct range *r, const uint8_t *bytes, size_t len)
{
	struct http_object *o = r->object;
	uint64_t at = r->at;
	size_t left = len;

	while (left > 0) {
		size_t within = (at - r->start) % BLOCK_BYTES;
		size_t n = left < BLOCK_BYTES - within ? left : BLOCK_BYTES - within;

		/* The slot of a block that is not full belongs to the loop thread alone. */
		memcpy((*slot_of(r, (at - r->start) / BLOCK_BYTES))->data + within, bytes, n);
		bytes += n;
		at += n;
		left -= n;
	}
	pthread_mutex_lock(&o->lock);
	r->at = at;
	if (o->position > r->start)
		release_locked(r, o->position);
	if (o->progress != NULL)
		count(&o->progress->received, len);
	pthread_mutex_unlock(&o->lock);
	engine_wake_worker(o);
}

void window_make_stream(struct range *r)
{
	struct block **slots = zalloc(STREAM_BLOCKS * sizeof(struct block *));

	pthread_mutex_lock(&r->object->lock);
	free(r->slots); /* empty: no byte has arrived yet */
	r->slots = slots;
	r->n_slots = STREAM_BLOCKS;
	r->end = SIZE_UNKNOWN;
	pthread_mutex_unlock(&r->object->lock);
}

static struct range *find_range_locked(struct http_object *o, uint64_t offset)
{
	struct range *r = o->ranges;

	while (r != NULL && (offset < r->start || offset >= r->end))
		r = r->next;
	return r;
}

/* Returns the bytes from the worker's position to the end of that block. False: none has
 * arrived. */
static bool take_slice_locked(struct http_object *o, struct slice *ret)
{
	struct range *r = find_range_locked(o, o->position);
	struct block *b;
	uint64_t within, len;

	if (r == NULL || r->at <= o->position)
		return false;
	within = (o->position - r->start) % BLOCK_BYTES;
	len = r->at - o->position;
	if (len > BLOCK_BYTES - within)
		len = BLOCK_BYTES - within;
	b = *slot_of(r, (o->position - r->start) / BLOCK_BYTES);
	*ret = (struct slice){.data = b->data + within, .len = len, .owner = block_ref(b)};
	o->position += len;
	release_locked(r, o->position);
	if (o->progress != NULL)
		count(&o->progress->consumed, len);
	return true;
}

static void sleep_locked(struct http_object *o)
{
	uint64_t slept;

	o->sleeping = true;
	o->asleep_since_ns = now_ns();
	if (o->progress != NULL)
		atomic_store(&o->progress->network_since_ns, o->asleep_since_ns);
	pthread_cond_wait(&o->changed, &o->lock);
	slept = now_ns() - o->asleep_since_ns;
	o->sleeping = false;
	o->slept_ns += slept;
	if (o->progress != NULL) {
		atomic_store(&o->progress->network_since_ns, 0);
		count(&o->progress->network_ns, slept);
	}
}

static int await_slice_locked(struct http_object *o, struct slice *ret, struct error *err)
{
	for (;;) {
		if (cancel_requested(o->cancel))
			return error_set(err, -ECANCELED, "%s: cancelled", o->name);
		if (o->failed < 0) {
			*err = o->why;
			return o->failed;
		}
		if (o->position == o->size)
			return 0;
		if (take_slice_locked(o, ret))
			return 1;
		sleep_locked(o);
	}
}

void window_start_stream(struct http_object *o)
{
	if (!o->streaming)
		engine_post(&o->t->inbox, &o->stream_post);
	o->streaming = true;
}

static int window_next(struct reader *reader, struct slice *ret, struct error *err)
{
	struct http_object *o = container_of(reader, struct http_object, reader);
	int code;

	/* The first range is fetched in any case. Only this thread changes position, so it is read
	 * without the lock. */
	if (o->position > 0)
		window_start_stream(o);
	pthread_mutex_lock(&o->lock);
	code = await_slice_locked(o, ret, err);
	pthread_mutex_unlock(&o->lock);
	return code;
}

static int64_t window_skip(struct reader *reader, uint64_t n, struct error *err)
{
	struct http_object *o = container_of(reader, struct http_object, reader);

	(void)err;
	if (!o->base.seekable)
		return 0;
	pthread_mutex_lock(&o->lock);
	if (n > o->size - o->position)
		n = o->size - o->position;
	o->position += n;
	if (o->progress != NULL)
		count(&o->progress->consumed, n);
	pthread_mutex_unlock(&o->lock);
	engine_post(&o->t->inbox, &o->skip_post);
	return (int64_t)n;
}

/* The reader is part of its object, which frees it. */
static void window_close(struct reader *reader)
{
	(void)reader;
}

const struct reader_ops window_reader_ops = {
	.next = window_next,
	.skip = window_skip,
	.close = window_close,
};
