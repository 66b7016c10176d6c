/* SPDX-License-Identifier: MIT */
/* The engine against servers that break, lie, refuse and redirect: the outcome, what was asked for
 * again, and what the message says. */
#include "net.h"
#include "object.h"
#include "test.h"
#include "text.h"
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef void (*script_fn)(void *ctx, const struct fake_request *q, struct fake_reply *r);

static int64_t fetch(struct net *n, uint64_t size, script_fn script, void *ctx)
{
	n->fake.size = size;
	n->fake.script = script;
	n->fake.ctx = ctx;
	net_start(n);
	return net_fetch(n);
}

static void assert_says(const struct net *n, const char *words)
{
	if (strstr(n->err.msg, words) == NULL)
		fail_msg("'%s' does not say '%s'", n->err.msg, words);
}

static void refuse(struct fake_reply *r, int status, const char *text)
{
	r->status = status;
	r->text = text;
	r->content_length = strlen(text);
}

static void cut_third(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number == 2)
		r->cut_after = 1000;
}

TEST(transfer_resumes_a_cut_range_at_the_byte_where_it_broke)
{
	struct net n;
	uint64_t broken;
	bool resumed = false;

	net_init(&n, 0);
	assert_int_equal(500000, fetch(&n, 500000, cut_third, NULL));
	broken = fake_http_request(n.server, 2).first;
	for (unsigned i = 3; i < fake_http_requests(n.server); i++)
		resumed |= fake_http_request(n.server, i).first == broken + 1000;
	assert_true(resumed);
	assert_int_equal(500000, counted(&n.progress.received));
	net_stop(&n);
}

static void cut_always(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->cut_after = 10000;
}

TEST(transfer_never_gives_up_while_bytes_arrive)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(500000, fetch(&n, 500000, cut_always, NULL));
	net_stop(&n);
}

static void cut_at_once(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->first > 100000)
		r->cut_after = 0;
}

TEST(transfer_gives_up_after_the_retries_when_no_byte_arrives)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_HTTP, fetch(&n, 500000, cut_at_once, NULL));
	assert_says(&n, "the object: ");
	assert_says(&n, "gave up after 4 attempts");
	net_stop(&n);
}

static void replaced(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number < 3)
		return;
	strcpy(r->etag, "\"v2\"");
	r->seed = 2;
	if (fake_has_header(q, "If-Match"))
		refuse(r, 412, "");
}

TEST(transfer_sees_by_if_match_that_the_object_was_replaced)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_CHANGED, fetch(&n, 2000000, replaced, NULL));
	assert_says(
		&n, "the object was replaced on the server while it was read: its ETag changed");
	net_stop(&n);
}

static void replaced_weakly(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	snprintf(r->etag, sizeof(r->etag), "W/\"v%d\"", q->number < 3 ? 1 : 2);
	r->seed = q->number < 3 ? 1 : 2;
}

static void replaced_by_date(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	r->etag[0] = '\0';
	if (q->number < 3)
		return;
	strcpy(r->last_modified, "Wed, 16 Nov 1994 12:45:26 GMT");
	r->seed = 2;
}

static void replaced_by_longer(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	strcpy(r->etag, "W/\"v1\"");
	if (q->number < 3)
		return;
	r->range_total++;
	r->seed = 2;
}

static void replaced_and_ignoring_ranges(
	void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number < 3)
		return;
	strcpy(r->etag, "\"v2\"");
	r->status = 200;
	r->seed = 2;
}

static void loses_its_etag(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number < 3)
		return;
	r->status = 206;
	r->etag[0] = '\0';
	r->seed = 2;
}

static void loses_its_date(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	r->etag[0] = '\0';
	if (q->number < 3)
		return;
	r->last_modified[0] = '\0';
	r->seed = 2;
}

static void loses_its_size(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	r->etag[0] = '\0';
	if (q->number < 3)
		return;
	r->range_total = FAKE_NONE;
	r->seed = 2;
}

