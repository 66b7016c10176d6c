/* SPDX-License-Identifier: MIT */
/* Bounded pools of reference-counted blocks. A freed block is kept for the next taker, since a page
 * that is already mapped is cheaper than a new one. Any thread; one lock for each pool, taken once
 * for each block, not for each reference. */
#include "block.h"
#include "pages.h"
#include "text.h"
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct block_pool {
	/* Set at creation. */
	size_t block_bytes;
	size_t stride; /* from block to block in memory */
	unsigned max_blocks;
	void (*on_free)(void *ctx);
	void *ctx;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t came_back;
	uint8_t *memory;     /* max_blocks * stride bytes; NULL until the first block is taken */
	unsigned made;       /* blocks, from the beginning of memory */
	struct block **idle; /* a stack: the block used last is the one still in the cache */
	unsigned n_idle;
	unsigned out;      /* taken and not yet back */
	unsigned reserved; /* set aside for block_pool_take_reserved() */
	bool freed;        /* block_pool_free() was called; the last block out frees the pool */
};

/* Between two blocks, so that the address sanitizer sees who writes past the end of one. */
#define GAP 64

struct block_pool *block_pool_new(
	size_t block_bytes, unsigned max_blocks, void (*on_free)(void *ctx), void *ctx)
{
	struct block_pool *pool = zalloc(sizeof(*pool));

	assert(max_blocks > 0);
	pool->block_bytes = block_bytes;
	pool->stride = (sizeof(struct block) + block_bytes + GAP + 63) / 64 * 64;
	pool->max_blocks = max_blocks;
	pool->on_free = on_free;
	pool->ctx = ctx;
	pool->idle = zalloc(max_blocks * sizeof(struct block *));
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->came_back, NULL);
	return pool;
}

static size_t memory_bytes(const struct block_pool *pool)
{
	return pool->max_blocks * pool->stride;
}

static void pool_destroy(struct block_pool *pool)
{
	pages_unmap(pool->memory, memory_bytes(pool));
	free(pool->idle);
	pthread_cond_destroy(&pool->came_back);
	pthread_mutex_destroy(&pool->mutex);
	free(pool);
}

void block_pool_free(struct block_pool *pool)
{
	bool last;

	if (pool == NULL)
		return;
	pthread_mutex_lock(&pool->mutex);
	pool->freed = true;
	last = pool->out == 0;
	pthread_mutex_unlock(&pool->mutex);
	if (last)
		pool_destroy(pool);
}

bool block_pool_reserve(struct block_pool *pool, unsigned n)
{
	bool room;

	pthread_mutex_lock(&pool->mutex);
	room = pool->out + pool->reserved + n <= pool->max_blocks;
	if (room)
		pool->reserved += n;
	pthread_mutex_unlock(&pool->mutex);
	return room;
}

void block_pool_unreserve(struct block_pool *pool, unsigned n)
{
	pthread_mutex_lock(&pool->mutex);
	assert(pool->reserved >= n);
	pool->reserved -= n;
	pthread_cond_broadcast(&pool->came_back);
	pthread_mutex_unlock(&pool->mutex);
}

/* What is idle, and what lies between blocks, is nobody's. */
static struct block *make_locked(struct block_pool *pool)
{
	struct block *b;

	if (pool->memory == NULL) {
		pool->memory = pages_map(memory_bytes(pool));
		if (pool->memory == NULL)
			return NULL;
		pages_hide(pool->memory, memory_bytes(pool));
	}
	b = (struct block *)(pool->memory + pool->stride * pool->made++);
	pages_show(b, sizeof(*b) + pool->block_bytes);
	b->pool = pool;
	b->capacity = pool->block_bytes;
	return b;
}

static struct block *take_locked(struct block_pool *pool)
{
	struct block *b;

	if (pool->n_idle > 0) {
		b = pool->idle[--pool->n_idle];
		pages_show(b, sizeof(*b) + pool->block_bytes);
	} else {
		b = make_locked(pool);
		if (b == NULL)
			return NULL;
	}
	atomic_init(&b->refs, 1);
	pool->out++;
	return b;
}

struct block *block_pool_take_reserved(struct block_pool *pool)
{
	struct block *b;

	pthread_mutex_lock(&pool->mutex);
	assert(pool->reserved > 0);
	b = take_locked(pool);
	if (b != NULL)
		pool->reserved--;
	pthread_mutex_unlock(&pool->mutex);
	return b;
}

struct block *block_pool_take(struct block_pool *pool, struct cancel *cancel)
{
	struct cancel_watch watch = {.mutex = &pool->mutex, .cond = &pool->came_back};
	struct block *b = NULL;

	cancel_watch(cancel, &watch);
	pthread_mutex_lock(&pool->mutex);
	while (pool->out + pool->reserved >= pool->max_blocks && !cancel_requested(cancel))
		pthread_cond_wait(&pool->came_back, &pool->mutex);
	if (!cancel_requested(cancel))
		b = take_locked(pool);
	pthread_mutex_unlock(&pool->mutex);
	cancel_unwatch(cancel, &watch);
	return b;
}

size_t block_pool_block_bytes(const struct block_pool *pool)
{
	return pool->block_bytes;
}

struct block *block_ref(struct block *b)
{
	if (b != NULL)
		atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

static void pool_give_back(struct block_pool *pool, struct block *b)
{
	void (*on_free)(void *) = NULL;
	void *ctx = NULL;
	bool last;

	pthread_mutex_lock(&pool->mutex);
	pool->idle[pool->n_idle++] = b;
	pages_hide(b, sizeof(*b) + pool->block_bytes);
	pool->out--;
	last = pool->freed && pool->out == 0;
	if (!pool->freed) {
		on_free = pool->on_free;
		ctx = pool->ctx;
		pthread_cond_signal(&pool->came_back);
	}
	/* Under the lock, so that block_pool_free() cannot return, and the owner of ctx vanish, in
	 * the middle of it. */
	if (on_free != NULL)
		on_free(ctx);
	pthread_mutex_unlock(&pool->mutex);
	if (last)
		pool_destroy(pool);
}

void block_unref(struct block *b)
{
	if (b != NULL && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		pool_give_back(b->pool, b);
}
