/* SPDX-License-Identifier: MIT */
/* Servers that accept a limited number of requests of one client at once refuse the others in
 * various ways: 403, 429, 503, a connection that is refused or reset. A refusal while other
 * requests are under way therefore says little about the object; only a refusal of a lone request
 * does. So each refusal limits its host to one connection less than it had, down to one. Loop
 * thread. */
#include "defer.h"
#include "engine.h"
#include "log.h"
#include "url.h"
#include <string.h>
#include <time.h>

#define GROW_NS  10000000000ull /* without a refusal; then one more connection is tried */
#define LIMIT_NS 60000000000ull
/* A 403 for an object that was never served is more likely about the object. */
#define LIMIT_UNKNOWN_NS 5000000000ull

static unsigned other_connections(const struct range *r)
{
	return r->host->active - (r->paused ? 0 : 1);
}

static bool is_cut_off(CURLcode result)
{
	return result == CURLE_COULDNT_CONNECT || result == CURLE_RECV_ERROR ||
	       result == CURLE_SEND_ERROR || result == CURLE_GOT_NOTHING ||
	       result == CURLE_SSL_CONNECT_ERROR || result == CURLE_OPERATION_TIMEDOUT;
}

static uint64_t limit_ns(const struct range *r)
{
	return r->object->discovered ? LIMIT_NS : LIMIT_UNKNOWN_NS;
}

static bool is_within_time_limit(const struct range *r)
{
	return r->refused_since_ns == 0 || now_ns() - r->refused_since_ns < limit_ns(r);
}

/* The URL of a redirect may have expired; then a new one is requested first. */
static bool may_be_expired(const struct http_object *o)
{
	_free_ char *expired = url_expired(o->url, time(NULL));

	if (expired != NULL)
		return true;
	return o->discovered && !o->resolved_again && strcmp(o->url, o->asked_url) != 0;
}

bool crowd_refuses(const struct range *r, enum verdict verdict)
{
	const struct http_object *o = r->object;
	int status = r->answer.status;

	if (other_connections(r) == 0 || o->whole || !r->host->answered || !is_within_time_limit(r))
		return false;
	switch (verdict) {
	case VERDICT_RETRY:
		return status == 429 || status == 503 || (status == 0 && is_cut_off(r->result));
	case VERDICT_DENIED:
	case VERDICT_PLAIN:
		return status == 403 && !may_be_expired(o);
	case VERDICT_FAIL:
		return status == 403 && o->discovered;
	default:
		return false;
	}
}

void crowd_step_back(struct range *r)
{
	struct http_object *o = r->object;
	struct host *h = r->host;
	unsigned left = other_connections(r);
	uint64_t now = now_ns();

	if (h->limit == 0 || left < h->limit) {
		h->limit = left;
		log_debug("%s: refused beside %u others; no more at once", o->name, left);
	}
	h->raise_limit_ns = r->answer.status == 403 ? UINT64_MAX : now + GROW_NS;
	if (r->refused_since_ns == 0)
		r->refused_since_ns = now;
	pace_refused(&o->pace, now);
	range_detach(r);
	r->due_ns = now + 1000000 * range_retry_delay_ms(
					    o->t->opts, ++r->n_refused, r->answer.retry_after_ms);
	range_enter(r, RANGE_BACKING_OFF);
	engine_set_clock(o->t, r->due_ns);
}

void crowd_tick(struct range *r, uint64_t now)
{
	if (r->state != RANGE_WAITING || r->refused_since_ns == 0 ||
		now - r->refused_since_ns < limit_ns(r))
		return;
	r->object->ignores_limit = true;
	r->object->t->dirty = true;
}

void crowd_served(struct range *r)
{
	r->refused_since_ns = 0;
	r->n_refused = 0;
	r->object->ignores_limit = false;
}

bool crowd_admits(const struct http_object *o, uint64_t now)
{
	struct host *h = o->host;

	if (h->limit == 0 || o->ignores_limit)
		return true;
	if (now >= h->raise_limit_ns) {
		h->limit++;
		h->raise_limit_ns = now + GROW_NS;
	}
	return h->active < h->limit;
}
