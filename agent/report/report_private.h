/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REPORT_PRIVATE_H
#define STAGERUN_REPORT_PRIVATE_H

#include "progress.h"
#include "report.h"
#include "run_report.h"
#include "text.h"
#include "timeline.h"
#include "trace_context.h"
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the agent shows of its work.
 *
 * While data is staged (report.h):
 *   monitor.c         watches the sources, and chooses a display, lines, or nothing
 *   meter.c           the rate of one source, what it waits for, and the sums of all
 *   display.c         the live display on a terminal
 *   progress_lines.c  progress as log lines
 *   summary.c         the line about a source that is done
 *   termination.c     the termination message
 *
 * Of a whole run (timeline.h, run_report.h, otlp.h, trace_context.h):
 *   timeline.c        what was done, from when to when
 *   view.c            a copy of it, and what took most of the time
 *   advice.c          what would help (advice.h)
 *   report_write.c    writes a report to a file
 *   report_json.c     for programs
 *   report_trace.c    for trace viewers
 *   report_values.c   values of JSON
 *   html_page.c       for people: the page, and how its text is escaped
 *   html_style.c      its style sheet
 *   html_waterfall.c  the start, span by span, along one axis of time
 *   html_tables.c     sources, waits for others, steps, warnings, versions
 *   otlp*.c           spans for a collector
 *   trace_context.c   the ids of spans
 *
 * What a run is doing, as a file (run_status.h):
 *   status*.c */

/* --- meter.c --- */

/* How fast one source is, and what it waits for: averages over some five seconds. Loop thread. */
struct meter {
	struct progress *progress; /* borrowed */
	char *name;                /* valid UTF-8 without control characters */

	uint64_t active_ns; /* when it was first seen active; 0: not yet */
	uint64_t grown_ns;  /* when its bytes were last seen to grow */

	/* As of the last sample. */
	uint64_t sampled_ns, received, network_ns, decode_ns, disk_ns;
	double bytes_per_second;
	double network, decode, disk; /* shares of the time that it waited, 0 to 1 */

	/* What was logged; for progress_lines.c. */
	bool start_logged, stall_logged;
	unsigned notes_logged;
	uint64_t note_logged_ns; /* when the last one was; 0: none */
};

void meter_init(struct meter *m, struct progress *p);
void meter_done(struct meter *m);

/* Updates the averages with what happened since the last sample. at_ns: now_ns(). */
void meter_sample(struct meter *m, uint64_t at_ns);

enum bottleneck meter_waits_for(const struct meter *m);

/* Seconds that the rest will take at this rate; negative: not known. */
double meter_seconds_left(const struct meter *m);

/* All sources together. */
struct meter_total {
	size_t queued, active, done;
	uint64_t received;
	uint64_t total; /* 0: not known of every source */
	double bytes_per_second;
	double seconds_left;         /* negative: not known */
	const struct meter *slowest; /* the active one that will take longest; NULL: none */
};

void meter_add_up(const struct meter *meters, size_t n, struct meter_total *ret);

/* Texts for people. "41%": percent of done in total, or "" where total is 0. "6.6 of 16.0 GB", or
 * "6.6 GB". "18 s left", or "". All heap. */
char *meter_print_percent(uint64_t done, uint64_t total);
char *meter_print_amount(uint64_t done, uint64_t total);
char *meter_print_left(double seconds);
char *meter_print_rate(double bytes_per_second);

/* --- display.c --- */

/* The live display on a terminal. Loop thread. Log lines of any thread are written above it. At
 * most one exists at a time. */

struct display;

/* Whether fd is a terminal on which the cursor may be moved: TERM is set and not "dumb", NO_COLOR
 * is not set or is empty. */
bool display_is_possible(int fd);

struct display *display_new(int fd);
void display_draw(struct display *d, const struct meter *meters, size_t n);
void display_close(struct display *d); /* erases it; accepts NULL */

/* --- progress_lines.c --- */

/* Progress as log lines. as_json: they are JSON objects also where the log is text. Loop thread. */

/* Logs that the source has started, as soon as its size is known, but at the latest after a
 * second. */
void progress_lines_start(struct meter *m, uint64_t at_ns, bool as_json);