TEST(transfer_compares_every_response_with_the_first)
{
	static const script_fn scripts[] = {replaced_weakly, replaced_by_date, replaced_by_longer,
		replaced_and_ignoring_ranges, loses_its_etag, loses_its_date, loses_its_size};

	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		struct net n;

		net_init(&n, 0);
		assert_int_equal(-ERR_CHANGED, fetch(&n, 2000000, scripts[i], NULL));
		net_stop(&n);
	}
}

/* Nothing, and a weak ETag alone, tell two versions of the same size apart. */
static void names_no_version(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	r->last_modified[0] = '\0';
	snprintf(r->etag, sizeof(r->etag), "%s", (const char *)ctx);
	r->seed = q->number < 2 ? 1 : 2;
}

TEST(transfer_asks_for_one_whole_answer_when_nothing_names_a_version)
{
	static const char *const etags[] = {"", "W/\"v1\""};

	for (size_t i = 0; i < sizeof(etags) / sizeof(etags[0]); i++) {
		struct net n;

		net_init(&n, 0);
		assert_int_equal(2000000, fetch(&n, 2000000, names_no_version, (void *)etags[i]));
		assert_int_equal(2, fake_http_requests(n.server));
		assert_false(fake_http_request(n.server, 1).has_range);
		net_stop(&n);
	}
}

static void names_no_version_and_breaks(
	void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	names_no_version(ctx, q, r);
	if (!q->has_range)
		r->cut_after = 100000;
}

TEST(transfer_does_not_go_on_in_the_middle_when_nothing_names_a_version)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_RESTART, fetch(&n, 2000000, names_no_version_and_breaks, ""));
	assert_int_equal(2, fake_http_requests(n.server));
	net_stop(&n);
}

static void weak_and_strong(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number % 2 == 0)
		strcpy(r->etag, "W/\"v1\"");
}

TEST(transfer_compares_weak_etags_weakly)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(2000000, fetch(&n, 2000000, weak_and_strong, NULL));
	assert_true(fake_http_requests(n.server) > 5);
	net_stop(&n);
}

/* As if its condition had held. */
static void serve(struct fake_reply *r, const struct fake_request *q, uint64_t size)
{
	r->status = 206;
	r->text = NULL;
	r->range_first = r->first = q->first;
	r->range_last = q->last < size ? q->last : size - 1;
	r->range_total = size;
	r->content_length = r->len = r->range_last - r->first + 1;
}

/* Each of two servers makes an ETag of its own for the same bytes. */
static void edge(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	const char *mine = q->number % 2 == 0 ? "\"a\"" : "\"b\"";

	(void)ctx;
	strcpy(r->etag, mine);
	if (fake_has_header(q, "If-Match") && !fake_header_is(q, "If-Match", mine))
		refuse(r, 412, "");
	else if (r->status == 412)
		serve(r, q, 2000000);
}

TEST(transfer_reads_what_differs_in_its_etag_alone_again_as_one_answer)
{
	struct object *o = NULL;
	unsigned whole = 0;
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_CHANGED, fetch(&n, 2000000, edge, NULL));
	assert_int_equal(0, net_open(&n, &o));
	assert_string_equal("", o->identity.etag);
	assert_int_equal(2000000, net_drain(&n, o));
	object_close(o);
	for (unsigned i = 0; i < fake_http_requests(n.server); i++)
		whole += !fake_http_request(n.server, i).has_range;
	assert_int_equal(1, whole);
	net_stop(&n);
}

static void replaced_at_another_time(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	replaced(ctx, q, r);
	if (q->number >= 3)
		strcpy(r->last_modified, "Wed, 16 Nov 1994 12:45:26 GMT");
}

TEST(transfer_reads_what_was_replaced_in_ranges_again)
{
	struct object *o = NULL;
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_CHANGED, fetch(&n, 2000000, replaced_at_another_time, NULL));
	assert_int_equal(0, net_open(&n, &o));
	assert_string_equal("\"v2\"", o->identity.etag);
	assert_true(o->seekable);
	object_close(o);
	net_stop(&n);
}

