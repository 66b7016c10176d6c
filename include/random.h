/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RANDOM_H
#define STAGERUN_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Random bytes for unique names and for jitter; not for keys. Never fails and never waits: without
 * getrandom() (an old kernel, a seccomp profile) the bytes come from /dev/urandom, and without that
 * from the clock and the process id. Any thread. */
void random_fill(void *buf, size_t len);

/* Any of 0 to n - 1; n > 0. */
uint64_t random_below(uint64_t n);

/* The wait before the next try after `failed` failures (>= 1): anywhere between nothing and a
 * ceiling, which is base_ms after the first and doubles with each, up to max_ms. Clients that were
 * cut off together must not come back together. */
uint64_t random_backoff_ms(uint64_t base_ms, uint64_t max_ms, unsigned failed);

#endif
