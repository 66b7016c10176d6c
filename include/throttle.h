/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_THROTTLE_H
#define STAGERUN_THROTTLE_H

#include <stdint.h>

/* One rate for all bytes that arrive, on whatever thread: who has got some says so, and before it takes more
 * it waits until those are paid for. What is not used is not saved up, but for a moment's worth. Any thread, but
 * for the first two; all accept NULL: no limit. */

struct throttle;

struct throttle *throttle_new(uint64_t bytes_per_s); /* 0: NULL */
void throttle_free(struct throttle *t);

/* now_ns: as now_ns() of progress.h. */
void throttle_count(struct throttle *t, uint64_t bytes, uint64_t now_ns);
/* When more may be taken; 0: now. */
uint64_t throttle_due_ns(const struct throttle *t, uint64_t now_ns);

/* The most connections, of `most`, of which each still has a share that no server takes for a stall. */
unsigned throttle_connections(const struct throttle *t, unsigned most);

#endif
