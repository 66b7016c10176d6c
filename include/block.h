/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_BLOCK_H
#define STAGERUN_BLOCK_H

#include "cancel.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes on their way from the network to the disk live in reference-counted blocks from bounded
 * pools, and travel as slices of them, so that they are copied as seldom as possible: a small file of
 * a tar is written straight from the block its archive was decoded into. Pools are what bounds the
 * agent's memory: a stage that is slow to write runs out of blocks, and so slows its source. */

struct block_pool;

struct block {
	struct block_pool *pool;
	atomic_uint refs;
	size_t capacity; /* bytes in data */
	_Alignas(64) uint8_t data[];
};

/* len bytes at data, inside owner. The holder of a slice holds one reference to its owner.
 * owner NULL: the bytes outlive every holder (static, or borrowed by contract). */
struct slice {
	const uint8_t *data;
	size_t len;
	struct block *owner;
};

/* A pool of at most max_blocks blocks of block_bytes each, allocated when first needed and kept for
 * reuse. on_free (may be NULL) is called, on whichever thread dropped it, each time a block comes
 * back; it must not call into the pool. Never NULL (aborts without memory for a few words). */
struct block_pool *block_pool_new(
	size_t block_bytes, unsigned max_blocks, void (*on_free)(void *ctx), void *ctx);

/* No more blocks are taken after this; blocks still out keep the pool alive until they come back,
 * without calling on_free. Accepts NULL. */
void block_pool_free(struct block_pool *pool);

/* Any thread. Sets n blocks aside for later block_pool_take_reserved() calls; false when fewer than
 * n are neither out nor set aside. */
bool block_pool_reserve(struct block_pool *pool, unsigned n);
void block_pool_unreserve(struct block_pool *pool, unsigned n);
struct block *block_pool_take_reserved(struct block_pool *pool); /* NULL: no memory */

/* Any thread that may sleep. Waits for a free block; NULL when cancel was requested, or there is no
 * memory. The caller owns one reference. */
struct block *block_pool_take(struct block_pool *pool, struct cancel *cancel);

size_t block_pool_block_bytes(const struct block_pool *pool);

struct block *block_ref(struct block *b); /* accepts NULL */
void block_unref(struct block *b);        /* accepts NULL */

/* A second holder of the same bytes. */
static inline struct slice slice_share(const struct slice *s)
{
	block_ref(s->owner);
	return *s;
}

/* Gives the reference back and empties the slice. Accepts an empty slice. */
static inline void slice_drop(struct slice *s)
{
	block_unref(s->owner);
	*s = (struct slice){0};
}

/* Forgets the first n <= len bytes. */
static inline void slice_advance(struct slice *s, size_t n)
{
	if (n > 0) /* an empty slice may have no data at all */
		s->data += n;
	s->len -= n;
}

#endif
