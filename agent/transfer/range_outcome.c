/* SPDX-License-Identifier: MIT */
/* What follows from the end of a request: the range is complete, continues from the byte where it
 * broke, follows a redirect, or fails its object. Loop thread, never inside a curl callback; the
 * range_retry_ functions run on any thread. Responses are classified in answer.c. */
#include "defer.h"
#include "engine.h"
#include "error.h"
#include "log.h"
#include "random.h"
#include "text.h"
#include "url.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum verdict range_retry_classify_curl(
	CURLcode result, const char *said, const struct answer_wanted *wanted, struct error *err)
{
	const char *advice = answer_permanent_advice(result, said);
	_free_ char *sentence = answer_curl_sentence(result, said);

	error_set(err, -ERR_HTTP, "%s: %s%s", wanted->name, sentence, advice != NULL ? advice : "");
	return advice != NULL ? VERDICT_FAIL : VERDICT_RETRY;
}

uint64_t range_retry_delay_ms(
	const struct transfer_options *opts, unsigned failures, uint64_t retry_after_ms)
{
	uint64_t jitter = random_backoff_ms(opts->retry_base_ms, opts->retry_max_ms, failures);

	return retry_after_ms > jitter ? retry_after_ms : jitter;
}

/* The outcome of a request. */

enum { REDIRECTS_MAX = 10 };

#define PROGRESS_BYTES ((uint64_t)8 * 1024) /* an attempt that brings fewer made no progress */

static void record_timing(struct range *r)
{
	curl_off_t sent = 0, first = 0, total = 0;
	struct pace *pace = &r->object->pace;

	curl_easy_getinfo(r->easy, CURLINFO_PRETRANSFER_TIME_T, &sent);
	curl_easy_getinfo(r->easy, CURLINFO_STARTTRANSFER_TIME_T, &first);
	curl_easy_getinfo(r->easy, CURLINFO_TOTAL_TIME_T, &total);
	if (first < sent || total < first)
		return;
	pace_latency(pace, (uint64_t)first);
	pace_range_done(pace, (uint64_t)(first - sent), (uint64_t)(total - sent));
}

static void complete_range(struct range *r)
{
	struct http_object *o = r->object;

	range_enter(r, RANGE_COMPLETE);
	range_unreserve(r, 0);
	if (r->read != NULL) {
		object_read_done(r);
		return;
	}
	if (!o->whole)
		return;
	pthread_mutex_lock(&o->lock);
	r->end = o->size = r->at;
	pthread_mutex_unlock(&o->lock);
	engine_wake_worker(o);
}

static void detach_all(struct range *r)
{
	for (; r != NULL; r = r->next) {
		range_detach(r);
		/* its object has failed, so it is never started again */
		if (r->state != RANGE_COMPLETE)
			range_enter(r, RANGE_WAITING);
	}
}

/* The failure of one range is the failure of its object. */
static void fail_object(struct range *r)
{
	struct http_object *o = r->object;

	if (r->why.code == -ERR_CHANGED)
		object_changed(o, &r->answer);
	object_fail(o, r->why.code, &r->why);
	detach_all(o->ranges);
	detach_all(o->reads);
}

static void fail_with(struct range *r, const char *sentence)
{
	error_set(&r->why, -ERR_HTTP, "%s: %s", r->object->name, sentence);
	fail_object(r);
}

static bool is_downgrade(const char *from, const char *to)
{
	return strncasecmp(from, "https:", 6) == 0 && strncasecmp(to, "https:", 6) != 0;
}

static void follow_redirect(struct range *r, const char *to)
{
	struct http_object *o = r->object;

	if (to == NULL) {
		fail_with(r, "the server redirects without saying where to, or to a malformed URL");
	} else if (r->url_generation != o->url_generation) {
		range_enter(r, RANGE_WAITING); /* another range was redirected meanwhile */
	} else if (++o->redirects > REDIRECTS_MAX) {
		fail_with(r, "more than 10 redirects; do they lead in a circle?");
	} else if (is_downgrade(o->url, to)) {
		fail_with(r, "the server redirects from https to an unprotected URL; refused");
	} else if (object_set_url(o, to) < 0) {
		fail_with(r, "the server redirects to a malformed URL");
	} else {
		range_enter(r, RANGE_WAITING);
	}
}

/* The target of a redirect can expire (presigned URLs do): the original URL leads to a fresh
 * one. */
static void handle_denial(struct range *r)
{
	struct http_object *o = r->object;

	if (r->url_generation == o->url_generation) {
		if (!o->discovered || o->resolved_again || strcmp(o->url, o->asked_url) == 0) {
			fail_object(r);
			return;
		}
		o->resolved_again = true;
		object_set_url(o, o->asked_url);
	}
	range_enter(r, RANGE_WAITING);
}

