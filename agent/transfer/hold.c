/* SPDX-License-Identifier: MIT */
/* Ranges that wait because all downloads together are as fast as they may be. Their connections are left
 * unread, which makes their servers wait. Loop thread. */
#include "defer.h"
#include "engine.h"
#include "throttle.h"

/* Inside a curl callback. */
bool hold(struct range *r)
{
	struct transfer *t = r->object->t;
	uint64_t now = now_ns(), due = throttle_due_ns(t->opts->throttle, now);

	if (due == 0)
		return false;
	r->held_ns = now;
	engine_clock(t, due);
	return true;
}

static void longest_of(struct range *r, struct range **longest)
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
		longest_of(o->ranges, &longest);
		longest_of(o->reads, &longest);
	}
	return longest;
}

/* curl hands over at once what it kept, and the range may be held again: then as the last. */
static void release(struct range *r)
{
	CURLcode result;

	r->held_ns = 0;
	r->last_ns = now_ns();
	result = curl_easy_pause(r->easy, CURLPAUSE_CONT);
	if (result != CURLE_OK)
		range_finished(r, result);
}

void hold_release(struct transfer *t)
{
	struct range *r;

	while ((r = longest_held(t)) != NULL) {
		uint64_t due = throttle_due_ns(t->opts->throttle, now_ns());

		if (due != 0) {
			engine_clock(t, due);
			return;
		}
		release(r);
	}
}
