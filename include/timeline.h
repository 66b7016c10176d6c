/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TIMELINE_H
#define STAGERUN_TIMELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The timeline of a run: what was done, from when to when, and how it ended. Rooms record spans
 * while they work; the reports and the trace exporter read them at the end. A span has a parent,
 * as in OpenTelemetry: the run is the parent of its stages, a stage of its sources, a source of its
 * ranges.
 *
 * Where nobody wants a report there is no timeline: every function accepts NULL for it, and then
 * does nothing. Any thread, unless a comment says otherwise; one mutex guards the timeline, so
 * record what lasts milliseconds, not microseconds. */

/* What a span is. The names are for machines: they are members of reports and traces. */
#define SPAN_KINDS(X) \
	X(SPAN_RUN, "run")         /* the agent's life until the command ended, or was exec'ed */ \
	X(SPAN_STAGE, "stage")     /* one destination; name: the directory */ \
	X(SPAN_SOURCE, "source")   /* one source of a stage; name: as displayed */ \
	X(SPAN_RANGE, "range")     /* one request for a part of an object */ \
	X(SPAN_LOCK, "lock")       /* waited for another agent; name: who holds it */ \
	X(SPAN_PUBLISH, "publish") /* moved into place */ \
	X(SPAN_DEPENDENCIES, "dependencies") \
	X(SPAN_ACTION, "action") \
	X(SPAN_HOOK, "hook") \
	X(SPAN_COMMAND, "command")

enum span_kind {
#define X(id, name) id,
	SPAN_KINDS(X)
#undef X
};

/* How a span ended. */
#define SPAN_ENDS(X) \
	X(SPAN_OPEN, "open") /* not yet */ \
	X(SPAN_OK, "ok") \
	X(SPAN_FAILED, "failed") \
	X(SPAN_CANCELLED, "cancelled") /* by a signal, or by another failure */

enum span_end {
#define X(id, name) id,
	SPAN_ENDS(X)
#undef X
};

/* The facts that are recorded, by kind:
 *
 *   run      version, command, exit_code, signal, reason, phase (of a failure), ready_ns (how long
 *            the start took), warnings
 *   stage    origin, how (see stage_end_name()), bytes, entries
 *   source   url, to, format, etag, last_modified, sha256, datastore, version, total_bytes,
 *            received_bytes, expanded_bytes, entries, connections, retries, stalls; how long it
 *            waited: network_ns, decode_ns, disk_ns, budget_ns (for memory), lock_ns;
 *            bottleneck (see report_bottleneck_name(); or "budget", "lock"), advice (a sentence)
 *   range    offset, received_bytes, first_byte_ns, status (HTTP's), attempt
 *   lock     holder
 *   action, hook, dependencies, command
 *            exit_code, signal, attempt, skipped (1); a command's pid
 *
 * A fact that is not known is not recorded. */

struct timeline;

/* ret is owned by the caller: timeline_free(), when no other thread records any more. */
struct timeline *timeline_new(void);
void timeline_free(struct timeline *t); /* accepts NULL */

/* Begins a span now. Returns its id, which is not 0; or 0 where nothing is recorded, since t is
 * NULL or holds TIMELINE_SPANS_MAX spans (for a range: half as many). The other functions accept
 * the id 0 and do nothing. Strings are copied, and secrets in them are hidden. */
enum { TIMELINE_SPANS_MAX = 20000 };
unsigned timeline_begin(struct timeline *t, unsigned parent, enum span_kind kind, const char *name);

/* As timeline_begin(), for what began earlier: begin_ns is of CLOCK_MONOTONIC. */
unsigned timeline_begin_at(struct timeline *t, unsigned parent, enum span_kind kind,
	const char *name, uint64_t begin_ns);

/* Adds a fact, or replaces the one with this key. text: NULL does nothing. */
void timeline_set_number(struct timeline *t, unsigned id, const char *key, uint64_t number);
void timeline_set_text(struct timeline *t, unsigned id, const char *key, const char *text);

/* Ends a span that is open. why: of a failure; may be NULL. */
void timeline_end(struct timeline *t, unsigned id, enum span_end end, const char *why);

/* The same for what ended earlier: ended_ns is of CLOCK_MONOTONIC. */
void timeline_end_at(
	struct timeline *t, unsigned id, enum span_end end, const char *why, uint64_t ended_ns);

#endif
