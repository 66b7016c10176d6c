/* SPDX-License-Identifier: MIT */
/* Records each request of an object as a span of the timeline, if there is one, and counts requests
 * in the progress. Loop thread. Nothing here is called for each block. */
#include "engine.h"
#include "timeline.h"
#include <inttypes.h>
#include <stdio.h>

/* One more request is under way. */
static void count_connected(struct http_object *o)
{
	pthread_mutex_lock(&o->lock);
	if (o->progress != NULL) {
		struct progress *p = o->progress;
		unsigned n = atomic_fetch_add_explicit(&p->connected, 1, memory_order_relaxed) + 1;

		o->connected++;
		if (n > counted(&p->connections))
			atomic_store_explicit(&p->connections, n, memory_order_relaxed);
	}
	pthread_mutex_unlock(&o->lock);
}

static void count_disconnected(struct http_object *o)
{
	pthread_mutex_lock(&o->lock);
	if (o->progress != NULL && o->connected > 0) {
		o->connected--;
		atomic_fetch_sub_explicit(&o->progress->connected, 1, memory_order_relaxed);
	}
	pthread_mutex_unlock(&o->lock);
}

void range_record_begin(struct range *r)
{
	struct http_object *o = r->object;
	char name[48];

	count_connected(o);
	if (o->timeline == NULL)
		return;
	snprintf(name, sizeof(name), "from byte %" PRIu64, r->attempt_at);
	r->span = timeline_begin(o->timeline, o->span, SPAN_RANGE, name);
	timeline_set_number(o->timeline, r->span, "offset", r->attempt_at);
	timeline_set_number(o->timeline, r->span, "attempt", r->tried.failed + 1);
}

/* What the server sent may be of no use, and yet all that was asked for. */
static bool is_failure(enum verdict verdict)
{
	return verdict == VERDICT_RETRY || verdict == VERDICT_FAIL || verdict == VERDICT_DENIED ||
	       verdict == VERDICT_UNRANGED || verdict == VERDICT_NONE;
}

void range_record_outcome(struct range *r, enum verdict verdict)
{
	struct timeline *t = r->object->timeline;
	curl_off_t first_us = 0;

	if (t == NULL || r->span == 0)
		return;
	curl_easy_getinfo(r->easy, CURLINFO_STARTTRANSFER_TIME_T, &first_us);
	if (first_us > 0)
		timeline_set_number(t, r->span, "first_byte_ns", (uint64_t)first_us * 1000);
	if (r->answer.status > 0)
		timeline_set_number(t, r->span, "status", (uint64_t)r->answer.status);
	timeline_set_number(t, r->span, "received_bytes", r->at - r->attempt_at);
	if (is_failure(verdict))
		timeline_end(t, r->span, SPAN_FAILED, r->why.msg);
	else
		timeline_end(t, r->span, SPAN_OK, NULL);
}

void range_record_end(struct range *r)
{
	struct timeline *t = r->object->timeline;

	count_disconnected(r->object);
	if (t == NULL || r->span == 0)
		return;
	timeline_set_number(t, r->span, "received_bytes", r->at - r->attempt_at);
	timeline_end(t, r->span, SPAN_CANCELLED, NULL);
	r->span = 0;
}

void range_record_retry(struct http_object *o)
{
	pthread_mutex_lock(&o->lock);
	if (o->progress != NULL)
		count(&o->progress->retries, 1);
	pthread_mutex_unlock(&o->lock);
}

void range_record_stall(struct http_object *o)
{
	pthread_mutex_lock(&o->lock);
	if (o->progress != NULL)
		count(&o->progress->stalls, 1);
	pthread_mutex_unlock(&o->lock);
}
