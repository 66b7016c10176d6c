/* SPDX-License-Identifier: MIT */
#include "../../agent/report/report_private.h"
#include "redact.h"
#include "test.h"
#include "text.h"
#include "timeline.h"
#include <pthread.h>
#include <string.h>

/* One span, as text. */
struct wanted_span {
	unsigned id;
	struct text seen;
};

static void describe(void *ctx, unsigned id, const struct span *s)
{
	struct wanted_span *w = ctx;

	if (id == w->id)
		text_addf(&w->seen, "%s %s below %u %s %s received=%llu etag=%s",
			timeline_kind_name(s->kind), s->name, s->parent, timeline_end_name(s->end),
			s->why != NULL ? s->why : "-",
			(unsigned long long)timeline_number(s, "received_bytes"),
			timeline_text(s, "etag") != NULL ? timeline_text(s, "etag") : "-");
}

static void check_span(struct timeline *t, unsigned id, const char *expected)
{
	struct wanted_span w = {.id = id};

	timeline_each(t, describe, &w);
	assert_string_equal(expected, w.seen.s);
	text_done(&w.seen);
}

TEST(timeline_records_what_was_done_and_how_it_ended)
{
	struct timeline *t = timeline_new();
	unsigned run = timeline_begin(t, 0, SPAN_RUN, "run");
	unsigned source = timeline_begin(t, run, SPAN_SOURCE, "x.tar");

	timeline_set_number(t, source, "received_bytes", 5);
	timeline_set_number(t, source, "received_bytes", 7);
	timeline_set_text(t, source, "etag", "\"1\"");
	timeline_end(t, source, SPAN_FAILED, "the disk is full");
	timeline_end(t, source, SPAN_OK, NULL); /* has ended already */
	check_span(t, run, "run run below 0 open - received=0 etag=-");
	check_span(t, source, "source x.tar below 1 failed the disk is full received=7 etag=\"1\"");
	timeline_free(t);
}

TEST(timeline_hides_secrets)
{
	struct timeline *t = timeline_new();
	unsigned id;

	redact_add("persimmon-timeline");
	id = timeline_begin(t, 0, SPAN_SOURCE, "a?key=persimmon-timeline");
	timeline_set_text(t, id, "etag", "persimmon-timeline");
	timeline_end(t, id, SPAN_FAILED, "no persimmon-timeline here");
	check_span(t, id, "source a?key=*** below 0 failed no *** here received=0 etag=***");
	timeline_free(t);
}

TEST(timeline_of_nobody_records_nothing)
{
	assert_int_equal(0, timeline_begin(NULL, 0, SPAN_RUN, "run"));
	timeline_set_number(NULL, 0, "received_bytes", 1);
	timeline_set_text(NULL, 0, "etag", "x");
	timeline_end(NULL, 0, SPAN_OK, NULL);
	assert_int_equal(0, timeline_dropped(NULL));
	timeline_free(NULL);
}

TEST(timeline_counts_the_spans_that_are_too_many)
{
	struct timeline *t = timeline_new();

	for (unsigned i = 1; i <= TIMELINE_SPANS_MAX; i++)
		assert_int_equal(i, timeline_begin(t, 0, SPAN_ACTION, "a"));
	assert_int_equal(0, timeline_begin(t, 0, SPAN_ACTION, "one too many"));
	timeline_set_number(t, 0, "received_bytes", 1);
	timeline_end(t, 0, SPAN_OK, NULL);
	assert_int_equal(1, timeline_dropped(t));
	timeline_free(t);
}

TEST(timeline_leaves_room_beside_many_ranges)
{
	struct timeline *t = timeline_new();

	for (unsigned i = 1; i <= TIMELINE_SPANS_MAX; i++)
		timeline_begin(t, 0, SPAN_RANGE, "r");
	assert_int_equal(TIMELINE_SPANS_MAX / 2, timeline_dropped(t));
	assert_int_not_equal(0, timeline_begin(t, 0, SPAN_ACTION, "a"));
	timeline_free(t);
}

static void *record_spans(void *arg)
{
	struct timeline *t = arg;

	for (unsigned i = 0; i < 500; i++) {
		unsigned id = timeline_begin(t, 0, SPAN_RANGE, "r");

		timeline_set_number(t, id, "received_bytes", i);
		timeline_end(t, id, SPAN_OK, NULL);
	}
	return NULL;
}

static void count_ended(void *ctx, unsigned id, const struct span *s)
{
	(void)id;
	*(unsigned *)ctx += s->end == SPAN_OK && s->ended_ns >= s->begin_ns;
}

TEST(timeline_is_recorded_by_several_threads_at_once)
{
	struct timeline *t = timeline_new();
	pthread_t threads[4];
	unsigned ended = 0;

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(0, pthread_create(&threads[i], NULL, record_spans, t));
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	timeline_each(t, count_ended, &ended);
	assert_int_equal(2000, ended);
	timeline_free(t);
}