static void ignores_ranges_later(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number == 0)
		return;
	r->status = 200;
	r->first = 0;
	r->len = r->content_length = 500000;
}

TEST(transfer_reads_what_a_server_stops_to_send_in_ranges_again_as_one_answer)
{
	struct object *o = NULL;
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_RESTART, fetch(&n, 500000, ignores_ranges_later, NULL));
	assert_says(&n, "answered 200 with the whole object where it had served ranges before");
	assert_int_equal(0, net_open(&n, &o));
	assert_false(o->seekable);
	object_close(o);
	net_stop(&n);
}

static void busy_once(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number != 1)
		return;
	refuse(r, 503, "busy");
	strcpy(r->headers, "Retry-After: 1\r\n");
}

TEST(transfer_waits_as_long_as_a_503_says)
{
	struct net n;
	uint64_t began = now_ns();

	net_init(&n, 0);
	assert_int_equal(500000, fetch(&n, 500000, busy_once, NULL));
	assert_true(now_ns() - began >= 1000000000);
	assert_true(now_ns() - began < 10000000000);
	net_stop(&n);
}

static void busy_until_a_date(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	time_t then = time(NULL) + 2;
	struct tm tm;

	(void)ctx;
	if (q->number != 0)
		return;
	refuse(r, 429, "");
	gmtime_r(&then, &tm);
	strftime(r->headers, sizeof(r->headers), "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
}

TEST(transfer_understands_retry_after_as_a_date)
{
	struct net n;
	uint64_t began = now_ns();

	net_init(&n, 0);
	assert_int_equal(1000, fetch(&n, 1000, busy_until_a_date, NULL));
	assert_true(now_ns() - began >= 900000000);
	net_stop(&n);
}

static void passing_troubles(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	static const int statuses[] = {500, 502, 408};

	(void)ctx;
	if (q->number < 3)
		refuse(r, statuses[q->number], "");
}

TEST(transfer_retries_what_a_server_gets_over)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(1000, fetch(&n, 1000, passing_troubles, NULL));
	assert_int_equal(4, fake_http_requests(n.server));
	net_stop(&n);
}

static void s3_timeout(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number == 0)
		refuse(r, 400, "<Error><Code>RequestTimeout</Code></Error>");
}

TEST(transfer_retries_the_400_that_s3_answers_to_a_slow_request)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(1000, fetch(&n, 1000, s3_timeout, NULL));
	net_stop(&n);
}

static void refuse_with(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)q;
	refuse(r, *(int *)ctx, "no");
}

TEST(transfer_asks_no_more_when_the_answer_is_final)
{
	static const struct {
		int status,
			requests; /* a second one, without Range, where that may be the reason */
		const char *says;
	} cases[] = {
		{404, 1, "the server answered 404 Status; check the spelling of the URL"},
		{403, 2, "check the credentials"},
		{401, 1, "give credentials"},
		{400, 2, "the server answered 400 Status"},
		{410, 1, "check the spelling"},
		{501, 2, "the server answered 501 Status; the fault is the server's"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct net n;
		int status = cases[i].status;

		net_init(&n, 0);
		assert_int_equal(-ERR_HTTP, fetch(&n, 1000, refuse_with, &status));
		assert_says(&n, cases[i].says);
		assert_int_equal(cases[i].requests, fake_http_requests(n.server));
		net_stop(&n);
	}
}

static void stall_third(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number == 2) {
		r->stall_after = 5000;
		r->stall_ms = 60000;
	}
}

TEST(transfer_retries_a_range_that_stalls)
{
	struct net n;
	uint64_t began = now_ns();

	net_init(&n, 0);
	n.opts.stall_timeout_ms = 200;
	assert_int_equal(500000, fetch(&n, 500000, stall_third, NULL));
	assert_true(now_ns() - began < 10000000000);
	net_stop(&n);
}

