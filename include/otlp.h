/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_OTLP_H
#define STAGERUN_OTLP_H

#include "text.h"
#include "trace_context.h"
#include <stdbool.h>
#include <stdint.h>

/* Spans for an OpenTelemetry collector: OTLP/HTTP in its JSON encoding (opentelemetry-proto,
 * docs/specification.md), configured by OpenTelemetry's own variables (opentelemetry-specification,
 * protocol/exporter.md and configuration/sdk-environment-variables.md). */

struct timeline;

struct otlp_options {
	/* An endpoint is named, or OTEL_TRACES_EXPORTER asks for otlp, and nothing disables it. */
	bool enabled;
	char *why_not; /* there is a collector, but not one that we can speak to; or NULL */
	char *url;     /* of the traces */
	struct strings headers; /* "Name: value"; their values are hidden from now on (redact.h) */
	bool gzip;
	uint64_t timeout_ms; /* the user's; 10 s by default */
	char *certificate;   /* PEM; NULL: as for all requests */
	/* Attributes of the resource: "key=value", each key once; service.name first. */
	struct strings resource;
};

/* env: NULL-terminated. Strings of ret are owned by the caller: otlp_options_done(). Before other
 * threads start. */
void otlp_from_environment(char *const *env, struct otlp_options *ret);
void otlp_options_done(struct otlp_options *o); /* accepts a zeroed one */

/* Which spans of a timeline a request has. */
struct otlp_part {
	uint64_t after_ns; /* spans that ended after it (CLOCK_MONOTONIC) */
	uint64_t until_ns; /* and not after this */
	/* Also the spans that are open, which are said to end at until_ns; but not a command, which
	 * lives on without us. */
	bool open, run; /* run: also the span of the run */
};

/* Appends the body of an ExportTraceServiceRequest. Returns the number of its spans. Any thread. */
size_t otlp_encode(struct timeline *t, const struct otlp_options *o, const struct trace_context *c,
	const struct otlp_part *part, struct text *ret);

#endif
