/* SPDX-License-Identifier: MIT */
/* Encodes spans as OTLP/JSON: names in lowerCamelCase, ids in hexadecimal, enums as numbers, 64-bit
 * integers as strings. Any thread. */
#include "otlp.h"
#include "defer.h"
#include "report_private.h"
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* opentelemetry/proto/trace/v1/trace.proto */
enum { SPAN_KIND_INTERNAL = 1, SPAN_KIND_CLIENT = 3, STATUS_CODE_ERROR = 2 };

/* Facts for which OpenTelemetry has a name; the others get the prefix "stagerun.". */
static const struct {
	const char *key, *name;
} semantic_names[] = {
	{"url", "url.full"},
	{"sha256", "artifact.hash"},
	{"etag", "artifact.version"},
	{"status", "http.response.status_code"},
	{"exit_code", "process.exit.code"},
	{"pid", "process.pid"},
	{"command", "process.command_line"},
};

static json_t *new_attribute(const char *key, const char *type, json_t *value)
{
	json_t *attribute = json_object(), *typed = json_object();

	json_object_set_new(typed, type, value);
	report_value_set_text(attribute, "key", key);
	json_object_set_new(attribute, "value", typed);
	return attribute;
}

static json_t *number_string(uint64_t n)
{
	_free_ char *digits = text_format("%" PRIu64, n);

	return json_string(digits);
}

static void add_text(json_t *attributes, const char *key, const char *s)
{
	if (s != NULL)
		json_array_append_new(
			attributes, new_attribute(key, "stringValue", report_value_text(s)));
}

static void add_number(json_t *attributes, const char *key, uint64_t n)
{
	uint64_t most = n > INT64_MAX ? INT64_MAX : n;

	json_array_append_new(attributes, new_attribute(key, "intValue", number_string(most)));
}

static void add_fact(json_t *attributes, const struct span_fact *f)
{
	_free_ char *own = text_format("stagerun.%s", f->key);
	const char *key = own;

	for (size_t i = 0; i < ARRAY_LEN(semantic_names); i++)
		if (strcmp(semantic_names[i].key, f->key) == 0)
			key = semantic_names[i].name;
	if (f->text != NULL)
		add_text(attributes, key, f->text);
	else
		add_number(attributes, key, f->number);
}

static json_t *span_attributes(const struct span *s)
{
	json_t *attributes = json_array();

	add_text(attributes, "stagerun.name", s->name);
	if (s->kind == SPAN_RUN) {
		add_text(attributes, "process.executable.name", "stagerun");
		add_number(attributes, "process.pid", (uint64_t)getpid());
	}
	if (s->kind == SPAN_SOURCE)
		add_text(attributes, "artifact.filename", s->name);
	for (size_t i = 0; i < s->n_facts; i++)
		add_fact(attributes, &s->facts[i]);
	if (s->end == SPAN_FAILED || s->end == SPAN_CANCELLED)
		add_text(attributes, "error.type", timeline_end_name(s->end));
	return attributes;
}

static json_t *span_status(const struct span *s)
{
	json_t *status = json_object();

	if (s->end != SPAN_FAILED && s->end != SPAN_CANCELLED)
		return status;
	json_object_set_new(status, "code", json_integer(STATUS_CODE_ERROR));
	report_value_set_text(
		status, "message", s->why != NULL ? s->why : timeline_end_name(s->end));
	return status;
}

struct encoding {
	const struct timeline *timeline;
	const struct trace_context *trace;
	const struct otlp_part *part;
	json_t *spans;
};

static bool is_in_part(const struct otlp_part *part, const struct span *s)
{
	if (s->kind == SPAN_RUN)
		return part->run;
	if (s->end == SPAN_OPEN)
		return part->open && s->kind != SPAN_COMMAND;
	return s->ended_ns > part->after_ns && s->ended_ns <= part->until_ns;
}

static void set_ids(const struct encoding *e, json_t *span, unsigned id, const struct span *s)
{
	char buf[TRACE_SPAN_SIZE];

	json_object_set_new(span, "traceId", json_string(e->trace->trace));
	json_object_set_new(span, "spanId", json_string(trace_context_span(e->trace, id, buf)));
	if (s->parent != 0)
		json_object_set_new(span, "parentSpanId",
			json_string(trace_context_span(e->trace, s->parent, buf)));
	else if (e->trace->parent[0] != '\0')
		json_object_set_new(span, "parentSpanId", json_string(e->trace->parent));
	report_value_set_text(span, "traceState", e->trace->state);
}

static void encode_span(void *ctx, unsigned id, const struct span *s)
{
	struct encoding *e = ctx;
	uint64_t end = s->end == SPAN_OPEN ? e->part->until_ns : s->ended_ns;
	json_t *span;

	if (!is_in_part(e->part, s))
		return;
	span = json_object();
	end = end < s->begin_ns ? s->begin_ns : end;
	set_ids(e, span, id, s);
	json_object_set_new(span, "name",
		json_string(s->kind == SPAN_RUN ? "stagerun" : timeline_kind_name(s->kind)));
	json_object_set_new(span, "kind",
		json_integer(s->kind == SPAN_RANGE ? SPAN_KIND_CLIENT : SPAN_KIND_INTERNAL));
	json_object_set_new(span, "startTimeUnixNano",
		number_string(timeline_unix_ns(e->timeline, s->begin_ns)));
	json_object_set_new(
		span, "endTimeUnixNano", number_string(timeline_unix_ns(e->timeline, end)));
	json_object_set_new(span, "attributes", span_attributes(s));
	json_object_set_new(span, "status", span_status(s));
	json_array_append_new(e->spans, span);
}

static json_t *encode_resource(const struct otlp_options *o)
{
	json_t *attributes = json_array(), *resource = json_object();

	for (size_t i = 0; i < o->resource.n; i++) {
		const char *pair = o->resource.v[i];
		size_t len = strcspn(pair, "=");
		_free_ char *key = text_format("%.*s", (int)len, pair);

		add_text(attributes, key, pair + len + 1);
	}
	json_object_set_new(resource, "attributes", attributes);
	return resource;
}

static json_t *one_of(json_t *value)
{
	json_t *array = json_array();

	json_array_append_new(array, value);
	return array;
}

static json_t *encode_scope(void)
{
	json_t *scope = json_object();

	json_object_set_new(scope, "name", json_string("stagerun"));
	json_object_set_new(scope, "version", json_string(STAGERUN_VERSION));
	return scope;
}

size_t otlp_encode(struct timeline *t, const struct otlp_options *o, const struct trace_context *c,
	const struct otlp_part *part, struct text *ret)
{
	struct encoding e = {.timeline = t, .trace = c, .part = part, .spans = json_array()};
	json_t *request = json_object(), *resource = json_object(), *scope = json_object();
	size_t n;
	char *printed;

	timeline_each(t, encode_span, &e);
	n = json_array_size(e.spans);
	json_object_set_new(scope, "scope", encode_scope());
	json_object_set_new(scope, "spans", e.spans);
	json_object_set_new(resource, "resource", encode_resource(o));
	json_object_set_new(resource, "scopeSpans", one_of(scope));
	json_object_set_new(request, "resourceSpans", one_of(resource));
	printed = json_dumps(request, JSON_COMPACT);
	text_add(ret, printed != NULL ? printed : "");
	free(printed);
	json_decref(request);
	return n;
}
