/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CACHE_CALL_H
#define STAGERUN_CACHE_CALL_H

#include "cache.h"
#include "request.h"
#include "table.h"
#include <jansson.h>

/* One call of `stagerun cache ...`, as its subcommands see it. */

/* On the heap: the thread that works on it may outlive the wait for it. */
struct cache_call {
	struct request request;
	struct strings keys;
	struct cache *cache;
	uint64_t max_size;

	/* What came out. */
	struct table table;
	json_t *array;
	uint64_t evicted, evicted_bytes; /* evict, clear */
	uint64_t verified, damaged;      /* verify */
};

/* On a thread of their own; ctx is the call. */
int cache_call_list(void *ctx, struct cancel *cancel, struct error *err);
int cache_call_evict(void *ctx, struct cancel *cancel, struct error *err);
int cache_call_clear(void *ctx, struct cancel *cancel, struct error *err);
int cache_call_verify(void *ctx, struct cancel *cancel, struct error *err);

/* Loop thread, afterwards. */
void cache_print_list(const struct cache_call *c);
void cache_print_evicted(const struct cache_call *c);
void cache_print_verified(const struct cache_call *c);

#endif
