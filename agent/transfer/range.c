/* SPDX-License-Identifier: MIT */
/* The life of one range: it is requested, its bytes arrive, its request breaks and is sent again
 * from the byte where it broke, it is complete. Loop thread. Callbacks from curl only record what
 * they saw; range_outcome.c acts on it once curl has returned. */
#include "defer.h"
#include "engine.h"
#include "log.h"
#include "text.h"
#include "throttle.h"
#include "url.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Ranges can be held because all downloads together have reached the rate limit. Nothing is read
 * from the connection of a held range, so its server has to wait. */
/* Inside a curl callback. True: the rate limit is reached, and the range's next bytes must wait. */
static bool hold(struct range *r)
{
	struct transfer *t = r->object->t;
	uint64_t now = now_ns(), due = throttle_due_ns(t->opts->throttle, now);

	if (due == 0)
		return false;
	r->held_ns = now;
	engine_set_clock(t, due);
	return true;
}

static void update_longest_held(struct range *r, struct range **longest)
{
	for (; r != NULL; r = r->next) {
		if (r->held_ns != 0 && (*longest == NULL || r->held_ns < (*longest)->held_ns))
			*longest = r;
	}
}

static struct range *longest_held(const struct transfer *t)
{
	struct range *longest = NULL;

	for (const struct http_object *o = t->objects; o != NULL; o = o->next) {
		update_longest_held(o->ranges, &longest);
		update_longest_held(o->reads, &longest);
	}
	return longest;
}

/* curl delivers at once the bytes that it kept, and the range may be held again; then it is the
 * last in the queue. */
static void release_held(struct range *r)
{
	CURLcode result;

	r->held_ns = 0;
	r->last_ns = now_ns();
	result = curl_easy_pause(r->easy, CURLPAUSE_CONT);
	if (result != CURLE_OK)
		range_finished(r, result);
}

void range_hold_release(struct transfer *t)
{
	struct range *r;

	while ((r = longest_held(t)) != NULL) {
		uint64_t due = throttle_due_ns(t->opts->throttle, now_ns());

		if (due != 0) {
			engine_set_clock(t, due);
			return;
		}
		release_held(r);
	}
}

/* The states of a range. */

enum { ERROR_BODY_MAX = 64 * 1024 }; /* a longer error page is not worth its time */

struct range *range_new(struct http_object *o, uint64_t start, uint64_t end)
{
	struct range *r = zalloc(sizeof(*r));

	r->object = o;
	r->state = RANGE_WAITING;
	r->start = r->at = start;
	r->end = end;
	return r;
}

void range_assign_blocks(struct range *r, struct block_pool *pool, unsigned n)
{
	r->pool = pool;
	r->reserved = r->n_slots = n;
	r->slots = zalloc(n * sizeof(struct block *));
}

void range_enter(struct range *r, enum range_state state)
{
	static const char *const names[] = {
		[RANGE_WAITING] = "waiting",
		[RANGE_ACTIVE] = "active",
		[RANGE_BACKING_OFF] = "backing off",
		[RANGE_COMPLETE] = "complete",
	};

	if (log_level() >= LOG_DEBUG)
		log_debug("%s: range %" PRIu64 "+%" PRIu64 ": %s -> %s", r->object->name, r->start,
			r->at - r->start, names[r->state], names[state]);
	r->state = state;
	r->object->t->dirty = true;
}

static void count_connection(struct range *r, int by)
{
	r->host->active += (unsigned)by;
	r->object->t->active += (unsigned)by;
}

void range_detach(struct range *r)
{
	struct transfer *t = r->object->t;

	if (r->easy == NULL)
		return;
	if (!r->paused)
		count_connection(r, -1);
	range_record_end(r);
	r->paused = false;
	r->held_ns = 0;
	curl_multi_remove_handle(t->multi, r->easy);
	engine_release_easy(t, r->easy);
	r->easy = NULL;
	curl_slist_free_all(r->headers);
	r->headers = NULL;
	t->dirty = true;
}

void range_unreserve(struct range *r, unsigned keep)
{
	if (r->reserved <= keep)
		return;
	block_pool_unreserve(r->pool, r->reserved - keep);
	r->reserved = keep;
	r->object->t->dirty = true;
}

void range_free(struct range *r)
{
	range_detach(r);
	range_unreserve(r, 0);
	for (unsigned i = 0; i < r->n_slots; i++)
		block_unref(r->slots[i]);
	free(r->slots);
	free(r);
}

struct answer_wanted range_wanted(const struct range *r)
{
	const struct http_object *o = r->object;

	return (struct answer_wanted){
		.name = o->name,
		.from = r->at,
		.to = r->end,
		.plain = o->plain,
		.conditional = o->conditional && !o->discovered,
		.varies = !o->discovered && object_varies(o, &r->answer.version),
		.version = o->discovered ? &o->version : NULL,
	};
}

