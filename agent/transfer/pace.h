/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TRANSFER_PACE_H
#define STAGERUN_TRANSFER_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* How many connections one object is worth, and how long a range should be: measured, not guessed.
 * Both grow only while the worker sleeps for want of bytes, connections that are fast not in the first
 * two seconds, and what did not pay is taken back: the window is as large as both make it, and one that
 * is larger than it needs to be costs time, since its bytes have left the processor's cache when they
 * are read. Knows no clock of its own: the caller tells the time. */

struct pace {
	unsigned connections; /* wanted now */
	uint64_t range_bytes; /* wanted now */
	uint64_t ahead_bytes; /* no more is asked for while the worker has so much before it */

	unsigned connections_before; /* the last growth */
	uint64_t range_bytes_before;
	uint64_t begun_ns;    /* the look in which the first bytes had arrived; 0: none has */
	bool grown;           /* the last growth waits for its verdict */
	double rate;          /* bytes/s when it was made */
	uint64_t hold_ns;     /* no growth until then */
	uint64_t interval_ns; /* between two looks */

	/* Since the last look. */
	uint64_t since_ns;
	uint64_t slept_ns; /* the worker's total, at the last look */
	uint64_t bytes;
	unsigned used;   /* connections at once, at most */
	unsigned ranges; /* that are done */
	uint64_t
		waited_us; /* the least wait for a first byte: more than that is a queue, often ours */
	uint64_t lasted_us; /* all of them, in all */
};

struct pace_limits {
	unsigned connections;
	uint64_t range_bytes;
};

void pace_init(struct pace *p, uint64_t now_ns, uint64_t range_bytes);

/* The first response took so long: growth is not judged sooner than its effect can be seen. */
void pace_latency(struct pace *p, uint64_t latency_us);

void pace_range_done(struct pace *p, uint64_t waited_us, uint64_t lasted_us);

/* The server pushes back: fewer connections, and no growth for a while. */
void pace_trouble(struct pace *p, uint64_t now_ns);

/* So many connections are at work now. */
void pace_used(struct pace *p, unsigned connections);

/* slept_ns: how long the worker has slept for bytes, in all. */
void pace_tick(
	struct pace *p, uint64_t now_ns, uint64_t slept_ns, const struct pace_limits *limits);

#endif