static void stall_always(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->stall_after = 0;
	r->stall_ms = 60000;
}

TEST(transfer_gives_up_on_a_server_that_stalls_each_time)
{
	struct net n;

	net_init(&n, 0);
	n.opts.stall_timeout_ms = 50;
	assert_int_equal(-ERR_HTTP, fetch(&n, 500000, stall_always, NULL));
	assert_says(&n, "no byte arrived for 50 ms: stall_timeout in [network] of agent.ini (gave "
			"up after 4 attempts)");
	net_stop(&n);
}

static void stream_and_cut(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->status = 200;
	r->first = 0;
	r->len = r->content_length = 500000;
	r->cut_after = 300000;
}

TEST(transfer_asks_for_a_restart_when_a_stream_without_ranges_breaks)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_RESTART, fetch(&n, 500000, stream_and_cut, NULL));
	assert_says(&n, "this server cannot continue in the middle");
	assert_int_equal(1, fake_http_requests(n.server));
	net_stop(&n);
}

static void wrong_content_range(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number > 0)
		r->range_first += 10;
}

TEST(transfer_refuses_a_wrong_content_range_after_retries)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_HTTP, fetch(&n, 200000, wrong_content_range, NULL));
	assert_says(&n, "the server's Content-Range says");
	assert_says(&n, "gave up after 4 attempts");
	net_stop(&n);
}

static void longer_body(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number == 0)
		return;
	r->content_length = FAKE_NONE;
	r->len += 20;
}

TEST(transfer_refuses_a_body_longer_than_promised)
{
	struct net n;

	net_init(&n, 0);
	n.opts.range_min = 10000;
	n.opts.range_max = 10000;
	assert_int_equal(-ERR_HTTP, fetch(&n, 50000, longer_body, NULL));
	assert_says(&n, "sent more bytes than its Content-Range promised");
	net_stop(&n);
}

static void contradictory_lengths(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->content_length++;
	r->len++;
}

TEST(transfer_refuses_a_content_length_that_contradicts_the_content_range)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_HTTP, fetch(&n, 50000, contradictory_lengths, NULL));
	assert_says(&n, "promises 50000 bytes in Content-Range and 50001 in Content-Length");
	net_stop(&n);
}

static void shorter_once(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number != 1)
		return;
	r->content_length = FAKE_NONE;
	r->len -= 100;
}

TEST(transfer_fetches_what_a_short_body_left_out)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(200000, fetch(&n, 200000, shorter_once, NULL));
	net_stop(&n);
}

static void shorter_ranges(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	if (r->len < 2)
		return;
	r->len /= 2;
	r->content_length = r->len;
	r->range_last = r->range_first + r->len - 1;
}

TEST(transfer_accepts_a_server_that_serves_less_than_asked_for)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(200000, fetch(&n, 200000, shorter_ranges, NULL));
	net_stop(&n);
}

static void brotli(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	strcpy(r->headers, "Content-Encoding: br\r\n");
}

TEST(transfer_refuses_a_content_encoding_that_nobody_could_undo)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_HTTP, fetch(&n, 1000, brotli, NULL));
	assert_says(&n, "Content-Encoding 'br'");
	net_stop(&n);
}

/* Redirects. */

enum { URLS_MAX = 1000 };

struct hosts {
	struct fake_http *other;
	atomic_uint presigned, refused;
	atomic_uint uses[URLS_MAX];
};

static void to_other_host(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	struct hosts *h = ctx;

	refuse(r, 302, "");
	if (strcmp(q->path, "/object") == 0)
		strcpy(r->headers, "Location: /moved\r\n");
	else
		snprintf(r->headers, sizeof(r->headers),
			"Location: http://127.0.0.1:%u/there?sig=x\r\n", fake_http_port(h->other));
}

