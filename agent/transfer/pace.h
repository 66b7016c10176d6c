/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TRANSFER_PACE_H
#define STAGERUN_TRANSFER_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Measures how many connections are worthwhile for one object, and how long its ranges should be.
 * Both grow only while the worker sleeps for lack of bytes, and growth that did not raise the rate
 * is undone. Fast connections are not added to within the first two seconds. The window is as large
 * as both make it; an unnecessarily large one costs time, since its bytes have left the processor's
 * cache when they are read. No clock of its own: the caller passes the time. Loop thread, no
 * I/O. */

struct pace {
	unsigned connections; /* wanted now */
	uint64_t range_bytes; /* wanted now */
	/* no more ranges are planned while so many bytes wait for the worker */
	uint64_t ahead_bytes;

	unsigned connections_before; /* before the last growth */
	uint64_t range_bytes_before;
	uint64_t begun_ns;    /* the first measurement in which bytes had arrived; 0: none yet */
	bool grown;           /* the effect of the last growth is not yet measured */
	double rate;          /* bytes/s before the last growth */
	uint64_t hold_ns;     /* no growth before this time */
	uint64_t interval_ns; /* between two measurements */

	/* Since the last measurement. */
	uint64_t since_ns;
	uint64_t slept_ns; /* the worker's total at the last measurement */
	uint64_t bytes;
	unsigned used;   /* the most connections at once */
	unsigned ranges; /* completed */
	/* The shortest wait for a first byte: a longer wait includes a queue, often our own. */
	uint64_t waited_us;
	uint64_t lasted_us; /* sum of all ranges */
};

struct pace_limits {
	unsigned connections;
	uint64_t range_bytes;
};

void pace_init(struct pace *p, uint64_t now_ns, uint64_t range_bytes);

/* The first response took latency_us: growth is not evaluated before its effect can be seen. */
void pace_latency(struct pace *p, uint64_t latency_us);

void pace_range_done(struct pace *p, uint64_t waited_us, uint64_t lasted_us);

/* The server refuses requests: fewer connections, and no growth for a while. */
void pace_refused(struct pace *p, uint64_t now_ns);

/* Records how many connections are active now. */
void pace_used(struct pace *p, unsigned connections);

/* Measures if the interval is over. slept_ns: how long the worker has slept for bytes, in total. */
void pace_tick(
	struct pace *p, uint64_t now_ns, uint64_t slept_ns, const struct pace_limits *limits);

#endif
