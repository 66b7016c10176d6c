/* SPDX-License-Identifier: MIT */
/* Bounded pools of reference-counted blocks, and the pages under them. A freed block is kept for
 * reuse, since a page that is already mapped is cheaper than a new one. Any thread; one lock for
 * each pool, taken once for each block, not for each reference. */
#include "block.h"
#include "block_pages.h"
#include "text.h"
#include <assert.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else /* absent in musl toolchains */
#define ASAN_POISON_MEMORY_REGION(memory, bytes)   ((void)(memory), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes) ((void)(memory), (void)(bytes))
#endif

#define HUGE_PAGE ((size_t)2 << 20) /* on x86-64, and on arm64 with pages of 4 KiB */
/* Smaller areas get no huge pages: each is zeroed entirely, which is too much for memory that is
 * hardly used. */
#define LARGE (2 * HUGE_PAGE)

static void pages_hide(void *memory, size_t bytes)
{
	ASAN_POISON_MEMORY_REGION(memory, bytes);
}

/* The address sanitizer reports accesses to hidden bytes until they are shown. Without it these
 * functions do nothing. */
static void pages_show(void *memory, size_t bytes)
{
	ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
}

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static size_t round_to_pages(size_t bytes)
{
	return round_up(bytes, (size_t)sysconf(_SC_PAGESIZE));
}

static void *map_pages(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void unmap_part(uint8_t *memory, size_t bytes)
{
	if (bytes > 0)
		munmap(memory, bytes);
}

static void *map_aligned(size_t bytes)
{
	size_t more = HUGE_PAGE - (size_t)sysconf(_SC_PAGESIZE), before;
	uint8_t *memory = map_pages(bytes + more);

	if (memory == NULL)
		return NULL;
	before = -(uintptr_t)memory % HUGE_PAGE;
	unmap_part(memory, before);
	unmap_part(memory + before + bytes, more - before);
	return memory + before;
}

void *block_map_pages(size_t bytes)
{
	void *memory = bytes < LARGE ? map_pages(round_to_pages(bytes))
				     : map_aligned(round_to_pages(bytes));

	/* The rest at the end stays on small pages: most of a huge one would be unused. madvise()
	 * fails on a kernel without huge pages, which is harmless. */
	if (memory != NULL && bytes >= LARGE)
		madvise(memory, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
	return memory;
}

void block_unmap_pages(void *memory, size_t bytes)
{
	if (memory == NULL)
		return;
	pages_show(memory, bytes);
	munmap(memory, round_to_pages(bytes));
}

/* The pools. */

struct block_pool {
	/* Set at creation. */
	size_t block_bytes;
	size_t stride; /* bytes from one block to the next in memory */
	unsigned max_blocks;
	void (*on_free)(void *ctx);
	void *ctx;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t returned;
	uint8_t *memory;     /* max_blocks * stride bytes; NULL until the first block is taken */
	unsigned made;       /* number of blocks created, from the beginning of memory */
	struct block **idle; /* a stack: the block used last is the one still in the cache */
	unsigned n_idle;
	unsigned out;      /* number of blocks in use */
	unsigned reserved; /* for block_pool_take_reserved() */
	bool freed;        /* block_pool_free() was called; the last block in use frees the pool */
};

/* Bytes between two blocks, so that the address sanitizer detects writes past the end of one. */
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
	pthread_cond_init(&pool->returned, NULL);
	return pool;
}

static size_t memory_bytes(const struct block_pool *pool)
{
	return pool->max_blocks * pool->stride;
}

static void pool_destroy(struct block_pool *pool)
{
	block_unmap_pages(pool->memory, memory_bytes(pool));
	free(pool->idle);
	pthread_cond_destroy(&pool->returned);
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
	pthread_cond_broadcast(&pool->returned);
	pthread_mutex_unlock(&pool->mutex);
}

/* Idle blocks and the gaps between blocks are poisoned for the address sanitizer. */
static struct block *create_block_locked(struct block_pool *pool)
{
	struct block *b;

	if (pool->memory == NULL) {
		pool->memory = block_map_pages(memory_bytes(pool));
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

static struct block *take_block_locked(struct block_pool *pool)
{
	struct block *b;

	if (pool->n_idle > 0) {
		b = pool->idle[--pool->n_idle];
		pages_show(b, sizeof(*b) + pool->block_bytes);
	} else {
		b = create_block_locked(pool);
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
	b = take_block_locked(pool);
	if (b != NULL)
		pool->reserved--;
	pthread_mutex_unlock(&pool->mutex);
	return b;
}

struct block *block_pool_take(struct block_pool *pool, struct cancel *cancel)
{
	struct cancel_watch watch = {.mutex = &pool->mutex, .cond = &pool->returned};
	struct block *b = NULL;

	cancel_watch(cancel, &watch);
	pthread_mutex_lock(&pool->mutex);
	while (pool->out + pool->reserved >= pool->max_blocks && !cancel_requested(cancel))
		pthread_cond_wait(&pool->returned, &pool->mutex);
	if (!cancel_requested(cancel))
		b = take_block_locked(pool);
	pthread_mutex_unlock(&pool->mutex);
	cancel_unwatch(cancel, &watch);
	return b;
}

struct block *block_ref(struct block *b)
{
	if (b != NULL)
		atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
	return b;
}

static void return_block(struct block_pool *pool, struct block *b)
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
		pthread_cond_signal(&pool->returned);
	}
	/* Called under the lock, so that block_pool_free() cannot return, and the owner of ctx
	 * disappear, in the middle of it. */
	if (on_free != NULL)
		on_free(ctx);
	pthread_mutex_unlock(&pool->mutex);
	if (last)
		pool_destroy(pool);
}

void block_unref(struct block *b)
{
	if (b != NULL && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		return_block(b->pool, b);
}
