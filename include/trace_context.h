/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TRACE_CONTEXT_H
#define STAGERUN_TRACE_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

/* The place of a run in a distributed trace (W3C Trace Context, level 1; in environment variables
 * as OpenTelemetry's "Environment Variables as Context Propagation Carriers" says). The spans of a
 * timeline get their ids here: from the id of the span and a random number, so that they need no
 * memory. Any thread, after trace_context_begin(). */

enum { TRACE_ID_SIZE = 33, TRACE_SPAN_SIZE = 17, TRACE_PARENT_SIZE = 56 };

struct trace_context {
	char trace[TRACE_ID_SIZE];    /* 32 lower-case hexadecimal digits */
	char parent[TRACE_SPAN_SIZE]; /* 16 digits: the span that started this run; "": none */
	unsigned flags;               /* the lowest bit: the trace is sampled */
	const char *state;            /* TRACESTATE, passed on as it is; borrowed; NULL: none */
	uint64_t seed;
};

/* From TRACEPARENT and TRACESTATE of env; or a new, sampled trace if there is none, or none that is
 * valid. env is NULL-terminated, and borrowed. */
void trace_context_begin(struct trace_context *c, char *const *env);
bool trace_context_is_sampled(const struct trace_context *c);

/* The TRACEPARENT for what is started on behalf of a span of the timeline. Returns buf. */
const char *trace_context_child(
	const struct trace_context *c, unsigned id, char buf[static TRACE_PARENT_SIZE]);

#endif