TEST(transfer_follows_redirects_and_sends_configured_headers_to_their_host_alone)
{
	struct fake_options there = {.size = 300000};
	struct hosts h = {.other = fake_http_start(&there)};
	const char *headers[2] = {NULL};
	char *header;
	struct net n;

	net_init(&n, 0);
	n.fake.script = to_other_host;
	n.fake.ctx = &h;
	n.opts.headers = headers;
	/* The header's host is known when the server has its port. */
	header = text_format("http://127.0.0.1:1 X-Secret: s");
	headers[0] = header;
	net_start(&n);
	free(header);
	headers[0] = header =
		text_format("http://127.0.0.1:%u/ X-Secret: s", fake_http_port(n.server));
	assert_int_equal(300000, net_fetch(&n));
	assert_int_equal(2, fake_http_requests(n.server));
	for (unsigned i = 0; i < 2; i++) {
		struct fake_request q = fake_http_request(n.server, i);

		assert_true(fake_header_is(&q, "X-Secret", "s"));
	}
	assert_true(fake_http_requests(h.other) > 2);
	for (unsigned i = 0; i < fake_http_requests(h.other); i++) {
		struct fake_request q = fake_http_request(h.other, i);

		assert_string_equal("/there?sig=x", q.path);
		assert_false(fake_has_header(&q, "X-Secret"));
	}
	net_stop(&n);
	fake_http_stop(h.other);
	free(header);
}

TEST(transfer_sends_netrc_credentials_to_their_host_alone)
{
	struct fake_options there = {.size = 1000};
	struct hosts h = {.other = fake_http_start(&there)};
	char *dir = test_directory();
	char *netrc = text_format("%s/netrc", dir);
	FILE *f = fopen(netrc, "we");
	struct fake_request q;
	struct net n;

	fputs("machine localhost login u password p\n", f);
	fclose(f);
	net_init(&n, 0);
	n.opts.netrc_file = netrc;
	n.fake.script = to_other_host;
	n.fake.ctx = &h;
	net_start(&n);
	free(n.url);
	n.url = text_format("http://localhost:%u/object", fake_http_port(n.server));
	assert_int_equal(1000, net_fetch(&n));
	q = fake_http_request(n.server, 0);
	assert_true(fake_header_is(&q, "Authorization", "Basic dTpw"));
	q = fake_http_request(h.other, 0);
	assert_false(fake_has_header(&q, "Authorization"));
	net_stop(&n);
	fake_http_stop(h.other);
	free(netrc);
	free(dir);
}

/* To the same host, but to another origin: the other server's port, or another name of the host. */
static void to_other_origin(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)q;
	refuse(r, 302, "");
	snprintf(r->headers, sizeof(r->headers), "Location: %s\r\n", (const char *)ctx);
}

TEST(transfer_sends_no_credential_to_another_origin)
{
	static const char *const targets[] = {
		"http://localhost", "http://127.0.0.1", "//localhost", "http://u:p@localhost"};

	for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
		struct fake_options there = {.size = 100000};
		struct fake_http *other = fake_http_start(&there);
		char *dir = test_directory();
		char *netrc = text_format("%s/netrc", dir);
		char *location = NULL;
		char *header =
			text_format("http://localhost:%u/ X-Secret: s", fake_http_port(other));
		const char *headers[] = {header, "http://127.0.0.1 X-Secret: s", NULL};
		FILE *f = fopen(netrc, "we");
		struct net n;

		location = text_format("%s:%u/there", targets[i], fake_http_port(other));
		fputs("machine localhost login u password p\n"
		      "machine 127.0.0.1 login u password p\n",
			f);
		fclose(f);
		net_init(&n, 0);
		n.opts.netrc_file = netrc;
		n.opts.headers = headers;
		n.fake.script = to_other_origin;
		n.fake.ctx = location;
		net_start(&n);
		free(n.url);
		n.url = text_format("http://me:pw@localhost:%u/object", fake_http_port(n.server));
		assert_int_equal(100000, net_fetch(&n));
		for (unsigned k = 0; k < fake_http_requests(other); k++) {
			struct fake_request q = fake_http_request(other, k);

			assert_false(fake_has_header(&q, "Authorization"));
			assert_false(fake_has_header(&q, "X-Secret"));
			assert_false(fake_has_header(&q, "Cookie"));
		}
		net_stop(&n);
		fake_http_stop(other);
		free(header);
		free(location);
		free(netrc);
		free(dir);
	}
}