/* Logs an incident of the source, such as a failed attempt, and when no bytes arrive any more. */
void progress_lines_incidents(struct meter *m, uint64_t at_ns, bool as_json);

/* Logs one line about all that are active. */
void progress_lines_heartbeat(const struct meter *meters, size_t n, bool as_json);

/* --- timeline.c: reading --- */

/* A fact about a span. key: a word in snake_case with its unit at the end, such as "received_bytes"
 * or "network_ns"; a literal. */
struct span_fact {
	const char *key;
	char *text; /* without secrets, any bytes; NULL: it is a number */
	uint64_t number;
};

struct span {
	unsigned parent; /* 0: none */
	enum span_kind kind;
	enum span_end end;
	char *name;                  /* without secrets, any bytes */
	uint64_t begin_ns, ended_ns; /* CLOCK_MONOTONIC; ended_ns is 0 while it is open */
	char *why;                   /* message of a failure, without secrets; or NULL */
	struct span_fact *facts;     /* each key once */
	size_t n_facts;
};

/* Calls fn for each span in the order of their beginnings; the span is valid during the call, in
 * which fn must not call functions of the timeline. */
void timeline_each(
	struct timeline *t, void (*fn)(void *ctx, unsigned id, const struct span *s), void *ctx);

/* How many spans were not recorded, because there were too many. */
uint64_t timeline_dropped(struct timeline *t);

/* Nanoseconds since 1970 of a time of CLOCK_MONOTONIC, by the clocks as they were at
 * timeline_new(): differences of times stay exact also if the clock of the machine is set. May be
 * called by the function that timeline_each() calls. */
uint64_t timeline_unix_ns(const struct timeline *t, uint64_t monotonic_ns);

const char *timeline_kind_name(enum span_kind k);
const char *timeline_end_name(enum span_end e);

/* The value of a fact; NULL, or 0, if the span has none of this key. */
const char *timeline_text(const struct span *s, const char *key);
uint64_t timeline_number(const struct span *s, const char *key);

/* --- trace_context.c --- */

/* The id of a span of the timeline. Returns buf. */
const char *trace_context_span(
	const struct trace_context *c, unsigned id, char buf[static TRACE_SPAN_SIZE]);

/* --- view.c --- */

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

/* --- report_json.c, report_trace.c, html_page.c --- */

/* The documents. Append to ret. */
void report_json(struct timeline *t, struct text *ret);
void report_trace(struct timeline *t, struct text *ret);
void report_html(struct timeline *t, struct text *ret);

/* --- report_values.c --- */

/* Members of JSON objects from names of any bytes and from unsigned numbers. Any thread. */

/* A string of valid UTF-8; other bytes and control characters become \xNN. */
json_t *report_value_text(const char *s);
/* An integer; what JSON readers cannot hold becomes the largest they can. */
json_t *report_value_number(uint64_t n);
json_t *report_value_seconds(uint64_t ns);

/* NULL adds nothing. */
void report_value_set_text(json_t *object, const char *key, const char *s);
void report_value_set_number(json_t *object, const char *key, uint64_t n);
void report_value_set_seconds(json_t *object, const char *key, uint64_t ns);

/* --- html_*.c --- */

/* The parts of the page for people. Whatever comes from outside goes through html_add() or
 * html_add_name(). Loop thread. */

/* Appends s with everything that HTML or a terminal could understand escaped. */
void html_add(struct text *t, const char *s);
/* The same for a name, whose direction of writing must not reorder what is around it. */
void html_add_name(struct text *t, const char *s);
void html_add_duration(struct text *t, uint64_t ns);

/* What the source waited for most; CAUSE_UNPACK if nothing took a tenth of its time. */
enum view_cause html_source_cause(const struct view *v, const struct span *source);
/* A part of a bar of shares; nothing for what is not a hundredth of whole_ns. */
void html_add_share(struct text *t, enum view_cause c, uint64_t ns, uint64_t whole_ns);

extern const char html_style[];

void html_add_waterfall(struct text *t, const struct view *v);
void html_add_sources(struct text *t, const struct view *v);
void html_add_lock_waits(struct text *t, const struct view *v);
void html_add_steps(struct text *t, const struct view *v);
void html_add_warnings(struct text *t, const struct view *v);
void html_add_versions(struct text *t, const struct view *v);

#endif