/* NOLINTNEXTLINE(readability-non-const-parameter): curl's signature */
static int on_request_sent(void *ctx, char *to, char *from, int to_port, int from_port)
{
	struct range *r = ctx;

	(void)to, (void)from, (void)to_port, (void)from_port;
	r->last_ns = now_ns();
	engine_set_clock(r->object->t, range_due(r));
	return CURL_PREREQFUNC_OK;
}

/* Called for the first response. The first range had a guessed length; now the size of the object
 * is known. */
static void discover_object(struct range *r)
{
	struct http_object *o = r->object;

	if (r->verdict == VERDICT_WHOLE) {
		window_make_stream(r);
	} else if (r->end > r->answer.version.size) {
		pthread_mutex_lock(&o->lock);
		r->end = r->answer.version.size;
		pthread_mutex_unlock(&o->lock);
		range_unreserve(r, (unsigned)((r->end + BLOCK_BYTES - 1) / BLOCK_BYTES));
	}
	o->planned = r->end;
	object_discovered(o, &r->answer, r->verdict == VERDICT_RANGE);
}

static bool is_login_page(const struct range *r)
{
	const struct http_object *o = r->object;

	return !o->discovered && strcmp(o->url, o->asked_url) != 0 &&
	       strncasecmp(r->answer.said.media_type, "text/html", 9) == 0 &&
	       url_is_login(o->url) && !url_is_login(o->asked_url);
}

/* Called after the last header. Returns whether the body is wanted. An error is classified only
 * after its body, which explains it. */
static bool classify_headers(struct range *r)
{
	struct http_object *o = r->object;
	struct answer_wanted w = range_wanted(r);

	if ((r->answer.status != 200 && r->answer.status != 206) || r->verdict != VERDICT_NONE)
		return true; /* or this is the end of a trailer */
	r->verdict = answer_classify(&r->answer, &w, &r->why);
	if (is_login_page(r)) {
		_free_ char *shown = url_display(o->url);

		error_set(&r->why, -ERR_HTTP,
			"%s: the server redirects to a login page (%s); give credentials (headers or netrc_file in agent.ini), or a URL that needs no login",
			o->name, shown);
		r->verdict = VERDICT_FAIL;
	}
	if (r->verdict == VERDICT_WHOLE && o->plain_is_guess)
		r->verdict = VERDICT_RANGES;
	if (r->verdict == VERDICT_RETRY && r->answer.status == 200)
		r->verdict = VERDICT_UNRANGED;
	if (r->verdict != VERDICT_RANGE && r->verdict != VERDICT_WHOLE)
		return false;
	r->limit = r->verdict == VERDICT_RANGE ? r->answer.last + 1 : SIZE_UNKNOWN;
	crowd_served(r);
	o->redirects = 0;
	o->resolved_again = false;
	if (!o->discovered)
		discover_object(r);
	return r->verdict == VERDICT_RANGE || !o->probe;
}

/* Recorded now and not after the body, for other requests to the same host that fail meanwhile. */
static void record_answer(struct range *r)
{
	if (r->host->answered)
		return;
	patience_answered(r->object->t->opts->patience, r->host->origin, r->answer.status);
	r->host->answered = !patience_is_busy(r->answer.status);
}

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
	struct range *r = ctx;
	size_t len = one * n;

	if (r->answer.status == 0)
		r->last_ns = now_ns(); /* the stall timeout applies to all headers together */
	answer_header(&r->answer, line, len);
	if (line[0] != '\r' && line[0] != '\n')
		return len;
	r->answered = r->answer.status >= 200;
	if (r->answered)
		record_answer(r);
	return classify_headers(r) ? len : 0;
}

static size_t store_stream(struct range *r, const char *bytes, size_t len)
{
	if (!window_ensure_room(r, len)) {
		/* The stream keeps its connection, which is not counted: otherwise paused streams
		 * could lock out the very object that their workers wait for. */
		r->paused = true;
		count_connection(r, -1);
		return CURL_WRITEFUNC_PAUSE;
	}
	window_fill(r, (const uint8_t *)bytes, len);
	return len;
}

static size_t store_read(struct range *r, const char *bytes, size_t len)
{
	struct http_object *o = r->object;

	pthread_mutex_lock(&o->lock);
	if (r->read->buf != NULL)
		memcpy(r->read->buf + (r->at - r->start), bytes, len);
	r->at += len;
	pthread_mutex_unlock(&o->lock);
	return len;
}

static size_t store_range(struct range *r, const char *bytes, size_t len)
{
	if (len > r->limit - r->at) {
		r->verdict = VERDICT_RETRY;
		error_set(&r->why, -ERR_HTTP,
			"%s: the server sent more bytes than its Content-Range promised; it or a proxy before it is broken",
			r->object->name);
		return 0;
	}
	if (r->read != NULL)
		return store_read(r, bytes, len);
	if (!window_ensure_room(r, len)) {
		r->verdict = VERDICT_FAIL;
		error_set(&r->why, -ENOMEM, "%s: out of memory", r->object->name);
		return 0;
	}
	window_fill(r, (const uint8_t *)bytes, len);
	return len;
}