static void retry_without_range(struct range *r)
{
	struct http_object *o = r->object;

	o->plain = true;
	o->varies = object_varies(o, &r->answer.version);
	if (o->varies)
		log_warn(
			"%s: answers differ in their ETag and not in size and date (are several servers behind that name?); it is read as one answer, without ranges",
			o->name);
	range_enter(r, RANGE_WAITING);
}

/* Returns a copy, for a message that starts with the message it replaces. */
static struct error copy_error(struct error err)
{
	return err;
}

/* A few bytes are no progress, or a server could be asked forever. The minimum is an eighth of the
 * request, so that requests which a server answers by halves come to an end. */
static bool has_progressed(const struct range *r)
{
	uint64_t enough = (r->end - r->attempt_at) / 8;

	if (enough > PROGRESS_BYTES)
		enough = PROGRESS_BYTES;
	return r->at > r->attempt_at && r->at - r->attempt_at >= enough;
}

static bool should_retry(struct range *r)
{
	const struct http_object *o = r->object;
	const struct transfer_options *opts = o->t->opts;
	_free_ char *name = answer_unresolved_name(r->result, r->curl_message);
	const struct failed_attempt attempt = {
		.status = r->answer.status, .name = name, .why = r->why.msg};

	return patience_again(opts->patience, o->url, &r->tried, opts->retries, &attempt);
}

/* A 5xx status before the first success may be transient, or the server's answer to Range. Every
 * second attempt from the third on, and the last one, is made without Range. A response to it is
 * not used at once, since the server may have recovered in the meantime: a range is requested once
 * more, and if that is refused again, ranges are given up. Returns true if the request is repeated
 * at once. */
static bool try_without_range(struct range *r)
{
	struct http_object *o = r->object;
	bool doubtful = !o->discovered && r->answer.status >= 500;
	bool last = r->tried.failed + 1 >= o->t->opts->retries;

	if (o->plain && !o->plain_is_guess)
		return false;
	if (doubtful && o->served_plain) {
		o->plain = true;
		o->plain_is_guess = false;
		range_enter(r, RANGE_WAITING);
		return true;
	}
	o->plain = o->plain_is_guess = doubtful && (r->tried.failed >= 1 || last) && !o->plain;
	return false;
}

static void back_off(struct range *r)
{
	struct http_object *o = r->object;
	const struct transfer_options *opts = o->t->opts;
	uint64_t delay_ms;
	char end[96];

	if (has_progressed(r))
		r->tried = (struct tried){0};
	if (o->whole) {
		error_set(&r->why, -ERR_RESTART, "%s; this server cannot continue in the middle",
			copy_error(r->why).msg);
		fail_object(r);
		return;
	}
	if (try_without_range(r))
		return;
	if (!should_retry(r)) {
		error_set(&r->why, r->why.code, "%s (%s)", copy_error(r->why).msg,
			patience_end(opts->patience, &r->tried, end));
		fail_object(r);
		return;
	}
	if (r->answer.status == 0 || r->answer.status == 429 || r->answer.status == 503)
		pace_refused(&o->pace, now_ns());
	range_record_retry(o);
	delay_ms = range_retry_delay_ms(opts, patience_step(&r->tried), r->answer.retry_after_ms);
	log_debug("%s; attempt %u in %" PRIu64 " ms", r->why.msg, r->tried.failed + 1, delay_ms);
	progress_note(o->progress, "%s; attempt %u in %.1f s", r->why.msg, r->tried.failed + 1,
		(double)delay_ms / 1e3);
	r->due_ns = now_ns() + delay_ms * 1000000;
	range_enter(r, RANGE_BACKING_OFF);
	engine_set_clock(o->t, r->due_ns);
}

/* Another server may answer the next attempt. After the third, the object is read again in one
 * response. */
static void handle_lost_ranges(struct range *r)
{
	struct http_object *o = r->object;

	if (r->tried.failed < 2 && r->tried.failed < o->t->opts->retries) {
		back_off(r);
		return;
	}
	error_set(
		&r->why, -ERR_RESTART, "%s; it is read anew as one answer", copy_error(r->why).msg);
	object_unranged(o);
	fail_object(r);
}

/* A server may send less than was requested, but not next to nothing. */
static void continue_range(struct range *r)
{
	if (r->at == r->end) {
		complete_range(r);
	} else if (has_progressed(r)) {
		r->tried = (struct tried){0};
		range_enter(r, RANGE_WAITING);
	} else {
		error_set(&r->why, -ERR_HTTP,
			"%s: asked for %" PRIu64 " bytes, the server answers with %" PRIu64,
			r->object->name, r->end - r->attempt_at, r->at - r->attempt_at);
		back_off(r);
	}
}

