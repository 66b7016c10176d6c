/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_VIEW_H
#define STAGERUN_VIEW_H

#include "run_report.h"
#include "timeline.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A copy of a timeline, and what the reports derive from it: where the time until the run was ready
 * went, and the one thing that took most of it. A copy, since a thread that was abandoned may still
 * record. Loop thread. */

/* What time is spent on. The names are for machines, the phrases for people ("41.0 s waiting for
 * the network"). */
#define VIEW_CAUSES(X) \
	X(CAUSE_NETWORK, "network", "waiting for the network") \
	X(CAUSE_DECODE, "decode", "decompressing") \
	X(CAUSE_DISK, "disk", "waiting for the disk") \
	X(CAUSE_MEMORY, "memory", "waiting for memory") \
	X(CAUSE_LOCK, "lock", "waiting for another agent") \
	X(CAUSE_UNPACK, "unpack", "unpacking") \
	X(CAUSE_PUBLISH, "publish", "moving into place") \
	X(CAUSE_DEPENDENCIES, "dependencies", "installing dependencies") \
	X(CAUSE_ACTION, "action", "running actions") \
	X(CAUSE_HOOK, "hook", "running hooks") \
	X(CAUSE_AGENT, "agent", "in the agent itself")

enum view_cause {
#define X(id, name, phrase) id,
	VIEW_CAUSES(X)
#undef X
		CAUSE_COUNT
};

/* The first five are waits of a source. */
#define VIEW_WAITS ((size_t)CAUSE_LOCK + 1)

const char *view_cause_name(enum view_cause c);
const char *view_cause_phrase(enum view_cause c);

struct view {
	struct span *spans; /* the span of an id is at id - 1 */
	size_t n;
	const struct span *run;     /* NULL: the timeline has none */
	const struct span *command; /* NULL: it was not started */
	uint64_t begin_ns, end_ns;  /* CLOCK_MONOTONIC; the end is now while the run is open */
	uint64_t unix_ns;           /* of begin_ns */
	uint64_t start_ns;          /* how long the start took, or lasted until it failed */
	bool ready;                 /* the start succeeded */
	bool warm; /* everything was there already, which took less than a second */
	uint64_t dropped;

	/* Where the time of the start went: adds up to start_ns. */
	uint64_t cause_ns[CAUSE_COUNT];
	/* The cause of most of it, or CAUSE_AGENT, and its span, if one has at least half of that
	 * time; else NULL. */
	enum view_cause slowest;
	const struct span *slowest_span;
};

/* ret is owned by the caller: view_free(). */
struct view *view_new(struct timeline *t);
void view_free(struct view *v); /* accepts NULL */

/* The span of the id; NULL for 0. */
const struct span *view_span(const struct view *v, unsigned id);
/* How long it lasted; until the end of the view if it is open. */
uint64_t view_length_ns(const struct view *v, const struct span *s);
/* Bytes per second that a source received or, if nothing was received, had in the end. 0: not
 * known. */
uint64_t view_rate(const struct view *v, const struct span *source);
/* What a source waited for, in parts of its time that add up to at most all of it: sources read
 * and write in several threads, whose waits may overlap. Only the wait for another agent lies
 * before its time: CAUSE_LOCK comes on top. */
void view_waits_ns(
	const struct view *v, const struct span *source, uint64_t ret[static VIEW_WAITS]);

/* What follows the last slash of the name: enough to know a source by. Borrowed. */
const char *view_short_name(const char *name);

/* "Ready in 48.2 s", "Failed after 3.1 s". Heap. */
char *view_headline(const struct view *v);
/* "41.0 s waiting for the network at imagenet.tar"; or, of a failed start, why. Any bytes. Heap;
 * NULL: nothing took a tenth of the time. */
char *view_subline(const struct view *v);
/* What would help against the slowest thing; NULL: nothing is known. Borrowed. */
const char *view_advice(const struct view *v);

/* "2026-11-22T10:04:05.123456789Z". Returns buf. */
const char *view_time(uint64_t unix_ns, char buf[static 40]);

#endif
