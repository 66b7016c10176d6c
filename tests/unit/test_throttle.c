/* SPDX-License-Identifier: MIT */
/* One rate for all that arrives: the arithmetic, and the two ways in which bytes come. */
#include "call.h"
#include "net.h"
#include "object.h"
#include "test.h"
#include "throttle.h"
#include <errno.h>
#include <stdlib.h>

#define SECOND 1000000000ull

TEST(throttle_none_never_waits)
{
	struct throttle *none = throttle_new(0);

	assert_null(none);
	throttle_count(none, 1 << 30, SECOND);
	assert_int_equal(0, throttle_due_ns(none, SECOND));
	assert_int_equal(64, throttle_connections(none, 64));
	throttle_free(none);
}

TEST(throttle_bytes_are_paid_for_before_more_are_taken)
{
	struct throttle *t = throttle_new(1000000);

	assert_int_equal(0, throttle_due_ns(t, 10 * SECOND));
	throttle_count(t, 1000000, 10 * SECOND);
	assert_true(throttle_due_ns(t, 10 * SECOND) > 10 * SECOND + 900000000);
	assert_true(throttle_due_ns(t, 10 * SECOND) <= 11 * SECOND);
	assert_int_equal(0, throttle_due_ns(t, 11 * SECOND));
	throttle_free(t);
}

TEST(throttle_an_hour_of_rest_saves_no_more_than_a_moment)
{
	struct throttle *t = throttle_new(1000000);

	throttle_count(t, 1, SECOND);
	throttle_count(t, 1000000, 3600 * SECOND);
	assert_true(throttle_due_ns(t, 3600 * SECOND) > 3600 * SECOND + 900000000);
	throttle_free(t);
}

TEST(throttle_few_connections_share_a_low_rate)
{
	struct throttle *low = throttle_new(1000), *high = throttle_new(1 << 30);

	assert_int_equal(2, throttle_connections(low, 64));
	assert_int_equal(1, throttle_connections(low, 1));
	assert_int_equal(64, throttle_connections(high, 64));
	throttle_free(low);
	throttle_free(high);
}

static uint64_t ms_since(uint64_t start_ns)
{
	return (now_ns() - start_ns) / 1000000;
}

TEST(throttle_ranges_of_an_object_keep_the_rate_together_byte_for_byte)
{
	struct throttle *t = throttle_new(8000000);
	uint64_t start = now_ns();
	struct net n;

	net_init(&n, 4000001);
	n.opts.throttle = t;
	net_start(&n);
	assert_int_equal(4000001, net_fetch(&n));
	assert_in_range(ms_since(start), 400, 3000);
	net_stop(&n);
	throttle_free(t);
}

static void one_stream(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->status = 200;
	r->first = 0;
	r->len = r->content_length = 2000000;
}

TEST(throttle_a_stream_without_ranges_keeps_the_rate)
{
	struct throttle *t = throttle_new(8000000);
	uint64_t start = now_ns();
	struct net n;

	net_init(&n, 2000000);
	n.opts.throttle = t;
	n.fake.script = one_stream;
	net_start(&n);
	assert_int_equal(2000000, net_fetch(&n));
	assert_in_range(ms_since(start), 180, 3000);
	net_stop(&n);
	throttle_free(t);
}

TEST(throttle_to_wait_for_the_rate_is_no_stall)
{
	struct throttle *t = throttle_new(40000);
	struct net n;

	net_init(&n, 60000);
	n.opts.throttle = t;
	/* Less than a piece takes, and more than a busy machine sleeps. */
	n.opts.stall_timeout_ms = 250;
	n.opts.retries = 0;
	net_start(&n);
	assert_int_equal(60000, net_fetch(&n));
	net_stop(&n);
	throttle_free(t);
}

static void cut_all(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->cut_after = 50000;
}

TEST(throttle_ranges_that_are_cut_while_they_wait_lose_no_byte)
{
	struct throttle *t = throttle_new(4000000);
	struct net n;

	net_init(&n, 1000000);
	n.opts.throttle = t;
	n.fake.script = cut_all;
	net_start(&n);
	assert_int_equal(1000000, net_fetch(&n));
	assert_int_equal(1000000, counted(&n.progress.received));
	net_stop(&n);
	throttle_free(t);
}

TEST(throttle_a_call_waits_too_and_hears_a_cancel)
{
	struct throttle *t = throttle_new(4000000);
	struct transfer_options network = {
		.connect_timeout_ms = 5000, .stall_timeout_ms = 50, .throttle = t};
	struct fake_http *server = fake_http_start(&(struct fake_options){.size = 1000000});
	char *url = fake_http_url(server, "/x");
	struct caller *caller = NULL;
	struct reply reply = {0};
	struct cancel cancel;
	struct error err;
	uint64_t start = now_ns();

	cancel_init(&cancel);
	assert_int_equal(0, call_caller_new(&network, &cancel, &caller, &err));
	assert_int_equal(
		0, call(caller, &(struct call){.method = "GET", .url = url}, &reply, &err));
	assert_int_equal(1000000, reply.body.len);
	assert_in_range(ms_since(start), 180, 3000);
	call_reply_done(&reply);
	throttle_count(t, 400000000, now_ns());
	cancel_request(&cancel);
	assert_int_equal(-ECANCELED,
		call(caller, &(struct call){.method = "GET", .url = url}, &reply, &err));
	call_caller_free(caller);
	cancel_done(&cancel);
	fake_http_stop(server);
	free(url);
	throttle_free(t);
}
