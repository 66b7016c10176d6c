/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_COMMAND_TELEMETRY_H
#define STAGERUN_COMMAND_TELEMETRY_H

#include "otlp.h"
#include "report.h"
#include "text.h"
#include "timeline.h"
#include <pthread.h>
#include <stdbool.h>

/* What a run leaves about itself: its timeline, the reports that are made from it, and the spans
 * that go to an OpenTelemetry collector. Loop thread, except where noted. There is a timeline only
 * if a report or a collector wants it; without one, the functions do nothing.
 *
 *   telemetry.c       the run's own spans, and the reports
 *   telemetry_send.c  spans to a collector, before the command and at the end */

struct agent;
struct plan;

struct telemetry {
	/* Set by telemetry_open(). */
	struct timeline *timeline; /* NULL: nobody wants one */
	struct strings reports;    /* paths */
	struct otlp_options collector;
	struct trace_context trace; /* valid if collector.enabled */
	unsigned run;               /* its span */
	uint64_t begin_ns;          /* CLOCK_MONOTONIC */

	unsigned command; /* its span, once it was begun */
	uint64_t sent_ns; /* what ended up to then was sent */
	bool sent_run;    /* the run's span was sent */
	bool ended;       /* the last reports were written */

	/* How it ended: of the last telemetry_note_end(). */
	enum span_end end;
	int exit_code, signal;
	char *why; /* NULL: it succeeded */

	/* Any thread, under mutex. */
	pthread_mutex_t mutex;
	struct text warnings; /* a line each */
};

/* reports: those of --report; if there are none, those of $STAGERUN_REPORT. Before other threads
 * start. Returns -ERR_USAGE for a report of no known format. Call telemetry_close() also after a
 * failure. */
int telemetry_open(struct telemetry *t, const struct strings *reports, struct error *err);
void telemetry_close(struct telemetry *t); /* accepts a zeroed one */

/* The plan is made: records the command, and lets everything in its environment find the trace. */
void telemetry_note_plan(struct telemetry *t, struct plan *p);

/* After agent_open(): what the agent does is recorded. */
void telemetry_record(struct telemetry *t, struct agent *a);

/* The start is done, and the command comes next: as a child, or in place of this process, before
 * which the reports are written. */
void telemetry_begin_command(struct telemetry *t, struct plan *p, bool as_child);

/* How the run ended; the last call counts. Before hooks of the end. */
void telemetry_note_end(struct telemetry *t, const struct termination *end);
/* A command that was a child ended, or was not started, as telemetry_note_end() said. */
void telemetry_end_command(struct telemetry *t);
/* Ends the run's span and writes the reports, once. */
void telemetry_end(struct telemetry *t);

/* --- telemetry_send.c --- */

/* Sends what has ended since the last time to the collector, as a step of the agent, within
 * otlp_timeout. last: also what has not ended, and the run itself. A failure is logged as
 * debugging. */
void telemetry_send(struct telemetry *t, struct agent *a, bool last);

#endif
