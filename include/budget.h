/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_BUDGET_H
#define STAGERUN_BUDGET_H

#include "block.h"
#include "cancel.h"
#include "error.h"
#include <stdint.h>

/* The one memory budget of the agent. Half of it is the network's: a pool of blocks that arriving
 * bytes fill and that are free again when the decoder has read them. The other half is reserved by
 * stages, for decoders (zstd's window, xz's threads) and for decoded blocks waiting to be written.
 *
 * A stage reserves once for its decoder and its blocks, before it starts to decode, and so never
 * waits for memory while holding some: there is no cycle to deadlock on. */

struct budget;

/* total_bytes 0: the smaller of 256 MiB and a quarter of the cgroup's memory limit (v1 and v2); at
 * least 16 MiB. */
struct budget *budget_new(uint64_t total_bytes);
void budget_free(struct budget *b); /* accepts NULL */

uint64_t budget_total(const struct budget *b);
uint64_t budget_stage_half(const struct budget *b); /* the most that one reservation can have */

/* Worker threads. Waits until bytes are free in the stages' half. -ERR_LIMIT with a sentence that
 * names the setting (memory_budget) when bytes exceed the whole half; -ECANCELED. */
int budget_reserve(struct budget *b, uint64_t bytes, struct cancel *cancel, struct error *err);
bool budget_try_reserve(struct budget *b, uint64_t bytes); /* never waits */
void budget_release(struct budget *b, uint64_t bytes);

/* The network's half, in bytes, for the transfer engine to make its pool of. */
uint64_t budget_network_half(const struct budget *b);

#endif
