/* SPDX-License-Identifier: MIT */
#include "../../agent/report/report_private.h"
#include "defer.h"
#include "otlp.h"
#include "progress.h"
#include "redact.h"
#include "test.h"
#include "timeline_fixture.h"
#include <jansson.h>
#include <string.h>

#define ENDPOINT "OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318"
#define TRACE    "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT   "00f067aa0ba902b7"

static struct otlp_options read_environment(char *const *env)
{
	struct otlp_options o;

	otlp_from_environment(env, &o);
	return o;
}

static void check_url(const char *variable, const char *expected)
{
	struct otlp_options o = read_environment((char *[]){(char *)variable, NULL});

	assert_true(o.enabled);
	assert_string_equal(expected, o.url);
	otlp_options_done(&o);
}

TEST(otlp_sends_to_the_endpoint_that_the_variables_name)
{
	check_url(ENDPOINT, "http://collector:4318/v1/traces");
	check_url("OTEL_EXPORTER_OTLP_ENDPOINT=https://h/x/", "https://h/x/v1/traces");
	check_url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://h:1", "http://h:1/");
	check_url("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://h/own", "http://h/own");
	check_url("OTEL_TRACES_EXPORTER=console,otlp", "http://localhost:4318/v1/traces");
}

static void check_disabled(char *variable)
{
	struct otlp_options o = read_environment((char *[]){ENDPOINT, variable, NULL});

	assert_false(o.enabled);
	otlp_options_done(&o);
}

TEST(otlp_sends_nothing_unless_it_is_asked_for)
{
	struct otlp_options o = read_environment((char *[]){"OTEL_SERVICE_NAME=x", NULL});

	assert_false(o.enabled);
	otlp_options_done(&o);
	check_disabled("OTEL_SDK_DISABLED=TRUE");
	check_disabled("OTEL_TRACES_EXPORTER=none");
	check_disabled("OTEL_EXPORTER_OTLP_PROTOCOL=grpc");
	check_disabled("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=collector:4317");
}

TEST(otlp_reads_headers_and_hides_their_values)
{
	struct otlp_options o = read_environment((char *[]){ENDPOINT,
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20quince-otlp, x-team = a%2Cb ,bad,evil=a%0d%0ab,c:d=e",
		"OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_EXPORTER_OTLP_TIMEOUT=250",
		"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT=", "OTEL_EXPORTER_OTLP_CERTIFICATE=/ca.pem",
		NULL});
	_free_ char *hidden = redact("Bearer quince-otlp", 18, NULL);

	assert_int_equal(2, o.headers.n);
	assert_string_equal("authorization: Bearer quince-otlp", o.headers.v[0]);
	assert_string_equal("x-team: a,b", o.headers.v[1]);
	assert_string_equal("***", hidden);
	assert_true(o.gzip);
	assert_int_equal(250, o.timeout_ms);
	assert_string_equal("/ca.pem", o.certificate);
	otlp_options_done(&o);
}

static void check_resource(char *const *env, const char *first, size_t n)
{
	struct otlp_options o = read_environment(env);

	assert_string_equal(first, o.resource.v[0]);
	assert_int_equal(n, o.resource.n);
	otlp_options_done(&o);
}

TEST(otlp_names_the_service)
{
	char attributes[] = "OTEL_RESOURCE_ATTRIBUTES=k8s.pod.name=p%2d1,service.name=own";

	check_resource((char *[]){ENDPOINT, NULL}, "service.name=stagerun", 1);
	check_resource((char *[]){ENDPOINT, attributes, NULL}, "service.name=own", 2);
	check_resource((char *[]){ENDPOINT, attributes, "OTEL_SERVICE_NAME=train", NULL},
		"service.name=train", 2);
}

static void check_no_parent(const char *value)
{
	_free_ char *variable = text_format("TRACEPARENT=%s", value);
	struct trace_context c;

	trace_context_begin(&c, (char *[]){variable, "TRACESTATE=a=b", NULL});
	assert_string_equal("", c.parent);
	assert_int_equal(32, strspn(c.trace, "0123456789abcdef"));
	assert_true(trace_context_is_sampled(&c));
	assert_null(c.state);
}

TEST(trace_context_is_read_and_passed_on)
{
	struct trace_context c;
	char span[TRACE_SPAN_SIZE], other[TRACE_SPAN_SIZE], child[TRACE_PARENT_SIZE];
	_free_ char *expected = NULL;

	trace_context_begin(
		&c, (char *[]){"TRACEPARENT=00-" TRACE "-" PARENT "-00", "TRACESTATE=a=b", NULL});
	assert_string_equal(TRACE, c.trace);
	assert_string_equal(PARENT, c.parent);
	assert_string_equal("a=b", c.state);
	assert_false(trace_context_is_sampled(&c));
	assert_string_not_equal(trace_context_span(&c, 1, span), trace_context_span(&c, 2, other));
	expected = text_format("00-" TRACE "-%s-00", span);
	assert_string_equal(expected, trace_context_child(&c, 1, child));
}

TEST(trace_context_that_is_not_valid_is_replaced)
{
	check_no_parent("");
	check_no_parent("00-" TRACE "-" PARENT);
	check_no_parent("ff-" TRACE "-" PARENT "-01");
	check_no_parent("00-" TRACE "-" PARENT "-01-more");
	check_no_parent("00-00000000000000000000000000000000-" PARENT "-01");
	check_no_parent("00-" TRACE "-0000000000000000-01");
	check_no_parent("00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01");
}

static json_t *encode(const struct otlp_part *part, size_t expected)
{
	struct timeline *t = timeline_of_cold_start();
	struct otlp_options o = read_environment((char *[]){ENDPOINT, NULL});
	struct trace_context c;
	struct text body = {0};
	json_t *parsed;

	trace_context_begin(&c, (char *[]){"TRACEPARENT=00-" TRACE "-" PARENT "-01", NULL});
	assert_int_equal(expected, otlp_encode(t, &o, &c, part, &body));
	parsed = json_loads(body.s, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(parsed);
	text_done(&body);
	otlp_options_done(&o);
	timeline_free(t);
	return parsed;
}

static json_t *spans_of(const json_t *request)
{
	const json_t *resource = json_array_get(json_object_get(request, "resourceSpans"), 0);
	const json_t *scope = json_array_get(json_object_get(resource, "scopeSpans"), 0);

	return json_object_get(scope, "spans");
}

TEST(otlp_encodes_what_ended_and_the_run_once)
{
	uint64_t now = now_ns();
	json_t *all = encode(&(struct otlp_part){.until_ns = now, .open = true, .run = true}, 220);
	json_t *ended = encode(&(struct otlp_part){.until_ns = now}, 219);
	json_t *none = encode(&(struct otlp_part){.after_ns = now, .until_ns = now + 1}, 0);
	const json_t *run = json_array_get(spans_of(all), 0);

	assert_string_equal("stagerun", json_string_value(json_object_get(run, "name")));
	assert_string_equal(PARENT, json_string_value(json_object_get(run, "parentSpanId")));
	assert_true(json_is_string(json_object_get(run, "startTimeUnixNano")));
	assert_true(json_is_integer(json_object_get(run, "kind")));
	json_decref(all);
	json_decref(ended);
	json_decref(none);
}
