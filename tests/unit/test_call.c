/* SPDX-License-Identifier: MIT */
/* One request and its answer on the caller's own thread. */
#include "call.h"
#include "defer.h"
#include "fake_http.h"
#include "progress.h"
#include "test.h"
#include "text.h"
#include <pthread.h>
#include <string.h>
#include <unistd.h>

struct fixture {
	struct transfer_options network;
	struct fake_http *server;
	struct cancel cancel;
	struct caller *caller;
	struct reply reply;
	struct error err;
	char *url;
};

static void begin(struct fixture *f, const struct fake_options *fake)
{
	*f = (struct fixture){.network = {.connect_timeout_ms = 5000, .stall_timeout_ms = 5000}};
	cancel_init(&f->cancel);
	f->server = fake_http_start(fake);
	f->url = fake_http_url(f->server, "/bucket/key?secret=in-the-query");
	assert_int_equal(0, call_caller_new(&f->network, &f->cancel, &f->caller, &f->err));
}

static void end(struct fixture *f)
{
	call_reply_done(&f->reply);
	call_caller_free(f->caller);
	fake_http_stop(f->server);
	cancel_done(&f->cancel);
	free(f->url);
}

static int ask(struct fixture *f, const struct call *what)
{
	call_reply_done(&f->reply);
	return call(f->caller, what, &f->reply, &f->err);
}

static uint64_t ms_since(uint64_t start_ns)
{
	return (now_ns() - start_ns) / 1000000;
}

TEST(call_returns_status_headers_and_body)
{
	struct fixture f;

	begin(&f, &(struct fake_options){.size = 5000});
	assert_int_equal(0, ask(&f, &(struct call){.method = "GET", .url = f.url}));
	assert_int_equal(200, f.reply.status);
	assert_int_equal(5000, f.reply.body.len);
	for (size_t i = 0; i < 5000; i++)
		assert_int_equal(fake_byte(1, i), (uint8_t)f.reply.body.s[i]);
	assert_string_equal("\"v1\"", call_reply_header(&f.reply, "ETag"));
	assert_string_equal("5000", call_reply_header(&f.reply, "content-length"));
	assert_null(call_reply_header(&f.reply, "etagg"));
	end(&f);
}

TEST(call_keeps_its_connection_for_the_next_call)
{
	struct fixture f;

	begin(&f, &(struct fake_options){.size = 100});
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(0, ask(&f, &(struct call){.method = "GET", .url = f.url}));
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(0, fake_http_request(f.server, i).connection);
	end(&f);
}

static void close_after_the_first(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx;
	if (q->number == 0)
		r->closes = true;
}

TEST(call_sends_a_body_again_when_the_kept_connection_was_closed_by_the_server)
{
	struct fixture f;
	struct call put = {.body_len = 300000, .method = "PUT"};
	_free_ char *body = zalloc(put.body_len);
	int code = -EAGAIN;

	memset(body, 'x', put.body_len);
	begin(&f, &(struct fake_options){.size = 10, .script = close_after_the_first});
	put.url = f.url;
	put.body = body;
	assert_int_equal(0, ask(&f, &put));
	/* -EAGAIN: the server's reset came in the midst of the body. Callers ask again then. */
	for (unsigned i = 0; i < 3 && code == -EAGAIN; i++)
		code = ask(&f, &put);
	assert_int_equal(0, code);
	assert_int_equal(200, f.reply.status);
	assert_int_equal(300000, fake_http_request(f.server, 1).body_len);
	end(&f);
}

TEST(call_sends_a_body_without_waiting_for_leave)
{
	struct fixture f;
	struct call put = {.body_len = 3000000, .method = "PUT"};
	_free_ char *body = zalloc(put.body_len);
	uint64_t took = UINT64_MAX;

	memset(body, 'y', put.body_len);
	begin(&f, &(struct fake_options){.size = 0});
	put.url = f.url;
	put.body = body;
	/* A second of waiting would be seen each time; a busy machine can make any one of them long. */
	for (unsigned i = 0; i < 5 && took >= 700; i++) {
		uint64_t start = now_ns();
		struct fake_request q;

		assert_int_equal(0, ask(&f, &put));
		took = ms_since(start);
		q = fake_http_request(f.server, i);
		assert_string_equal("PUT", q.method);
		assert_int_equal(3000000, q.body_len);
	}
	assert_true(took < 700);
	end(&f);
}

