/* SPDX-License-Identifier: MIT */
/* The life of one range: asked for, arriving, broken and asked for again from the byte where it
 * broke, complete. Loop thread. Callbacks from curl only record what they saw; what follows from it
 * is done when curl has returned. */
#include "defer.h"
#include "engine.h"
#include "log.h"
#include "text.h"
#include "throttle.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ERROR_BODY_MAX = 64 * 1024 }; /* an error page longer than that is not worth its time */

struct range *range_new(struct http_object *o, uint64_t start, uint64_t end)
{
	struct range *r = zalloc(sizeof(*r));

	r->object = o;
	r->state = RANGE_WAITING;
	r->start = r->at = start;
	r->end = end;
	return r;
}

void range_keep_blocks(struct range *r, struct block_pool *pool, unsigned n)
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
	r->paused = false;
	r->held_ns = 0;
	curl_multi_remove_handle(t->multi, r->easy);
	engine_give_easy(t, r->easy);
	r->easy = NULL;
	curl_slist_free_all(r->headers);
	r->headers = NULL;
	t->dirty = true;
}

void range_give_back_reserved(struct range *r, unsigned keep)
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
	range_give_back_reserved(r, 0);
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
		.version = o->discovered ? &o->version : NULL,
	};
}

/* NOLINTNEXTLINE(readability-non-const-parameter): curl's signature */
static int on_request_sent(void *ctx, char *to, char *from, int to_port, int from_port)
{
	struct range *r = ctx;

	(void)to, (void)from, (void)to_port, (void)from_port;
	r->last_ns = now_ns();
	engine_clock(r->object->t, range_due(r));
	return CURL_PREREQFUNC_OK;
}

/* The first range was as long as hoped for; now its object's size is known. */
static void discover(struct range *r)
{
	struct http_object *o = r->object;

	if (r->verdict == VERDICT_WHOLE) {
		window_make_stream(r);
	} else if (r->end > r->answer.version.size) {
		pthread_mutex_lock(&o->lock);
		r->end = r->answer.version.size;
		pthread_mutex_unlock(&o->lock);
		range_give_back_reserved(r, (unsigned)((r->end + BLOCK_BYTES - 1) / BLOCK_BYTES));
	}
	o->planned = r->end;
	object_discovered(o, &r->answer, r->verdict == VERDICT_RANGE);
}

/* Whether the body is wanted. The verdict on an error needs its body, and waits. */
static bool headers_are_in(struct range *r)
{
	struct http_object *o = r->object;
	struct answer_wanted w = range_wanted(r);

	if ((r->answer.status != 200 && r->answer.status != 206) || r->verdict != VERDICT_NONE)
		return true; /* or the end of a trailer */
	r->verdict = answer_judge(&r->answer, &w, &r->why);
	if (r->verdict != VERDICT_RANGE && r->verdict != VERDICT_WHOLE)
		return false;
	r->limit = r->verdict == VERDICT_RANGE ? r->answer.last + 1 : SIZE_UNKNOWN;
	o->redirects = 0;
	o->resolved_again = false;
	if (!o->discovered)
		discover(r);
	return r->verdict == VERDICT_RANGE || !o->probe;
}

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
	struct range *r = ctx;
	size_t len = one * n;

	answer_header(&r->answer, line, len);
	if (line[0] != '\r' && line[0] != '\n')
		return len;
	return headers_are_in(r) ? len : 0;
}

static size_t take_stream(struct range *r, const char *bytes, size_t len)
{
	if (!window_fit(r, len)) {
		/* It keeps its connection but is not counted: or sleeping streams could lock out
		 * the very object that their workers wait for. */
		r->paused = true;
		count_connection(r, -1);
		return CURL_WRITEFUNC_PAUSE;
	}
	window_fill(r, (const uint8_t *)bytes, len);
	return len;
}

static size_t take_read(struct range *r, const char *bytes, size_t len)
{
	struct http_object *o = r->object;

	pthread_mutex_lock(&o->lock);
	if (r->read->buf != NULL)
		memcpy(r->read->buf + (r->at - r->start), bytes, len);
	r->at += len;
	pthread_mutex_unlock(&o->lock);
	return len;
}

static size_t take_range(struct range *r, const char *bytes, size_t len)
{
	if (len > r->limit - r->at) {
		r->verdict = VERDICT_RETRY;
		error_set(&r->why, -ERR_HTTP,
			"%s: the server sent more bytes than its Content-Range promised; it or a "
			"proxy before it is broken",
			r->object->name);
		return 0;
	}
	if (r->read != NULL)
		return take_read(r, bytes, len);
	if (!window_fit(r, len)) {
		r->verdict = VERDICT_FAIL;
		error_set(&r->why, -ENOMEM, "%s: out of memory", r->object->name);
		return 0;
	}
	window_fill(r, (const uint8_t *)bytes, len);
	return len;
}

static size_t take(struct range *r, const char *bytes, size_t len)
{
	size_t taken;

	if (hold(r))
		return CURL_WRITEFUNC_PAUSE;
	taken = r->verdict == VERDICT_RANGE ? take_range(r, bytes, len)
					    : take_stream(r, bytes, len);
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

	r->last_ns = now_ns();
	switch (r->verdict) {
	case VERDICT_RANGE:
	case VERDICT_WHOLE:
		return take(r, bytes, len);
	default:
		answer_text(&r->answer, bytes, len);
		r->limit += len;
		return r->limit <= ERROR_BODY_MAX ? len : 0;
	}
}

void range_start(struct range *r)
{
	struct http_object *o = r->object;
	struct transfer *t = o->t;

	r->easy = engine_take_easy(t);
	answer_reset(&r->answer);
	r->verdict = VERDICT_NONE;
	r->attempt_at = r->at;
	r->limit = 0;
	r->last_ns = 0;
	r->url_generation = o->url_generation;
	r->host = o->host;
	count_connection(r, 1);
	curl_easy_setopt(r->easy, CURLOPT_PRIVATE, r);
	curl_easy_setopt(r->easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(r->easy, CURLOPT_HEADERDATA, r);
	curl_easy_setopt(r->easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(r->easy, CURLOPT_WRITEDATA, r);
	curl_easy_setopt(r->easy, CURLOPT_PREREQFUNCTION, on_request_sent);
	curl_easy_setopt(r->easy, CURLOPT_PREREQDATA, r);
	request_prepare(r);
	range_enter(r, RANGE_ACTIVE);
	curl_multi_add_handle(t->multi, r->easy);
}

void range_resume(struct range *r)
{
	if (!r->paused || !window_fit(r, CURL_MAX_WRITE_SIZE))
		return;
	r->paused = false;
	r->last_ns = now_ns();
	count_connection(r, 1);
	curl_easy_pause(r->easy, CURLPAUSE_CONT);
}

uint64_t range_due(const struct range *r)
{
	if (r->state == RANGE_BACKING_OFF)
		return r->due_ns;
	if (r->state == RANGE_ACTIVE && r->last_ns != 0 && !r->paused && r->held_ns == 0)
		return r->last_ns + r->object->t->opts->stall_timeout_ms * 1000000;
	return UINT64_MAX;
}

void range_tick(struct range *r, uint64_t now)
{
	char buf[32];

	if (now < range_due(r))
		return;
	if (r->state == RANGE_BACKING_OFF) {
		range_enter(r, RANGE_WAITING);
		return;
	}
	error_set(&r->why, -ERR_HTTP, "%s: no byte arrived for %s", r->object->name,
		print_duration(r->object->t->opts->stall_timeout_ms * 1000000, buf));
	range_detach(r);
	range_act(r, VERDICT_RETRY, NULL);
}
