/* SPDX-License-Identifier: MIT */
/* What follows from the end of a request: the range is complete, goes on from the byte where it
 * broke, follows a redirect, or takes its object down with it. Loop thread, never inside a curl
 * callback. */
#include "defer.h"
#include "engine.h"
#include "log.h"
#include "text.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

enum { REDIRECTS_MAX = 10 };

static void measure(struct range *r)
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

static void complete(struct range *r)
{
	struct http_object *o = r->object;

	range_enter(r, RANGE_COMPLETE);
	range_give_back_reserved(r, 0);
	if (r->read != NULL) {
		read_request_done(r);
		return;
	}
	if (!o->whole)
		return;
	pthread_mutex_lock(&o->lock);
	r->end = o->size = r->at;
	pthread_mutex_unlock(&o->lock);
	engine_touch(o);
}

static void stop_all(struct range *r)
{
	for (; r != NULL; r = r->next) {
		range_detach(r);
		if (r->state != RANGE_COMPLETE)
			range_enter(r, RANGE_WAITING); /* for its object to be closed */
	}
}

/* One range that cannot be had is the end of its object. */
static void give_up(struct range *r)
{
	struct http_object *o = r->object;

	object_fail(o, r->why.code, &r->why);
	stop_all(o->ranges);
	stop_all(o->reads);
}

static void fail(struct range *r, const char *sentence)
{
	error_set(&r->why, -ERR_HTTP, "%s: %s", r->object->name, sentence);
	give_up(r);
}

static bool is_downgrade(const char *from, const char *to)
{
	return strncasecmp(from, "https:", 6) == 0 && strncasecmp(to, "https:", 6) != 0;
}

static void follow(struct range *r, const char *to)
{
	struct http_object *o = r->object;

	if (to == NULL) {
		fail(r, "the server redirects without saying where to");
	} else if (r->url_generation != o->url_generation) {
		range_enter(r, RANGE_WAITING); /* another range was sent on meanwhile */
	} else if (++o->redirects > REDIRECTS_MAX) {
		fail(r, "more than 10 redirects; do they lead in a circle?");
	} else if (is_downgrade(o->url, to)) {
		fail(r, "the server redirects from https to an unprotected URL; refused");
	} else if (object_set_url(o, to) < 0) {
		fail(r, "the server redirects to a malformed URL");
	} else {
		range_enter(r, RANGE_WAITING);
	}
}

/* Where a redirect leads to can expire (presigned URLs do): the original URL tells a fresh place.
 */
static void denied(struct range *r)
{
	struct http_object *o = r->object;

	if (r->url_generation == o->url_generation) {
		if (!o->discovered || o->resolved_again || strcmp(o->url, o->asked_url) == 0) {
			give_up(r);
			return;
		}
		o->resolved_again = true;
		object_set_url(o, o->asked_url);
	}
	range_enter(r, RANGE_WAITING);
}

/* So that a sentence can be continued by one that begins with it. */
static struct error copy_error(struct error err)
{
	return err;
}

static void back_off(struct range *r)
{
	struct http_object *o = r->object;
	const struct transfer_options *opts = o->t->opts;
	uint64_t delay_ms;

	if (r->at > r->attempt_at)
		r->attempts = 0;
	if (o->whole) {
		error_set(&r->why, -ERR_RESTART, "%s; this server cannot continue in the middle",
			copy_error(r->why).msg);
		give_up(r);
		return;
	}
	if (++r->attempts > opts->retries) {
		error_set(&r->why, r->why.code, "%s (gave up after %u attempts)",
			copy_error(r->why).msg, r->attempts);
		give_up(r);
		return;
	}
	if (r->answer.status == 0 || r->answer.status == 429 || r->answer.status == 503)
		pace_trouble(&o->pace, now_ns());
	delay_ms = retry_delay_ms(opts, r->attempts, r->answer.retry_after_ms);
	log_debug("%s; attempt %u in %" PRIu64 " ms", r->why.msg, r->attempts + 1, delay_ms);
	r->due_ns = now_ns() + delay_ms * 1000000;
	range_enter(r, RANGE_BACKING_OFF);
	engine_clock(o->t, r->due_ns);
}

void range_act(struct range *r, enum verdict verdict, const char *redirect)
{
	switch (verdict) {
	case VERDICT_RANGE:
		if (r->at == r->end)
			complete(r);
		else
			range_enter(
				r, RANGE_WAITING); /* a server may serve less than was asked for */
		break;
	case VERDICT_WHOLE:
		complete(r);
		if (r->object->probe)
			fail(r, "opened only to look at it");
		break;
	case VERDICT_NOT_MODIFIED:
		complete(r);
		object_not_modified(r->object);
		break;
	case VERDICT_REDIRECT:
		follow(r, redirect);
		break;
	case VERDICT_PLAIN:
		r->object->plain = true;
		range_enter(r, RANGE_WAITING);
		break;
	case VERDICT_DENIED:
		denied(r);
		break;
	case VERDICT_RETRY:
		back_off(r);
		break;
	case VERDICT_NONE:
	case VERDICT_FAIL:
		give_up(r);
		break;
	}
}

/* No answer came; but a proxy may have said why. */
static enum verdict judge_silence(struct range *r, CURLcode result)
{
	struct answer_wanted w = range_wanted(r);
	long proxy_said = 0;

	curl_easy_getinfo(r->easy, CURLINFO_HTTP_CONNECTCODE, &proxy_said);
	if (proxy_said != 407)
		return retry_judge_curl(result, r->curl_said, &w, &r->why);
	r->answer.status = 407;
	return answer_judge(&r->answer, &w, &r->why);
}

static enum verdict conclude(struct range *r, CURLcode result)
{
	struct answer_wanted w = range_wanted(r);

	switch (r->verdict) {
	case VERDICT_NONE:
		if (r->answer.status >= 300)
			return sign_judge(r);
		return judge_silence(r, result);
	case VERDICT_RANGE:
	case VERDICT_WHOLE:
		if (r->object->probe && r->verdict == VERDICT_WHOLE)
			return VERDICT_WHOLE; /* we cut it ourselves */
		if (result != CURLE_OK)
			return retry_judge_curl(result, r->curl_said, &w, &r->why);
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
	enum verdict verdict = conclude(r, result);
	_free_ char *redirect = NULL;
	char *location = NULL;

	if (result == CURLE_OK)
		measure(r);
	curl_easy_getinfo(r->easy, CURLINFO_REDIRECT_URL, &location);
	redirect = copy_text(location);
	range_detach(r);
	range_act(r, verdict, redirect);
}