TEST(call_sends_methods_with_and_without_a_body)
{
	static const struct {
		const char *method, *body, *length;
	} cases[] = {
		{"GET", NULL, NULL},
		{"HEAD", NULL, NULL},
		{"DELETE", NULL, NULL},
		{"PUT", NULL, "0"},
		{"POST", NULL, "0"},
		{"PUT", "", "0"},
		{"POST", "a=b", "3"},
	};
	struct fixture f;

	begin(&f, &(struct fake_options){.size = 10});
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct call what = {.method = cases[i].method,
			.url = f.url,
			.body = cases[i].body,
			.body_len = cases[i].body != NULL ? strlen(cases[i].body) : 0};
		struct fake_request q;

		assert_int_equal(0, ask(&f, &what));
		q = fake_http_request(f.server, i);
		assert_string_equal(cases[i].method, q.method);
		assert_int_equal(cases[i].length != NULL, fake_has_header(&q, "Content-Length"));
		if (cases[i].length != NULL)
			assert_true(fake_header_is(&q, "Content-Length", cases[i].length));
		if (cases[i].body != NULL)
			assert_string_equal(cases[i].body, q.body);
		assert_int_equal(0, q.connection);
	}
	end(&f);
}

TEST(call_puts_a_good_answers_body_where_it_is_wanted)
{
	struct fixture f;
	uint8_t buf[64];

	begin(&f, &(struct fake_options){.size = 1000});
	assert_int_equal(0, ask(&f, &(struct call){.method = "GET",
					    .url = f.url,
					    .headers = (const char *[]){"Range: bytes=10-59", NULL},
					    .into = buf,
					    .into_len = sizeof(buf)}));
	assert_int_equal(206, f.reply.status);
	assert_int_equal(50, f.reply.into_len);
	assert_int_equal(0, f.reply.body.len);
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(fake_byte(1, 10 + i), buf[i]);
	end(&f);
}

TEST(call_refuses_an_answer_that_is_longer_than_its_place)
{
	struct fixture f;
	uint8_t buf[64];

	begin(&f, &(struct fake_options){.size = 1000});
	assert_int_equal(-ERR_HTTP, ask(&f, &(struct call){.method = "GET",
						    .url = f.url,
						    .into = buf,
						    .into_len = sizeof(buf)}));
	assert_non_null(strstr(f.err.msg, "more than the 64 bytes"));
	end(&f);
}

static void say_no(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->status = 403;
	r->text = "<Error><Code>AccessDenied</Code></Error>";
	r->content_length = strlen(r->text);
	strcpy(r->headers, "Location: /elsewhere\r\nX-Amz-Request-Id:  tx1 \r\n");
}

TEST(call_gives_an_errors_body_apart_from_the_place_for_a_good_one)
{
	struct fixture f;
	uint8_t buf[4] = {0};

	begin(&f, &(struct fake_options){.size = 10, .script = say_no});
	assert_int_equal(0, ask(&f, &(struct call){.method = "GET",
					    .url = f.url,
					    .into = buf,
					    .into_len = sizeof(buf)}));
	assert_int_equal(403, f.reply.status);
	assert_int_equal(0, f.reply.into_len);
	assert_string_equal("<Error><Code>AccessDenied</Code></Error>", f.reply.body.s);
	assert_string_equal("tx1", call_reply_header(&f.reply, "x-amz-request-id"));
	end(&f);
}

static void redirect(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->status = 301;
	strcpy(r->headers, "Location: /elsewhere\r\n");
}

TEST(call_follows_no_redirect)
{
	struct fixture f;

	begin(&f, &(struct fake_options){.size = 10, .script = redirect});
	assert_int_equal(0, ask(&f, &(struct call){.method = "GET", .url = f.url}));
	assert_int_equal(301, f.reply.status);
	assert_int_equal(1, fake_http_requests(f.server));
	end(&f);
}