/* As presigned URLs do: each is good for a while, here for as many requests as there are connections,
 * so that one has succeeded before one is refused. */
static void expiring(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	struct hosts *h = ctx;
	unsigned which = 0;

	if (strcmp(q->path, "/object") == 0) {
		refuse(r, 307, "");
		snprintf(r->headers, sizeof(r->headers), "Location: /presigned?%u\r\n",
			h->presigned++ % URLS_MAX);
	} else if (sscanf(q->path, "/presigned?%u", &which) != 1 || h->uses[which]++ >= 8) {
		h->refused++;
		refuse(r, 403, "expired");
	}
}

TEST(transfer_asks_the_original_url_again_when_a_presigned_one_expires)
{
	struct hosts h = {0};
	struct net n;

	net_init(&n, 0);
	n.opts.range_min = n.opts.range_max = 10000;
	assert_int_equal(500000, fetch(&n, 500000, expiring, &h));
	assert_true(h.refused > 2);
	net_stop(&n);
}

static void expired_for_good(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	expiring(ctx, q, r);
	if (strncmp(q->path, "/presigned", 10) == 0 && q->number > 5)
		refuse(r, 403, "expired");
}

TEST(transfer_gives_up_when_a_fresh_presigned_url_is_refused_as_well)
{
	struct hosts h = {0};
	struct net n;

	net_init(&n, 0);
	n.opts.range_min = n.opts.range_max = 10000;
	assert_int_equal(-ERR_HTTP, fetch(&n, 500000, expired_for_good, &h));
	assert_says(&n, "the server answered 403");
	net_stop(&n);
}

static void circle(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	refuse(r, 301, "");
	strcpy(r->headers, "Location: /object\r\n");
}

TEST(transfer_gives_up_on_a_circle_of_redirects)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_HTTP, fetch(&n, 1000, circle, NULL));
	assert_says(&n, "more than 10 redirects");
	assert_int_equal(11, fake_http_requests(n.server));
	net_stop(&n);
}

static void to_a_file(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	refuse(r, 302, "");
	strcpy(r->headers, "Location: file:///etc/passwd\r\n");
}

TEST(transfer_follows_redirects_to_http_and_https_only)
{
	struct net n;

	net_init(&n, 0);
	assert_int_equal(-ERR_HTTP, fetch(&n, 1000, to_a_file, NULL));
	net_stop(&n);
}

TEST(transfer_retries_and_then_names_a_server_that_refuses_connections)
{
	struct net n;

	net_init(&n, 0);
	n.fake.size = 1000;
	net_start(&n);
	free(n.url);
	n.url = text_copy("http://127.0.0.1:1/x");
	assert_int_equal(-ERR_HTTP, net_fetch(&n));
	assert_says(&n, "127.0.0.1 port 1");
	assert_says(&n, "gave up after 4 attempts");
	net_stop(&n);
}

TEST(transfer_says_what_to_check_when_a_proxy_wants_a_password)
{
	struct net n;
	char *proxy;
	int status = 407;

	net_init(&n, 0);
	n.fake.script = refuse_with;
	n.fake.ctx = &status;
	net_start(&n);
	proxy = text_format("http://127.0.0.1:%u", fake_http_port(n.server));
	/* No request is under way, so nobody looks. NOLINTBEGIN(concurrency-mt-unsafe) */
	setenv("https_proxy", proxy, 1);
	free(n.url);
	n.url = text_copy("https://host.invalid/x");
	assert_int_equal(-ERR_HTTP, net_fetch(&n));
	unsetenv("https_proxy");
	/* NOLINTEND(concurrency-mt-unsafe) */
	assert_says(&n, "the proxy answered 407; check the user and password in https_proxy");
	assert_int_equal(1, fake_http_requests(n.server));
	net_stop(&n);
	free(proxy);
}

