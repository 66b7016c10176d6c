/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_BUDGET_H
#define STAGERUN_BUDGET_H

#include "block.h"
#include "cancel.h"
#include "error.h"
#include <stdatomic.h>
#include <stdint.h>

/* The memory budget of the agent. One half belongs to the network: a pool of blocks that are filled
 * with received bytes, and are free again when the decoder has read them. Stages reserve parts of
 * the other half for decoders (zstd's window, xz's threads) and for decoded blocks that wait to be
 * written.
 *
 * A stage makes one reservation for its decoder and its blocks before it starts to decode. It never
 * waits for memory while it holds some, so there is no deadlock. */

struct budget;

/* total_bytes 0: the smaller of 256 MiB and a quarter of the cgroup's memory limit (v1 and v2). At
 * least 16 MiB in any case. */
struct budget *budget_new(uint64_t total_bytes);
void budget_free(struct budget *b); /* accepts NULL */

uint64_t budget_total(const struct budget *b);
uint64_t budget_stage_half(const struct budget *b); /* in bytes: the largest possible reservation */

/* Worker threads. Waits until so many bytes are free in the stages' half. -ERR_LIMIT with a
 * sentence that names the setting (memory_budget): bytes exceed the whole half. -ECANCELED. */
int budget_reserve(struct budget *b, uint64_t bytes, struct cancel *cancel, struct error *err);
/* The same; adds to *waited_ns, which may be NULL, how long it waited. */
int budget_reserve_counted(struct budget *b, uint64_t bytes, struct cancel *cancel,
	atomic_ullong *waited_ns, struct error *err);
bool budget_try_reserve(struct budget *b, uint64_t bytes); /* never waits */
void budget_release(struct budget *b, uint64_t bytes);

/* The network's half, in bytes, for the transfer engine's pool. */
uint64_t budget_network_half(const struct budget *b);

#endif
