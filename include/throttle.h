/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_THROTTLE_H
#define STAGERUN_THROTTLE_H

#include <stdint.h>

/* A rate limit for all received bytes, on all threads. A receiver counts the bytes that it got, and
 * waits until throttle_due_ns() before it reads more. Unused rate is not accumulated, except for a
 * short burst. Any thread, except for the first two functions; all accept NULL: no limit. */

struct throttle;

struct throttle *throttle_new(uint64_t bytes_per_s); /* 0: NULL */
void throttle_free(struct throttle *t);

/* now_ns: from now_ns() of progress.h. */
void throttle_count(struct throttle *t, uint64_t bytes, uint64_t now_ns);
/* When more may be received, in the time of now_ns(); 0: now. */
uint64_t throttle_due_ns(const struct throttle *t, uint64_t now_ns);

/* The largest number of connections, up to `most`, with which each still gets a share of the rate
 * that no server mistakes for a stall. */
unsigned throttle_connections(const struct throttle *t, unsigned most);

#endif
