/* SPDX-License-Identifier: MIT */
/* The parts of the engine that need no network: what an answer means, which URLs may see a header,
 * and how connections grow. */
#include "../../agent/transfer/engine.h"
#include "defer.h"
#include "test.h"
#include <stdlib.h>
#include <string.h>

static struct answer parse(const char *const *lines)
{
	struct answer a;

	answer_reset(&a);
	for (; *lines != NULL; lines++)
		answer_header(&a, *lines, strlen(*lines));
	return a;
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

TEST(answer_reads_what_identifies_a_version)
{
	struct answer a = PARSE("HTTP/1.1 206 Partial Content\r\n", "etag: \"x y\" \r\n",
		"LAST-MODIFIED:Tue, 15 Nov 1994 12:45:26 GMT\r\n",
		"Content-Range: bytes 10-19/12345678901\r\n", "Content-Length: 10\r\n", "\r\n");

	assert_int_equal(206, a.status);
	assert_string_equal("Partial Content", a.reason);
	assert_string_equal("\"x y\"", a.version.etag);
	assert_string_equal("Tue, 15 Nov 1994 12:45:26 GMT", a.version.last_modified);
	assert_true(a.has_range);
	assert_int_equal(10, a.first);
	assert_int_equal(19, a.last);
	assert_true(a.version.size == 12345678901);
	assert_int_equal(10, a.content_length);
}

TEST(answer_takes_no_nonsense_for_a_content_range)
{
	static const char *const wrong[] = {"bytes 5-4/10", "bytes 0-10/10", "bytes 0-9",
		"bytes -9/10", "items 0-9/10", "bytes 0-99999999999999999999/5", "bytes */10", "",
		"bytes 0-x/10", "bytes 0-9/10x", "bytes 0-9/*0"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char line[128];
		struct answer a;

		snprintf(line, sizeof(line), "Content-Range: %s\r\n", wrong[i]);
		a = PARSE("HTTP/1.1 206 OK\r\n", line);
		if (a.has_range)
			fail_msg("'%s' was taken", wrong[i]);
	}
}

TEST(answer_does_not_mix_two_content_ranges)
{
	struct answer a = PARSE("HTTP/1.1 206 OK\r\n", "Content-Range: bytes 0-99/1000\r\n",
		"Content-Range: bytes 0-99/10\r\n");

	assert_false(a.has_range);
}

TEST(answer_forgets_what_an_interim_response_said)
{
	struct answer a = PARSE("HTTP/1.1 103 Early Hints\r\n", "ETag: \"early\"\r\n", "\r\n",
		"HTTP/1.1 200 OK\r\n");

	assert_int_equal(200, a.status);
	assert_string_equal("", a.version.etag);
}

TEST(answer_takes_no_half_of_an_etag_that_is_too_long)
{
	char line[400] = "ETag: \"";
	struct answer a;

	memset(line + 7, 'x', sizeof(line) - 8);
	a = PARSE("HTTP/1.1 200 OK\r\n", line);
	assert_string_equal("", a.version.etag);
}

TEST(answer_caps_retry_after_at_a_minute)
{
	assert_int_equal(7000, PARSE("HTTP/1.1 503 x\r\n", "Retry-After: 7\r\n").retry_after_ms);
	assert_int_equal(
		60000, PARSE("HTTP/1.1 503 x\r\n", "Retry-After: 86400\r\n").retry_after_ms);
	assert_int_equal(
		0, PARSE("HTTP/1.1 503 x\r\n", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n")
			   .retry_after_ms);
	assert_int_equal(0, PARSE("HTTP/1.1 503 x\r\n", "Retry-After: soon\r\n").retry_after_ms);
	assert_int_equal(
		60000, PARSE("HTTP/1.1 503 x\r\n", "Retry-After: 99999999999999999999999\r\n")
			       .retry_after_ms);
}

TEST(answer_takes_the_same_strong_etag_for_the_same_bytes_whatever_the_date)
{
	struct answer a = PARSE("HTTP/1.1 206 OK\r\n", "ETag: \"a\"\r\n", "Last-Modified: now\r\n",
		"Content-Range: bytes 5-9/10\r\n");
	struct object_version first = {.etag = "\"a\"", .last_modified = "then", .size = 10};
	struct answer_wanted w = {.name = "o", .from = 5, .to = 10, .version = &first};

	assert_int_equal(VERDICT_RANGE, answer_classify(&a, &w, NULL));
	first.etag[1] = 'b';
	assert_int_equal(VERDICT_FAIL, answer_classify(&a, &w, NULL));
}

/* The same tag as a weak one names what the server takes for equivalent: the bytes may be others. */
TEST(answer_takes_no_weak_etag_for_the_bytes_of_a_strong_one_without_a_date)
{
	struct answer a = PARSE("HTTP/1.1 206 OK\r\n", "ETag: W/\"a\"\r\n",
		"Last-Modified: then\r\n", "Content-Range: bytes 5-9/10\r\n");
	struct object_version first = {.etag = "\"a\"", .last_modified = "then", .size = 10};
	struct answer_wanted w = {.name = "o", .from = 5, .to = 10, .version = &first};

	assert_int_equal(VERDICT_RANGE, answer_classify(&a, &w, NULL));
	first.last_modified[0] = '\0';
	assert_int_equal(VERDICT_FAIL, answer_classify(&a, &w, NULL));
}

static const struct {
	const char *modified, *date;
	enum verdict verdict;
} moments[] = {
	{"Sun, 06 Nov 1994 08:49:35 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", VERDICT_RANGE},
	{"Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", VERDICT_PLAIN},
	{"Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", VERDICT_PLAIN},
	{"Sun, 06 Nov 1994 08:49:39 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", VERDICT_PLAIN},
	{"Mon, 06 Nov 2034 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT", VERDICT_RANGE},
	{"Sun, 06 Nov 1994 08:49:37 GMT", "", VERDICT_RANGE},
	{"Sun, 06 Nov 1994 08:49:37 GMT", "soon", VERDICT_RANGE},
};

TEST(answer_takes_no_date_of_the_same_second_for_a_version)
{
	for (size_t i = 0; i < sizeof(moments) / sizeof(moments[0]); i++) {
		struct answer a = PARSE("HTTP/1.1 206 OK\r\n", "Content-Range: bytes 0-9/10\r\n");
		struct answer_wanted w = {.name = "o", .from = 0, .to = 10};

		snprintf(a.version.last_modified, sizeof(a.version.last_modified), "%s",
			moments[i].modified);
		snprintf(a.date, sizeof(a.date), "%s", moments[i].date);
		assert_int_equal(moments[i].verdict, answer_classify(&a, &w, NULL));
		strcpy(a.version.etag, "\"a\"");
		assert_int_equal(VERDICT_RANGE, answer_classify(&a, &w, NULL));
	}
}

TEST(answer_asks_without_a_range_when_the_total_is_not_told)
{
	struct answer a = PARSE("HTTP/1.1 206 OK\r\n", "Content-Range: bytes 0-9/*\r\n");
	struct answer_wanted w = {.name = "o", .from = 0, .to = 10};

	assert_int_equal(VERDICT_PLAIN, answer_classify(&a, &w, NULL));
}

TEST(answer_takes_a_content_encoding_for_a_label_unless_it_hides_the_bytes)
{
	static const char *const labels[] = {"utf-8", "binary", "none", "identity", "gzip",
		"x-gzip", "zstd", "xz", "zip", "bzip2", "lz4", "aws-chunked, gzip",
		"UTF-8,aws-chunked", "8bit", "base64ish", ""};
	static const char *const hidden[] = {
		"br", "deflate", "compress", "x-compress", "gzip, br", "utf-8,\tDeflate", "dcz"};
	struct answer_wanted w = {.name = "o", .from = 0, .to = 10};
	struct error err;

	for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
		struct answer a = PARSE("HTTP/1.1 200 OK\r\n");

		snprintf(a.content_encoding, sizeof(a.content_encoding), "%s", labels[i]);
		assert_int_equal(VERDICT_WHOLE, answer_classify(&a, &w, &err));
	}
	for (size_t i = 0; i < ARRAY_LEN(hidden); i++) {
		struct answer a = PARSE("HTTP/1.1 200 OK\r\n");

		snprintf(a.content_encoding, sizeof(a.content_encoding), "%s", hidden[i]);
		assert_int_equal(VERDICT_FAIL, answer_classify(&a, &w, &err));
		assert_int_equal(-ERR_HTTP, err.code);
	}
}

TEST(answer_tells_curls_passing_failures_from_lasting_ones)
{
	struct answer_wanted w = {.name = "o"};
	struct error err;

	assert_int_equal(
		VERDICT_RETRY, range_retry_classify_curl(CURLE_COULDNT_CONNECT, "", &w, &err));
	assert_int_equal(
		VERDICT_RETRY, range_retry_classify_curl(CURLE_COULDNT_RESOLVE_HOST, "", &w, &err));
	assert_int_equal(
		VERDICT_RETRY, range_retry_classify_curl(CURLE_SSL_CONNECT_ERROR, "", &w, &err));
	assert_int_equal(
		VERDICT_RETRY, range_retry_classify_curl(CURLE_PARTIAL_FILE, "", &w, &err));
	assert_int_equal(VERDICT_FAIL,
		range_retry_classify_curl(CURLE_PEER_FAILED_VERIFICATION, "self-signed", &w, &err));
	assert_string_equal("o: self-signed; if the server's CA is your own, name its file in "
			    "ca_file in agent.ini",
		err.msg);
}

TEST(answer_of_a_server_without_tls_is_final_and_says_so)
{
	struct answer_wanted w = {.name = "https://h/o"};
	struct error err;

	assert_int_equal(VERDICT_FAIL,
		range_retry_classify_curl(CURLE_SSL_CONNECT_ERROR,
			"OpenSSL/3.0.19: error:0A00010B:SSL routines::wrong version number", &w,
			&err));
	assert_non_null(strstr(err.msg, "does not speak TLS at this port"));
	assert_int_equal(
		VERDICT_RETRY, range_retry_classify_curl(CURLE_SSL_CONNECT_ERROR,
				       "OpenSSL SSL_connect: Connection reset by peer", &w, &err));
}

TEST(answer_of_curl_about_a_proxy_that_is_misspelt_is_final)
{
	static const char scheme[] = "Unsupported proxy scheme for 'htp://proxy:3128'",
			  syntax[] = "Unsupported proxy syntax in 'proxy:99999': bad port";
	struct answer_wanted w = {.name = "o"};
	struct error err;

	assert_int_equal(
		VERDICT_FAIL, range_retry_classify_curl(CURLE_COULDNT_CONNECT, scheme, &w, &err));
	assert_int_equal(VERDICT_FAIL,
		range_retry_classify_curl(CURLE_COULDNT_RESOLVE_PROXY, syntax, &w, &err));
	assert_non_null(strstr(err.msg, "check the spelling of https_proxy and http_proxy"));
	assert_int_equal(VERDICT_RETRY, range_retry_classify_curl(CURLE_COULDNT_RESOLVE_PROXY,
						"Could not resolve proxy: p", &w, &err));
}

TEST(answer_shows_nobodys_password_in_a_sentence_of_curls)
{
	static const char *const sentences[][2] = {
		{"Unsupported proxy scheme for 'htp://corp:S3cret@proxy:3128'",
			"Unsupported proxy scheme for 'htp://***@proxy:3128'"},
		{"Unsupported proxy syntax in 'corp:S3cret@proxy:99999': bad port",
			"Unsupported proxy syntax in '***@proxy:99999': bad port"},
		{"Unsupported proxy syntax in 'http://a:S3cret'@ S3cret@p': x",
			"Unsupported proxy syntax in 'http://***@p': x"},
		{"Could not resolve host: x", "Could not resolve host: x"},
	};

	for (size_t i = 0; i < sizeof(sentences) / sizeof(sentences[0]); i++) {
		char *shown = answer_curl_sentence(CURLE_COULDNT_RESOLVE_PROXY, sentences[i][0]);

		assert_string_equal(sentences[i][1], shown);
		free(shown);
	}
}

TEST(retry_delay_doubles_up_to_its_cap_with_full_jitter)
{
	struct transfer_options opts = {.retry_base_ms = 100, .retry_max_ms = 1000};
	uint64_t most[6] = {0};

	for (unsigned attempt = 1; attempt <= 5; attempt++) {
		for (int i = 0; i < 500; i++) {
			uint64_t ms = range_retry_delay_ms(&opts, attempt, 0);

			most[attempt] = ms > most[attempt] ? ms : most[attempt];
		}
	}
	assert_in_range(most[1], 51, 100);
	assert_in_range(most[2], 101, 200);
	assert_in_range(most[3], 201, 400);
	assert_in_range(most[5], 801, 1000);
	assert_int_equal(5000, range_retry_delay_ms(&opts, 1, 5000));
}

static bool sees(const char *url, const char *prefix)
{
	return request_url_has_prefix(url, prefix, strlen(prefix));
}

TEST(url_prefix_of_a_header_covers_a_host_as_a_whole)
{
	assert_true(sees("https://a.b/x", "https://a.b"));
	assert_true(sees("https://A.b:443/x", "https://a.b/"));
	assert_true(sees("https://user:pw@a.b/x/y", "https://a.b/x"));
	assert_true(sees("https://a.b?q=1", "https://a.b"));
	assert_false(sees("https://a.b.evil.com/", "https://a.b"));
	assert_false(sees("https://a.b@evil.com/", "https://a.b"));
	assert_false(sees("https://a.b:8443/", "https://a.b"));
	assert_false(sees("http://a.b/x", "https://a.b"));
	assert_false(sees("https://a.b/y", "https://a.b/x"));
	assert_false(sees("https://evil.com/https://a.b/", "https://a.b"));
}

/* One look after 100 ms at a rate, with the worker asleep all the time or not at all. */
static void look(struct pace *p, uint64_t *now, uint64_t bytes_per_s, bool starved)
{
	static const struct pace_limits limits = {.connections = 16, .range_bytes = 8 << 20};
	uint64_t slept = p->slept_ns;

	*now += 100000000;
	p->bytes = bytes_per_s / 10;
	pace_used(p, p->connections);
	pace_tick(p, *now, slept + (starved ? 100000000 : 0), &limits);
}

/* The first bytes have arrived: from now on there is a rate. */
static void begin(struct pace *p, uint64_t *now)
{
	*now = 1;
	pace_init(p, *now, 1 << 20);
	look(p, now, 10, true);
	assert_int_equal(4, p->connections);
}

TEST(pace_doubles_connections_while_that_pays)
{
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	look(&p, &now, 240000000, true);
	assert_int_equal(8, p.connections);
	look(&p, &now, 480000000, true);
	assert_int_equal(16, p.connections);
	look(&p, &now, 960000000, true);
	assert_int_equal(16, p.connections);
	assert_int_equal(1 << 20, p.range_bytes); /* no range waited */
}

TEST(pace_does_not_grow_before_bytes_arrive_nor_in_the_look_in_which_they_begin_to)
{
	struct pace p;
	uint64_t now = 1;

	pace_init(&p, now, 1 << 20);
	for (int i = 0; i < 3; i++)
		look(&p, &now, 0, true);
	look(&p, &now, 100000000, true);
	assert_int_equal(4, p.connections);
	look(&p, &now, 100000000, true);
	assert_int_equal(8, p.connections);
}

/* 95 ranges of 1 MiB at 1 GB/s, each of which took so long. */
static void look_at_ranges(struct pace *p, uint64_t *now, uint64_t lasted_us)
{
	for (int i = 0; i < 95; i++)
		pace_range_done(p, 20, lasted_us);
	look(p, now, 1000000000, true);
}

TEST(pace_adds_connections_to_ones_that_are_fast_only_after_a_while)
{
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	for (int i = 0; i < 20; i++) {
		look_at_ranges(&p, &now, 4000);
		assert_int_equal(4, p.connections);
	}
	look_at_ranges(&p, &now, 4000);
	assert_int_equal(8, p.connections);
}

TEST(pace_adds_connections_to_ones_that_are_slow_at_once)
{
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	look_at_ranges(&p, &now, 8000);
	assert_int_equal(8, p.connections);
}

TEST(pace_takes_growth_back_that_did_not_pay_and_waits)
{
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	look(&p, &now, 500000000, true);
	assert_int_equal(8, p.connections);
	look(&p, &now, 520000000, true);
	assert_int_equal(4, p.connections);
	for (int i = 0; i < 19; i++)
		look(&p, &now, 520000000, true);
	assert_int_equal(4, p.connections);
	look(&p, &now, 520000000, true);
	assert_int_equal(8, p.connections);
}

TEST(pace_stays_small_when_the_reader_is_the_slower_one)
{
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	for (int i = 0; i < 50; i++)
		look(&p, &now, 500000000, false);
	assert_int_equal(4, p.connections);
	assert_int_equal(1 << 20, p.range_bytes);
}

TEST(pace_does_not_grow_past_what_is_in_use)
{
	static const struct pace_limits limits = {.connections = 16, .range_bytes = 8 << 20};
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	pace_used(&p, 3); /* there were no blocks for a fourth */
	p.bytes = 1 << 20;
	pace_tick(&p, now + 100000000, p.slept_ns + 100000000, &limits);
	assert_int_equal(4, p.connections);
}

TEST(pace_takes_growth_back_that_did_not_pay_although_the_reader_is_the_slower_one_now)
{
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	look(&p, &now, 500000000, true);
	assert_int_equal(8, p.connections);
	look(&p, &now, 520000000, false);
	assert_int_equal(4, p.connections);
}

TEST(pace_lengthens_ranges_that_mostly_wait_for_their_first_byte_while_that_pays)
{
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	pace_range_done(&p, 50000, 60000);
	look(&p, &now, 100000000, true);
	assert_int_equal(2 << 20, p.range_bytes);
	pace_range_done(&p, 50000, 70000);
	look(&p, &now, 200000000, true);
	assert_int_equal(4 << 20, p.range_bytes);
	pace_range_done(&p, 50000, 90000);
	look(&p, &now, 200000000, true);
	assert_int_equal(2 << 20, p.range_bytes);
}

TEST(pace_leaves_ranges_that_arrive_at_once_or_stand_in_a_queue_as_they_are)
{
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	pace_range_done(&p, 1000, 60000);
	look(&p, &now, 100000000, true);
	assert_int_equal(1 << 20, p.range_bytes);
	/* One had to wait a millisecond and the others only for their turn. */
	pace_range_done(&p, 90000, 100000);
	pace_range_done(&p, 1000, 100000);
	pace_range_done(&p, 90000, 100000);
	look(&p, &now, 200000000, true);
	assert_int_equal(1 << 20, p.range_bytes);
}

TEST(pace_looks_as_far_ahead_as_a_request_takes)
{
	struct pace p;
	uint64_t now;

	begin(&p, &now);
	assert_int_equal(8 << 20, p.ahead_bytes);
	pace_range_done(&p, 50000, 60000);
	look(&p, &now, 1000000000, false);
	assert_int_equal((8 << 20) + 100000000, p.ahead_bytes);
	look(&p, &now, 1000000000, false); /* nothing new is known */
	assert_int_equal((8 << 20) + 100000000, p.ahead_bytes);
	pace_range_done(&p, 100, 60000);
	look(&p, &now, 1000000000, false);
	assert_int_equal((8 << 20) + 200000, p.ahead_bytes);
}

TEST(pace_halves_once_when_a_server_pushes_back_on_all_connections)
{
	struct pace p;

	pace_init(&p, 1, 1 << 20);
	p.connections = 16;
	for (int i = 0; i < 16; i++)
		pace_refused(&p, 1000 + (uint64_t)i);
	assert_int_equal(8, p.connections);
}
