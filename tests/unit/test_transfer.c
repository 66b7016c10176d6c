/* SPDX-License-Identifier: MIT */
/* The engine against a server that behaves, or that does allowed but awkward things. */
#include "net.h"
#include "object.h"
#include "test.h"
#include "text.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TEST(transfer_delivers_an_object_over_many_ranges_byte_for_byte)
{
	struct net n;

	net_init(&n, 10000001);
	net_start(&n);
	assert_int_equal(10000001, net_fetch(&n));
	assert_true(fake_http_requests(n.server) > 30);
	assert_int_equal(10000001, counted(&n.progress.received));
	assert_int_equal(10000001, counted(&n.progress.consumed));
	assert_int_equal(10000001, counted(&n.progress.total));
	net_stop(&n);
}

TEST(transfer_asks_for_the_first_range_without_a_head_request_and_tells_the_identity)
{
	struct net n;
	struct object *o;

	net_init(&n, 300000);
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	assert_string_equal("\"v1\"", o->identity.etag);
	assert_string_equal("Tue, 15 Nov 1994 12:45:26 GMT", o->identity.last_modified);
	assert_int_equal(300000, o->identity.size);
	assert_true(o->seekable);
	object_close(o);
	assert_int_equal(1, fake_http_requests(n.server));
	assert_int_equal(0, fake_http_request(n.server, 0).first);
	assert_int_equal(64 * 1024 - 1, fake_http_request(n.server, 0).last);
	net_stop(&n);
}

TEST(transfer_sends_if_match_with_every_range_after_the_first)
{
	struct net n;

	net_init(&n, 2000000);
	net_start(&n);
	assert_int_equal(2000000, net_fetch(&n));
	for (unsigned i = 0; i < fake_http_requests(n.server); i++) {
		struct fake_request q = fake_http_request(n.server, i);

		assert_int_equal(i > 0, fake_header_is(&q, "If-Match", "\"v1\""));
		assert_true(fake_header_is(&q, "Accept-Encoding", "identity"));
	}
	net_stop(&n);
}

static void weak_etag(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	strcpy(r->etag, "W/\"v1\"");
}

TEST(transfer_sends_no_condition_with_a_weak_etag)
{
	struct net n;

	net_init(&n, 1000000);
	n.fake.script = weak_etag;
	net_start(&n);
	assert_int_equal(1000000, net_fetch(&n));
	for (unsigned i = 0; i < fake_http_requests(n.server); i++) {
		struct fake_request q = fake_http_request(n.server, i);

		assert_false(fake_has_header(&q, "If-Match"));
		assert_false(fake_has_header(&q, "If-Range"));
	}
	net_stop(&n);
}

static void no_ranges(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->status = 200;
	r->first = 0;
	r->len = r->content_length = *(uint64_t *)ctx;
}

TEST(transfer_streams_over_one_connection_from_a_server_without_ranges)
{
	struct net n;
	uint64_t size = 9000000; /* more than a stream may buffer */
	struct object *o;
	char c;

	net_init(&n, size);
	n.fake.script = no_ranges;
	n.fake.ctx = &size;
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	assert_false(o->seekable);
	assert_int_equal(-ERR_UNSUPPORTED, object_read_at(o, 0, &c, 1, &n.err));
	assert_int_equal(size, net_drain(&n, o));
	object_close(o);
	assert_int_equal(1, fake_http_requests(n.server));
	net_stop(&n);
}

TEST(transfer_does_not_take_a_stream_that_waits_for_its_reader_for_stalled)
{
	struct net n;
	uint64_t size = 9000000;
	struct object *o;

	net_init(&n, size);
	n.opts.stall_timeout_ms = 100;
	n.fake.script = no_ranges;
	n.fake.ctx = &size;
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	usleep(400000);
	assert_int_equal(size, net_drain(&n, o));
	object_close(o);
	net_stop(&n);
}

static void no_length(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	no_ranges(ctx, q, r);
	r->content_length = FAKE_NONE;
}