TEST(transfer_refuses_malformed_header_settings_without_showing_values)
{
	static const char *const wrong[] = {
		"X-Token: secret", "https://h X-Token", "ftp://h A: b", "https://h A : secret"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		const char *headers[] = {wrong[i], NULL};
		struct transfer_options opts = {.connections = 1,
			.connections_per_host = 1,
			.range_min = 1,
			.headers = headers};
		struct transfer *t = NULL;
		struct error err;

		assert_int_equal(-ERR_CONFIG, transfer_new(NULL, &opts, 1 << 20, &t, &err));
		assert_null(strstr(err.msg, "secret"));
	}
}

TEST(transfer_with_headers_needs_no_source)
{
	const char *headers[] = {"https://host/ X-Token: secret", NULL};
	struct net n;

	net_init(&n, 0);
	n.opts.headers = headers;
	net_start(&n);
	net_stop(&n);
}

/* libcurl takes no text of more than 8 MB. */
TEST(transfer_reports_what_libcurl_does_not_take)
{
	struct net n;
	char *netrc = zalloc(8000002);

	memset(netrc, 'x', 8000001);
	net_init(&n, 1000);
	net_start(&n);
	n.opts.netrc_file = netrc; /* behind the look at the start whether it can be read */
	assert_int_equal(-ERR_HTTP, net_fetch(&n));
	assert_int_equal(0, fake_http_requests(n.server));
	net_stop(&n);
	free(netrc);
}

static void trickles(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	static const char *const location = "Location: /there\r\n";

	if (strcmp(q->path, "/there") == 0)
		return;
	r->status = *(int *)ctx;
	snprintf(r->headers, sizeof(r->headers), "%s", r->status == 302 ? location : "");
	r->bytes_per_s = 20;
	r->piece = 1;
}

TEST(transfer_gives_a_body_that_nobody_wants_the_time_of_one_stall)
{
	static const struct {
		int status;
		int64_t comes_to;
	} cases[] = {{302, 50000}, {404, -ERR_HTTP}, {204, -ERR_HTTP}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t began = now_ns();
		int status = cases[i].status;
		struct net n;

		net_init(&n, 0);
		n.opts.stall_timeout_ms = 300;
		assert_int_equal(cases[i].comes_to, fetch(&n, 50000, trickles, &status));
		assert_true(now_ns() - began < 20000000000);
		if (status == 404)
			assert_says(&n, "answered 404");
		net_stop(&n);
	}
}

static void one_byte_a_connection(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->cut_after = 1;
}

static void one_byte_an_answer(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->len = r->content_length = 1;
	r->range_last = r->range_first;
}

TEST(transfer_takes_a_byte_at_a_time_for_no_progress)
{
	static const script_fn scripts[] = {one_byte_a_connection, one_byte_an_answer};

	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		struct net n;

		net_init(&n, 0);
		n.opts.connections_per_host = 1;
		assert_int_equal(-ERR_HTTP, fetch(&n, 500000, scripts[i], NULL));
		assert_says(&n, "gave up after 4 attempts");
		assert_true(fake_http_requests(n.server) < 30);
		net_stop(&n);
	}
}

TEST(transfer_refuses_a_ca_file_that_is_not_there)
{
	struct transfer_options opts = {.connections = 1,
		.connections_per_host = 1,
		.range_min = 1,
		.ca_file = "/nowhere.pem"};
	struct transfer *t = NULL;
	struct error err;

	assert_int_equal(-ERR_CONFIG, transfer_new(NULL, &opts, 1 << 20, &t, &err));
	assert_non_null(strstr(err.msg, "/nowhere.pem"));
}
