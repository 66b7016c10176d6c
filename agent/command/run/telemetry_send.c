/* SPDX-License-Identifier: MIT */
/* Sends spans to an OpenTelemetry collector, in a thread of its own, and gives up when otlp_timeout
 * is over: a run is more important than its trace. */
#include "../agent.h"
#include "call.h"
#include "defer.h"
#include "log.h"
#include "progress.h"
#include "random.h"
#include "telemetry.h"
#include "url.h"
#include <string.h>
#include <unistd.h>
#include <zlib.h>

enum { RETRY_BASE_MS = 50, RETRY_MAX_MS = 1000, POLL_MS = 10, GZIP = 15 + 16 };

#define USER_AGENT "User-Agent: OTel-OTLP-Exporter-stagerun/" STAGERUN_VERSION

/* Of the work's thread, while the loop thread waits for it. */
struct sending {
	struct telemetry *telemetry;
	struct transfer_options network;
	struct otlp_part part;
	uint64_t deadline_ns;
	struct text body;
	struct strings headers;
};

static int compress_body(struct text *body, struct error *err)
{
	z_stream z = {0};
	_free_ Bytef *out = NULL;
	uLong most;
	int result;

	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP, 8, Z_DEFAULT_STRATEGY) !=
		Z_OK)
		return error_set(err, -ENOMEM, "cannot compress: out of memory");
	most = deflateBound(&z, body->len);
	out = zalloc(most);
	z.next_in = (Bytef *)body->s;
	z.avail_in = (uInt)body->len;
	z.next_out = out;
	z.avail_out = (uInt)most;
	result = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	if (result != Z_STREAM_END)
		return error_set(err, -EIO, "cannot compress the spans");
	text_done(body);
	text_add_bytes(body, out, z.total_out);
	return 0;
}

static uint64_t left_ms(const struct sending *s)
{
	uint64_t now = now_ns();

	return now < s->deadline_ns ? (s->deadline_ns - now) / 1000000 : 0;
}

/* As the specification of OTLP/HTTP lists them. */
static bool is_retryable(long status)
{
	return status == 429 || status == 502 || status == 503 || status == 504;
}

/* Seconds; a date is not used, as nothing is waited for that long. 0: the server does not say. */
static uint64_t retry_after_ms(const struct reply *r)
{
	const char *value = call_reply_header(r, "retry-after");
	uint64_t seconds = 0;

	return value != NULL && units_parse_uint(value, 3600, &seconds, NULL) == 0 ? seconds * 1000
										   : 0;
}

/* Returns false if the time would be over, or the work is cancelled. */
static bool pause_for(const struct sending *s, struct cancel *cancel, uint64_t ms)
{
	uint64_t until_ns = now_ns() + ms * 1000000;

	if (ms >= left_ms(s))
		return false;
	while (now_ns() < until_ns && !cancel_requested(cancel))
		usleep(POLL_MS * 1000);
	return !cancel_requested(cancel);
}

/* One attempt. *ret_after_ms: how long the server wants to be left alone. Returns 1 if another one
 * may help. A collector that is not there will probably not come within otlp_timeout, by which each
 * start would be later. */
static int post_once(
	const struct sending *s, struct caller *caller, uint64_t *ret_after_ms, struct error *err)
{
	const struct call what = {.method = "POST",
		.url = s->telemetry->collector.url,
		.headers = (const char *const *)s->headers.v,
		.body = s->body.s,
		.body_len = s->body.len,
		.timeout_ms = left_ms(s) + 1};
	_free_ char *shown = NULL;
	struct reply reply = {0};
	int code = call(caller, &what, &reply, err);
	long status = reply.status;

	*ret_after_ms = 0;
	if (code < 0)
		return call_is_transient(code) && !call_found_nobody(caller) ? 1 : code;
	*ret_after_ms = retry_after_ms(&reply);
	call_reply_done(&reply);
	if (status >= 200 && status < 300)
		return 0;
	shown = url_display(what.url);
	error_set(err, -ERR_HTTP, "%s: the collector answered %ld", shown, status);
	return is_retryable(status) ? 1 : -ERR_HTTP;
}