TEST(transfer_streams_a_body_of_unknown_length_to_its_end)
{
	struct net n;
	uint64_t size = 700000;
	struct object *o;

	net_init(&n, size);
	n.fake.script = no_length;
	n.fake.ctx = &size;
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	assert_true(o->identity.size == SIZE_UNKNOWN);
	assert_int_equal(size, net_drain(&n, o));
	object_close(o);
	net_stop(&n);
}

TEST(transfer_gives_an_empty_object_its_identity_when_the_server_answers_416)
{
	struct net n;
	struct object *o;

	net_init(&n, 0);
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	assert_int_equal(0, o->identity.size);
	assert_string_equal("\"v1\"", o->identity.etag);
	assert_int_equal(0, net_drain(&n, o));
	object_close(o);
	net_stop(&n);
}

TEST(transfer_gives_an_empty_object_when_the_server_answers_200)
{
	struct net n;
	uint64_t size = 0;

	net_init(&n, 0);
	n.fake.script = no_ranges;
	n.fake.ctx = &size;
	net_start(&n);
	assert_int_equal(0, net_fetch(&n));
	net_stop(&n);
}

TEST(transfer_finds_an_object_not_modified_with_one_request)
{
	struct net n;
	struct identity have = {.etag = "\"v1\"", .size = 5000};
	struct http_request req = {.name = "the object", .have = &have};
	struct object *o;

	net_init(&n, 5000);
	net_start(&n);
	req.url = n.url;
	req.cancel = &n.cancel;
	assert_int_equal(0, transfer_object_open(n.transfer, &req, &o, &n.err));
	assert_true(o->not_modified);
	assert_true(object_identity_same(&have, &o->identity));
	object_close(o);
	strcpy(have.etag, "\"v0\"");
	assert_int_equal(0, transfer_object_open(n.transfer, &req, &o, &n.err));
	assert_false(o->not_modified);
	assert_string_equal("\"v1\"", o->identity.etag);
	assert_int_equal(5000, net_drain(&n, o));
	object_close(o);
	net_stop(&n);
}

TEST(transfer_asks_for_one_byte_when_only_the_identity_is_wanted)
{
	struct net n;
	struct http_request req = {.name = "the object", .want = WANT_IDENTITY};
	struct object *o;

	net_init(&n, 5000000);
	net_start(&n);
	req.url = n.url;
	assert_int_equal(0, transfer_object_open(n.transfer, &req, &o, &n.err));
	assert_int_equal(5000000, o->identity.size);
	object_close(o);
	assert_int_equal(1, fake_http_requests(n.server));
	assert_int_equal(0, fake_http_request(n.server, 0).last);
	net_stop(&n);
}

struct many {
	struct net *n;
	pthread_t thread;
	int64_t got;
};

static void *fetch_one(void *ctx)
{
	struct many *m = ctx;
	struct http_request req = {
		.url = m->n->url, .name = "one of many", .cancel = &m->n->cancel};
	struct error err;
	struct object *o = NULL;
	struct slice s;

	m->got = transfer_object_open(m->n->transfer, &req, &o, &err);
	if (m->got < 0)
		return NULL;
	while (reader_next(object_stream(o), &s, &err) > 0) {
		if (s.data[0] != fake_byte(1, (uint64_t)m->got))
			break;
		m->got += (int64_t)s.len;
		slice_drop(&s);
	}
	object_close(o);
	return NULL;
}

TEST(transfer_brings_forty_objects_through_the_smallest_memory)
{
	struct many many[40];
	struct net n;

	net_init(&n, 1500000);
	n.network_bytes = 2 << 20; /* eight blocks: four objects at once, with nothing to share */
	net_start(&n);
	for (size_t i = 0; i < 40; i++) {
		many[i] = (struct many){.n = &n};
		pthread_create(&many[i].thread, NULL, fetch_one, &many[i]);
	}
	for (size_t i = 0; i < 40; i++) {
		pthread_join(many[i].thread, NULL);
		assert_int_equal(1500000, many[i].got);
	}
	net_stop(&n);
}