static size_t store_body(struct range *r, const char *bytes, size_t len)
{
	size_t taken;

	if (hold(r))
		return CURL_WRITEFUNC_PAUSE;
	taken = r->verdict == VERDICT_RANGE ? store_range(r, bytes, len)
					    : store_stream(r, bytes, len);
	if (taken == len) {
		r->object->pace.bytes += len;
		throttle_count(r->object->t->opts->throttle, len, now_ns());
	}
	return taken;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *ctx)
{
	struct range *r = ctx;
	size_t len = one * n;

	switch (r->verdict) {
	case VERDICT_RANGE:
	case VERDICT_WHOLE:
		r->last_ns = now_ns();
		return store_body(r, bytes, len);
	default: /* an unwanted body does not prolong the timeout */
		answer_text(&r->answer, bytes, len);
		r->limit += len;
		return r->limit <= ERROR_BODY_MAX ? len : 0;
	}
}

static CURLcode send_request(struct range *r)
{
	CURLcode result = request_prepare(r);
	CURLMcode added;

	if (result != CURLE_OK)
		return result;
	added = curl_multi_add_handle(r->object->t->multi, r->easy);
	if (added == CURLM_OK)
		return CURLE_OK;
	snprintf(r->curl_message, sizeof(r->curl_message), "%s", curl_multi_strerror(added));
	return CURLE_FAILED_INIT;
}

void range_start(struct range *r)
{
	struct http_object *o = r->object;
	struct transfer *t = o->t;
	CURLcode result;

	r->easy = engine_acquire_easy(t);
	if (r->easy == NULL) {
		error_set(&r->why, -ENOMEM, "%s: out of memory", o->name);
		range_apply_verdict(r, VERDICT_FAIL, NULL);
		return;
	}
	answer_reset(&r->answer);
	r->answered = false;
	r->result = CURLE_OK;
	r->verdict = VERDICT_NONE;
	r->attempt_at = r->at;
	r->limit = 0;
	r->last_ns = 0;
	r->url_generation = o->url_generation;
	r->host = o->host;
	count_connection(r, 1);
	range_record_begin(r);
	curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
	curl_easy_setopt(r->easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(r->easy, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(r->easy, CURLOPT_PREREQFUNCTION, on_request_sent);
	curl_easy_setopt(r->easy, CURLOPT_PREREQDATA, r);
	range_enter(r, RANGE_ACTIVE);
	result = send_request(r);
	if (result != CURLE_OK)
		range_finished(r, result);
}

void range_resume(struct range *r)
{
	CURLcode result;

	if (!r->paused || !window_ensure_room(r, CURL_MAX_WRITE_SIZE))
		return;
	r->paused = false;
	r->last_ns = now_ns();
	count_connection(r, 1);
	result = curl_easy_pause(r->easy, CURLPAUSE_CONT);
	if (result != CURLE_OK)
		range_finished(r, result);
}

static bool awaits_first_byte(const struct range *r)
{
	return r->answer.status == 0 && r->object->t->opts->first_byte_timeout_ms > 0;
}

static uint64_t timeout_ms(const struct range *r)
{
	const struct transfer_options *opts = r->object->t->opts;

	return awaits_first_byte(r) ? opts->first_byte_timeout_ms : opts->stall_timeout_ms;
}

uint64_t range_due(const struct range *r)
{
	if (r->state == RANGE_BACKING_OFF)
		return r->due_ns;
	if (r->state == RANGE_ACTIVE && r->last_ns != 0 && !r->paused && r->held_ns == 0)
		return r->last_ns + timeout_ms(r) * 1000000;
	return UINT64_MAX;
}

void range_tick(struct range *r, uint64_t now)
{
	char buf[32];

	crowd_tick(r, now);
	if (now < range_due(r))
		return;
	if (r->state == RANGE_BACKING_OFF) {
		range_enter(r, RANGE_WAITING);
		return;
	}
	if (r->answered && r->verdict == VERDICT_NONE) {
		/* the part of the body that has arrived must do */
		range_finished(r, CURLE_OPERATION_TIMEDOUT);
		return;
	}
	error_set(&r->why, -ERR_HTTP, "%s: no %s for %s: %s in [network] of agent.ini",
		r->object->name, awaits_first_byte(r) ? "answer came" : "byte arrived",
		units_print_duration(timeout_ms(r) * 1000000, buf),
		awaits_first_byte(r) ? "first_byte_timeout" : "stall_timeout");
	range_record_stall(r->object);
	range_record_outcome(r, VERDICT_RETRY);
	range_detach(r);
	range_apply_verdict(r, VERDICT_RETRY, NULL);
}