TEST(call_signs_for_s3_with_token_and_unsigned_payload)
{
	struct fixture f;
	struct call_signature s = {.region = "eu-west-3",
		.service = "s3",
		.access_key = "AKIDEXAMPLE",
		.secret_key = "wJalr:colon",
		.session_token = "the-token"};
	struct fake_request q;

	begin(&f, &(struct fake_options){.size = 10});
	assert_int_equal(0, ask(&f, &(struct call){.method = "PUT",
					    .url = f.url,
					    .body = "abc",
					    .body_len = 3,
					    .headers = (const char *[]){"If-None-Match: *", NULL},
					    .signature = &s}));
	q = fake_http_request(f.server, 0);
	assert_non_null(
		strstr(q.headers, "Authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
	assert_non_null(strstr(q.headers, "/eu-west-3/s3/aws4_request"));
	assert_true(fake_header_is(&q, "x-amz-content-sha256", "UNSIGNED-PAYLOAD"));
	assert_true(fake_header_is(&q, "x-amz-security-token", "the-token"));
	assert_true(fake_has_header(&q, "x-amz-date"));
	assert_non_null(strstr(q.headers,
		"SignedHeaders=content-type;host;if-none-match;x-amz-content-sha256;x-amz-date;"
		"x-amz-security-token,"));
	assert_true(fake_header_is(&q, "Content-Type", "application/octet-stream"));
	end(&f);
}

TEST(call_signs_nothing_after_a_call_that_was_signed)
{
	struct fixture f;
	struct call_signature s = {
		.region = "r", .service = "sts", .access_key = "AKIDEXAMPLE", .secret_key = "s"};
	struct fake_request q;

	begin(&f, &(struct fake_options){.size = 10});
	assert_int_equal(
		0, ask(&f, &(struct call){.method = "GET", .url = f.url, .signature = &s}));
	assert_int_equal(0, ask(&f, &(struct call){.method = "GET", .url = f.url}));
	q = fake_http_request(f.server, 0);
	assert_true(fake_has_header(&q, "Authorization"));
	assert_false(fake_has_header(&q, "x-amz-content-sha256"));
	q = fake_http_request(f.server, 1);
	assert_false(fake_has_header(&q, "Authorization"));
	end(&f);
}

TEST(call_asks_for_a_path_with_dots_as_it_is)
{
	struct fixture f;
	_free_ char *url = NULL;

	begin(&f, &(struct fake_options){.size = 10});
	url = fake_http_url(f.server, "/b/a/../c/./d");
	assert_int_equal(0, ask(&f, &(struct call){.method = "GET", .url = url}));
	assert_string_equal("/b/a/../c/./d", fake_http_request(f.server, 0).path);
	end(&f);
}

TEST(call_calls_a_refused_connection_transient_and_names_no_query)
{
	struct fixture f;
	int code;

	begin(&f, &(struct fake_options){.size = 10});
	free(f.url);
	f.url = text_copy("http://127.0.0.1:1/path?secret=in-the-query");
	code = ask(&f, &(struct call){.method = "GET", .url = f.url});
	assert_true(call_is_transient(code));
	assert_int_equal(code, f.err.code);
	assert_non_null(strstr(f.err.msg, "GET http://127.0.0.1:1/path: Failed to connect"));
	assert_null(strstr(f.err.msg, "in-the-query"));
	end(&f);
}

TEST(call_calls_a_malformed_url_permanent)
{
	struct fixture f;
	int code;

	begin(&f, &(struct fake_options){.size = 10});
	code = ask(&f, &(struct call){.method = "GET", .url = "http://[::1/x"});
	assert_int_equal(-ERR_HTTP, code);
	assert_false(call_is_transient(code));
	end(&f);
}

static void cut(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->cut_after = 100;
}

TEST(call_calls_an_answer_that_was_cut_transient)
{
	struct fixture f;

	begin(&f, &(struct fake_options){.size = 1000, .script = cut});
	assert_true(call_is_transient(ask(&f, &(struct call){.method = "GET", .url = f.url})));
	end(&f);
}

static void stall(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->stall_after = 100;
	r->stall_ms = 20000;
}

TEST(call_gives_up_when_no_byte_moves)
{
	struct fixture f;
	uint64_t start;
	int code;

	begin(&f, &(struct fake_options){.size = 1000, .script = stall});
	start = now_ns();
	f.network.stall_timeout_ms = 300;
	code = ask(&f, &(struct call){.method = "GET", .url = f.url});
	assert_true(call_is_transient(code));
	assert_non_null(strstr(f.err.msg, "no byte came or went for 0.3 s"));
	assert_true(ms_since(start) < 10000);
	end(&f);
}

TEST(call_gives_up_after_its_own_timeout)
{
	struct fixture f;
	uint64_t start;

	begin(&f, &(struct fake_options){.size = 1000, .script = stall});
	start = now_ns();
	assert_true(call_is_transient(
		ask(&f, &(struct call){.method = "GET", .url = f.url, .timeout_ms = 200})));
	assert_true(ms_since(start) < 10000);
	end(&f);
}

static void *cancel_soon(void *ctx)
{
	struct fixture *f = ctx;

	usleep(100000);
	cancel_request(&f->cancel);
	return NULL;
}

TEST(call_is_left_at_once_when_cancelled)
{
	struct fixture f;
	uint64_t start;
	pthread_t thread;

	begin(&f, &(struct fake_options){.size = 1000, .script = stall});
	start = now_ns();
	pthread_create(&thread, NULL, cancel_soon, &f);
	assert_int_equal(-ECANCELED, ask(&f, &(struct call){.method = "GET", .url = f.url}));
	assert_true(ms_since(start) < 4000);
	pthread_join(thread, NULL);
	end(&f);
}