TEST(transfer_lets_one_object_finish_while_the_readers_of_others_sleep_on_full_windows)
{
	struct object *sleepers[2], *o;
	struct net n;

	net_init(&n, 3000000);
	n.network_bytes = 4 << 20;
	n.opts.connections = n.opts.connections_per_host = 2;
	net_start(&n);
	for (int i = 0; i < 2; i++) {
		struct slice s;

		assert_int_equal(0, net_open(&n, &sleepers[i]));
		assert_int_equal(1, reader_next(object_stream(sleepers[i]), &s, &n.err));
		/* As a decoder does that looked at the first bytes and now waits for memory. */
		object_stream(sleepers[i])->back = s;
	}
	usleep(100000);
	assert_int_equal(0, net_open(&n, &o));
	assert_int_equal(3000000, net_drain(&n, o));
	object_close(o);
	for (int i = 0; i < 2; i++) {
		reader_close(object_stream(sleepers[i]));
		object_close(sleepers[i]);
	}
	net_stop(&n);
}

static void slow_server(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)q;
	r->bytes_per_s = *(uint64_t *)ctx;
}

TEST(transfer_uses_more_connections_while_that_pays_and_never_more_than_the_cap)
{
	struct net n;
	uint64_t rate = 1 << 20;

	net_init(&n, 6 << 20);
	n.opts.connections_per_host = 6;
	n.opts.range_min = n.opts.range_max = 256 << 10;
	n.fake.script = slow_server;
	n.fake.ctx = &rate;
	net_start(&n);
	/* On a machine that pauses now and then, more connections do not always seem to pay. */
	for (int i = 0; i < 10 && fake_http_peak(n.server) < 6; i++)
		assert_int_equal(6 << 20, net_fetch(&n));
	assert_int_equal(6, fake_http_peak(n.server));
	net_stop(&n);
}

TEST(transfer_shares_a_hosts_connections_among_its_objects)
{
	struct many many[6];
	struct net n;
	uint64_t rate = 8 << 20;

	net_init(&n, 500000);
	n.opts.connections_per_host = 2;
	n.fake.script = slow_server;
	n.fake.ctx = &rate;
	net_start(&n);
	for (size_t i = 0; i < 6; i++) {
		many[i] = (struct many){.n = &n};
		pthread_create(&many[i].thread, NULL, fetch_one, &many[i]);
	}
	for (size_t i = 0; i < 6; i++) {
		pthread_join(many[i].thread, NULL);
		assert_int_equal(500000, many[i].got);
	}
	assert_int_equal(2, fake_http_peak(n.server));
	net_stop(&n);
}

TEST(transfer_buffers_little_for_a_reader_that_does_not_read)
{
	struct object *o;
	struct net n;

	net_init(&n, 64 << 20);
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	object_stream(o);
	usleep(400000);
	/* Twice four connections' worth of the smallest ranges. */
	assert_true(counted(&n.progress.received) <= 524288);
	assert_true(fake_http_peak(n.server) <= 4);
	object_close(o);
	net_stop(&n);
}

TEST(transfer_asks_for_no_more_when_enough_lies_before_its_reader)
{
	uint64_t rate = 32 << 20;
	struct object *o;
	struct net n;

	net_init(&n, 128 << 20);
	n.network_bytes = 128 << 20;
	n.opts.range_min = n.opts.range_max = 8 << 20;
	n.fake.script = slow_server;
	n.fake.ctx = &rate;
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	object_stream(o);
	usleep(700000);
	/* 8 MiB, and the ranges that were under way then: a machine that is slow to begin has up to eight. Without
	 * the pace it would be all 128 MiB. */
	assert_true(counted(&n.progress.received) <= 72 << 20);
	object_close(o);
	net_stop(&n);
}

