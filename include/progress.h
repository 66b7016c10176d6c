/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROGRESS_H
#define STAGERUN_PROGRESS_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

/* The progress of one source of a stage. Written by the worker threads (relaxed adds), and read at
 * any time by the loop thread for the progress line, the summary and the limits. */
struct progress {
	/* Set at creation. */
	const char *name; /* the source's display name */

	/* Any thread. */
	atomic_ullong total;    /* compressed bytes of the object, 0 while unknown */
	atomic_ullong received; /* compressed bytes that arrived, each byte counted once */
	atomic_ullong consumed; /* compressed bytes passed to the decoder */
	atomic_ullong expanded; /* bytes of file content unpacked */
	atomic_ullong holes;    /* part of expanded: left as holes, without decoding */
	atomic_ullong entries;  /* entries unpacked */

	/* Waiting times in nanoseconds, for "waited for network, decode or disk". */
	atomic_ullong network_ns; /* the decoder slept because no bytes had arrived */
	atomic_ullong decode_ns;  /* the unpacker slept because nothing was decoded */
	/* spent in calls that write to the disk, or waiting for such calls */
	atomic_ullong disk_ns;
};

/* Resets all counters; other threads may read them meanwhile. */
static inline void progress_reset(struct progress *p)
{
	atomic_ullong *const counters[] = {&p->total, &p->received, &p->consumed, &p->expanded,
		&p->holes, &p->entries, &p->network_ns, &p->decode_ns, &p->disk_ns};

	for (unsigned i = 0; i < sizeof(counters) / sizeof(*counters); i++)
		atomic_store_explicit(counters[i], 0, memory_order_relaxed);
}

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void count(atomic_ullong *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static inline uint64_t counted(const atomic_ullong *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

#endif
