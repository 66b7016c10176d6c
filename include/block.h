/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_BLOCK_H
#define STAGERUN_BLOCK_H

#include "cancel.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes travel from the network to the disk in reference-counted blocks from bounded pools, as
 * slices of them, so that they are copied as rarely as possible: a small file of a tar is written
 * straight from the block its archive was decoded into. The pools bound the agent's memory: a stage
 * that writes slowly runs out of blocks, and so slows its source down. */

struct block_pool;

struct block {
	struct block_pool *pool;
	atomic_uint refs;
	size_t capacity; /* bytes in data */
	_Alignas(64) uint8_t data[];
};

/* len bytes at data, inside owner. The holder of a slice owns one reference to owner. owner NULL:
 * the bytes outlive all holders (static, or borrowed by contract). */
struct slice {
	const uint8_t *data;
	size_t len;
	struct block *owner;
};

/* A pool of at most max_blocks blocks of block_bytes each, allocated on first use and kept for
 * reuse. on_free (may be NULL) is called each time a block returns to the pool, on the thread that
 * dropped it; it must not call into the pool. Never returns NULL: it aborts without memory. */
struct block_pool *block_pool_new(
	size_t block_bytes, unsigned max_blocks, void (*on_free)(void *ctx), void *ctx);

/* No blocks may be taken after this. The pool lives until the last block that is in use returns,
 * which does not call on_free. Accepts NULL. */
void block_pool_free(struct block_pool *pool);

/* Any thread. Reserves n blocks for later block_pool_take_reserved() calls; false: fewer than n are
 * neither in use nor reserved. */
bool block_pool_reserve(struct block_pool *pool, unsigned n);
void block_pool_unreserve(struct block_pool *pool, unsigned n);
struct block *block_pool_take_reserved(struct block_pool *pool); /* NULL: no memory */

/* Any thread that may sleep. Waits for a free block; NULL: cancel was requested, or there is no
 * memory. The caller owns one reference. */
struct block *block_pool_take(struct block_pool *pool, struct cancel *cancel);

struct block *block_ref(struct block *b); /* accepts NULL */
void block_unref(struct block *b);        /* accepts NULL */

/* Returns a second slice of the same bytes, with a reference of its own. */
static inline struct slice slice_share(const struct slice *s)
{
	block_ref(s->owner);
	return *s;
}

/* Drops the reference and empties the slice. Accepts an empty slice. */
static inline void slice_drop(struct slice *s)
{
	block_unref(s->owner);
	*s = (struct slice){0};
}

/* Removes the first n <= len bytes. */
static inline void slice_advance(struct slice *s, size_t n)
{
	if (n > 0) /* an empty slice may have no data at all */
		s->data += n;
	s->len -= n;
}

#endif