TEST(transfer_skips_without_fetching_what_lies_between)
{
	struct object *o;
	struct net n;
	uint8_t byte;

	net_init(&n, 50 << 20);
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	assert_int_equal(0, reader_read(object_stream(o), &byte, 1, &n.err));
	assert_int_equal(0, reader_skip(object_stream(o), 40 << 20, &n.err));
	assert_int_equal(0, reader_read(object_stream(o), &byte, 1, &n.err));
	assert_int_equal(fake_byte(1, (40 << 20) + 1), byte);
	assert_int_equal(0, reader_skip(object_stream(o), (10 << 20) - 2, &n.err));
	assert_int_equal(-ERR_TRUNCATED, reader_skip(object_stream(o), 1, &n.err));
	assert_true(counted(&n.progress.received) < 8 << 20);
	reader_close(object_stream(o));
	object_close(o);
	net_stop(&n);
}

TEST(transfer_delivers_the_right_bytes_after_skips_of_every_size)
{
	struct object *o;
	struct net n;
	uint64_t at = 0;

	net_init(&n, 8 << 20);
	n.opts.range_min = n.opts.range_max = 10000;
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	for (uint64_t step = 1; at + step + 1 < 8 << 20; step += step / 2 + 1) {
		uint8_t byte;

		assert_int_equal(0, reader_skip(object_stream(o), step, &n.err));
		at += step;
		assert_int_equal(0, reader_read(object_stream(o), &byte, 1, &n.err));
		assert_int_equal(fake_byte(1, at), byte);
		at++;
	}
	reader_close(object_stream(o));
	object_close(o);
	net_stop(&n);
}

struct random_access {
	struct object *object;
	pthread_t thread;
	bool right;
};

static void *read_here_and_there(void *ctx)
{
	struct random_access *ra = ctx;
	uint8_t buf[5000];

	ra->right = true;
	for (uint64_t i = 0; i < 20; i++) {
		uint64_t offset = i * 123457;

		if (object_read_at(ra->object, offset, buf, sizeof(buf), NULL) < 0)
			ra->right = false;
		for (size_t b = 0; b < sizeof(buf); b++)
			ra->right &= buf[b] == fake_byte(1, offset + b);
	}
	return NULL;
}

TEST(transfer_reads_anywhere_from_several_threads_while_the_stream_runs)
{
	struct random_access ra[4];
	struct object *o;
	struct net n;

	net_init(&n, 4000000);
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	for (int i = 0; i < 4; i++) {
		ra[i] = (struct random_access){.object = o};
		pthread_create(&ra[i].thread, NULL, read_here_and_there, &ra[i]);
	}
	assert_int_equal(4000000, net_drain(&n, o));
	for (int i = 0; i < 4; i++) {
		pthread_join(ra[i].thread, NULL);
		assert_true(ra[i].right);
	}
	assert_int_equal(-ERR_TRUNCATED, object_read_at(o, 3999999, &n, 2, &n.err));
	object_close(o);
	net_stop(&n);
}

static void silent(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->first > 0) {
		r->stall_after = 0;
		r->stall_ms = 60000;
	}
}

static void *cancel_soon(void *ctx)
{
	struct net *n = ctx;

	usleep(100000);
	cancel_request(&n->cancel);
	return NULL;
}

TEST(transfer_wakes_a_sleeping_reader_when_it_is_cancelled)
{
	struct net n;
	pthread_t canceller;
	uint64_t began = now_ns();

	net_init(&n, 10 << 20);
	n.fake.script = silent;
	net_start(&n);
	pthread_create(&canceller, NULL, cancel_soon, &n);
	assert_int_equal(-ECANCELED, net_fetch(&n));
	assert_true(now_ns() - began < 5000000000);
	pthread_join(canceller, NULL);
	net_stop(&n);
}

TEST(transfer_wakes_a_cancelled_read_at_and_an_open)
{
	struct net n;
	struct object *o;
	pthread_t canceller;
	char buf[10];

	net_init(&n, 10 << 20);
	n.fake.script = silent;
	net_start(&n);
	assert_int_equal(0, net_open(&n, &o));
	pthread_create(&canceller, NULL, cancel_soon, &n);
	assert_int_equal(-ECANCELED, object_read_at(o, 5 << 20, buf, 10, &n.err));
	pthread_join(canceller, NULL);
	object_close(o);
	assert_int_equal(-ECANCELED, net_open(&n, &o));
	net_stop(&n);
}