void range_apply_verdict(struct range *r, enum verdict verdict, const char *redirect)
{
	switch (verdict) {
	case VERDICT_RANGE:
		continue_range(r);
		break;
	case VERDICT_WHOLE:
		complete_range(r);
		if (r->object->probe)
			fail_with(r, "opened only to look at it");
		break;
	case VERDICT_NOT_MODIFIED:
		complete_range(r);
		object_not_modified(r->object);
		break;
	case VERDICT_REDIRECT:
		follow_redirect(r, redirect);
		break;
	case VERDICT_PLAIN:
		retry_without_range(r);
		break;
	case VERDICT_RANGES:
		r->object->plain = r->object->plain_is_guess = false;
		r->object->served_plain = true;
		range_enter(r, RANGE_WAITING);
		break;
	case VERDICT_UNRANGED:
		handle_lost_ranges(r);
		break;
	case VERDICT_DENIED:
		handle_denial(r);
		break;
	case VERDICT_RETRY:
		back_off(r);
		break;
	case VERDICT_NONE:
	case VERDICT_FAIL:
		fail_object(r);
		break;
	}
}

static enum verdict classify_proxy(struct range *r, long status)
{
	bool final;
	const char *meaning = answer_proxy_sentence(status, &final);

	r->answer.status = (int)status;
	error_set(&r->why, -ERR_HTTP, "%s: the proxy answered %ld; %s", r->object->name, status,
		meaning);
	error_cause(&r->why, 0, status);
	return final ? VERDICT_FAIL : VERDICT_RETRY;
}

/* "Failed to connect to 10.0.0.1 port 3128 ...", where that is not the host of the URL. */
static bool is_proxy_failure(const struct range *r, CURLcode result)
{
	const char *to = strstr(r->curl_message, " connect to ");
	_free_ char *host = NULL;
	size_t to_len;
	bool is_ipv6;

	if (result == CURLE_COULDNT_RESOLVE_PROXY)
		return true;
	if (result != CURLE_COULDNT_CONNECT || to == NULL)
		return false;
	to += strlen(" connect to ");
	to_len = strcspn(to, " ");
	is_ipv6 = memchr(to, ':', to_len) != NULL; /* curl prints it without the brackets */
	host = text_format("//%s%.*s%s:", is_ipv6 ? "[" : "", (int)to_len, to, is_ipv6 ? "]" : "");
	return strcasestr(r->host->origin, host) == NULL;
}

/* There was no response, but a proxy may have explained why. */
static enum verdict classify_no_response(struct range *r, CURLcode result)
{
	struct answer_wanted w = range_wanted(r);
	enum verdict verdict;
	long proxy_said = 0;

	curl_easy_getinfo(r->easy, CURLINFO_HTTP_CONNECTCODE, &proxy_said);
	if (proxy_said >= 300)
		return classify_proxy(r, proxy_said);
	verdict = range_retry_classify_curl(result, r->curl_message, &w, &r->why);
	if (is_proxy_failure(r, result))
		error_set(&r->why, r->why.code,
			"%s; that is the proxy: check https_proxy, http_proxy and no_proxy",
			copy_error(r->why).msg);
	return verdict;
}

/* An expired presigned URL explains a refusal better than the response does. */
static enum verdict classify_expiry(struct range *r, enum verdict verdict)
{
	const struct http_object *o = r->object;
	int status = r->answer.status;
	_free_ char *expired = status == 400 || status == 401 || status == 403
				       ? url_expired(o->url, time(NULL))
				       : NULL;

	if (expired == NULL || verdict == VERDICT_RETRY)
		return verdict;
	error_set(&r->why, -ERR_HTTP, "%s: the server answered %d%s%s; %s", o->name, status,
		r->answer.reason[0] != '\0' ? " " : "", r->answer.reason, expired);
	error_cause(&r->why, 0, status);
	return VERDICT_DENIED;
}

static enum verdict classify_end(struct range *r, CURLcode result)
{
	struct answer_wanted w = range_wanted(r);

	switch (r->verdict) {
	case VERDICT_NONE:
		if (r->answered)
			return classify_expiry(r, request_classify_signature(r));
		return classify_no_response(r, result);
	case VERDICT_RANGE:
	case VERDICT_WHOLE:
		if (r->object->probe && r->verdict == VERDICT_WHOLE)
			return VERDICT_WHOLE; /* on_header() cut it off */
		if (result != CURLE_OK)
			return range_retry_classify_curl(result, r->curl_message, &w, &r->why);
		if (r->verdict == VERDICT_WHOLE || r->at == r->limit)
			return r->verdict;
		error_set(&r->why, -ERR_HTTP,
			"%s: the server sent %" PRIu64
			" bytes fewer than its Content-Range promised",
			w.name, r->limit - r->at);
		return VERDICT_RETRY;
	default:
		return r->verdict;
	}
}

void range_finished(struct range *r, CURLcode result)
{
	enum verdict verdict;
	_free_ char *redirect = NULL;

	r->result = result;
	verdict = classify_end(r, result);
	range_record_outcome(r, verdict);
	if (crowd_refuses(r, verdict)) {
		crowd_step_back(r);
		return;
	}
	if (verdict == VERDICT_REDIRECT)
		redirect = request_redirect(r);
	if (result == CURLE_OK)
		record_timing(r);
	range_detach(r);
	range_apply_verdict(r, verdict, redirect);
}