static int post(
	const struct sending *s, struct caller *caller, struct cancel *cancel, struct error *err)
{
	uint64_t after_ms = 0;
	int code = 1;

	for (unsigned failed = 1; code == 1; failed++) {
		code = post_once(s, caller, &after_ms, err);
		if (code == 1 && after_ms == 0)
			after_ms = random_backoff_ms(RETRY_BASE_MS, RETRY_MAX_MS, failed);
		if (code == 1 && !pause_for(s, cancel, after_ms))
			return err->code < 0 ? err->code : -ETIMEDOUT;
	}
	return code;
}

static void make_headers(struct sending *s)
{
	const struct otlp_options *o = &s->telemetry->collector;

	text_strings_add(&s->headers, "Content-Type: application/json");
	text_strings_add(&s->headers, USER_AGENT);
	if (o->gzip)
		text_strings_add(&s->headers, "Content-Encoding: gzip");
	for (size_t i = 0; i < o->headers.n; i++)
		text_strings_add(&s->headers, o->headers.v[i]);
}

static int send_spans(void *ctx, struct cancel *cancel, struct error *err)
{
	struct sending *s = ctx;
	const struct telemetry *t = s->telemetry;
	struct caller *caller = NULL;
	int code = 0;

	if (otlp_encode(t->timeline, &t->collector, &t->trace, &s->part, &s->body) == 0)
		return 0;
	make_headers(s);
	if (t->collector.gzip)
		code = compress_body(&s->body, err);
	if (code == 0)
		code = call_caller_new(&s->network, cancel, &caller, err);
	if (code == 0)
		code = post(s, caller, cancel, err);
	call_caller_free(caller);
	return code;
}

/* Neither the user's limits of rates nor his patience apply. */
static void set_network(struct sending *s, const struct agent *a, uint64_t timeout_ms)
{
	s->network = a->resources.network;
	s->network.throttle = NULL;
	s->network.patience = NULL;
	s->network.headers = NULL;
	s->network.netrc_file = NULL;
	s->network.connect_timeout_ms = timeout_ms;
	if (s->telemetry->collector.certificate != NULL)
		s->network.ca_file = s->telemetry->collector.certificate;
}

static void free_sending(struct sending *s)
{
	text_done(&s->body);
	text_strings_done(&s->headers);
	free(s);
}

/* If the thread could not be stopped, it still uses s. */
static void send_within(struct telemetry *t, struct agent *a, const struct otlp_part *part)
{
	uint64_t timeout_ms = a->settings->otlp_timeout_ms;
	struct sending *s = zalloc(sizeof(*s));
	struct error err = {0};

	if (t->collector.timeout_ms < timeout_ms)
		timeout_ms = t->collector.timeout_ms;
	s->telemetry = t;
	s->part = *part;
	s->deadline_ns = now_ns() + timeout_ms * 1000000;
	set_network(s, a, timeout_ms);
	if (agent_work(a, send_spans, s, NULL, &err) < 0)
		log_debug("the trace of the run was not sent: %s", err.msg);
	if (!a->abandoned)
		free_sending(s);
}

void telemetry_send(struct telemetry *t, struct agent *a, bool last)
{
	struct otlp_part part = {.after_ns = t->sent_ns,
		.until_ns = now_ns(),
		.open = last,
		.run = last && !t->sent_run};

	if (t->collector.why_not != NULL && last)
		log_debug("the trace of the run is not sent: %s", t->collector.why_not);
	if (t->timeline == NULL || !t->collector.enabled || !trace_context_is_sampled(&t->trace))
		return;
	if (last && t->end != SPAN_OPEN)
		timeline_end(t->timeline, t->run, t->end, t->why);
	t->sent_ns = part.until_ns;
	t->sent_run |= part.run;
	send_within(t, a, &part);
}
