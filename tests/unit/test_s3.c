/* SPDX-License-Identifier: MIT */
/* Requests to S3, against a server that answers as S3 does on its bad days. */
#include "defer.h"
#include "fake_http.h"
#include "progress.h"
#include "s3.h"
#include "test.h"
#include "text.h"
#include <errno.h>
#include <string.h>

#define XML "Content-Type: application/xml\r\n"

struct fixture {
	struct transfer_options network;
	struct s3_options opts;
	struct strings environment;
	struct fake_http *server;
	struct cancel cancel;
	struct s3 *s3;
	struct s3_client *client;
	char *endpoint;
	struct error err;
};

static void begin(struct fixture *f, const struct fake_options *fake)
{
	static const char *const environment[] = {"AWS_ACCESS_KEY_ID=AKID",
		"AWS_SECRET_ACCESS_KEY=the-secret-of-s3", "AWS_SESSION_TOKEN=the-token-of-s3",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/nonexistent",
		"AWS_SHARED_CREDENTIALS_FILE=/nonexistent"};

	*f = (struct fixture){.network = {.connect_timeout_ms = 5000,
				      .stall_timeout_ms = 5000,
				      .retries = 3,
				      .retry_base_ms = 4,
				      .retry_max_ms = 20}};
	cancel_init(&f->cancel);
	for (size_t i = 0; i < ARRAY_LEN(environment); i++)
		text_strings_add(&f->environment, environment[i]);
	f->server = fake_http_start(fake);
	f->endpoint = fake_http_url(f->server, "");
	f->opts = (struct s3_options){
		.endpoint = f->endpoint, .network = &f->network, .environment = f->environment.v};
	f->s3 = s3_new(&f->opts);
	assert_int_equal(0, s3_client_new(f->s3, &f->cancel, &f->client, &f->err));
}

static void end(struct fixture *f)
{
	s3_client_free(f->client);
	s3_free(f->s3);
	fake_http_stop(f->server);
	cancel_done(&f->cancel);
	text_strings_done(&f->environment);
	free(f->endpoint);
}

static void assert_says(const struct fixture *f, const char *word)
{
	if (strstr(f->err.msg, word) == NULL)
		fail_msg("'%s' does not say '%s'", f->err.msg, word);
}

static void set_text(struct fake_reply *r, int status, const char *text, const char *headers)
{
	r->status = status;
	r->text = text;
	r->content_length = strlen(text);
	r->len = 0;
	snprintf(r->headers, sizeof(r->headers), XML "%s", headers != NULL ? headers : "");
}

/* The first n answers are this error. */
struct bad_days {
	unsigned n;
	int status;
	const char *code, *headers, *more;
	char text[1024];
};

static void answer_badly(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	struct bad_days *bad = ctx;

	if (q->number >= bad->n)
		return;
	if (q->number == 0)
		snprintf(bad->text, sizeof(bad->text),
			"<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>so it "
			"is</Message>%s<RequestId>R7</RequestId></Error>",
			bad->code, bad->more != NULL ? bad->more : "");
	set_text(r, bad->status, bad->text, bad->headers);
}

static int get(struct fixture *f, const char *key)
{
	char buf[100];
	size_t len = 0;

	return s3_get(f->client, "data", key, 0, buf, sizeof(buf), NULL, &len, NULL, &f->err);
}

static int get_on(struct fixture *f, struct bad_days *bad)
{
	begin(f, &(struct fake_options){.size = 1000, .script = answer_badly, .ctx = bad});
	return get(f, "key");
}

TEST(s3_get_asks_for_the_range_signed_with_its_token)
{
	struct fixture f;
	struct fake_request q;
	const struct s3_object listed = {.size = 1000, .etag = "\"v1\""};
	struct s3_object o;
	char buf[100];
	size_t len;

	begin(&f, &(struct fake_options){.size = 1000});
	assert_int_equal(
		0, s3_get(f.client, "data", "a b/c", 50, buf, 100, &listed, &len, &o, NULL));
	assert_int_equal(100, len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(fake_byte(1, 50 + i), (uint8_t)buf[i]);
	assert_int_equal(1000, o.size);
	assert_string_equal("\"v1\"", o.etag);
	q = fake_http_request(f.server, 0);
	assert_string_equal("/data/a%20b/c", q.path);
	assert_true(fake_header_is(&q, "Range", "bytes=50-149"));
	assert_true(fake_header_is(&q, "If-Match", "\"v1\""));
	assert_true(fake_header_is(&q, "x-amz-security-token", "the-token-of-s3"));
	assert_non_null(strstr(q.headers, "/us-east-1/s3/aws4_request"));
	assert_non_null(strstr(q.headers, "Credential=AKID/"));
	end(&f);
}

static void ignore_if_match(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	const uint64_t first = q->first, len = q->last - first + 1;

	*r = (struct fake_reply){.status = 206,
		.first = first,
		.range_first = first,
		.range_last = q->last,
		.range_total = 1000,
		.len = len,
		.content_length = len,
		.cut_after = FAKE_NONE,
		.stall_after = FAKE_NONE,
		.seed = 1};
	snprintf(r->etag, sizeof(r->etag), "%s", (const char *)ctx);
}

/* What comes of an object of 1000 bytes with this ETag from a server that ignores If-Match. */
static int get_expecting(struct fixture *f, const char *etag, const struct s3_object *expected)
{
	char buf[100];
	size_t len;
	int code;

	begin(f, &(struct fake_options){
			 .size = 1000, .script = ignore_if_match, .ctx = (void *)etag});
	code = s3_get(f->client, "data", "k", 50, buf, sizeof(buf), expected, &len, NULL, &f->err);
	if (code == -ERR_CHANGED)
		assert_says(f, "s3://data/k was replaced");
	end(f);
	return code;
}

TEST(s3_get_does_not_take_another_version_from_a_server_that_ignores_if_match)
{
	const struct s3_object listed = {.size = 1000, .etag = "\"old\""};
	struct fixture f;

	assert_int_equal(-ERR_CHANGED, get_expecting(&f, "\"new\"", &listed));
	assert_int_equal(0, get_expecting(&f, "\"old\"", &listed));
	assert_int_equal(0, get_expecting(&f, "", &listed));
}

TEST(s3_get_compares_the_size_where_there_is_no_etag)
{
	const struct s3_object listed = {.size = 999}, unknown = {.size = SIZE_UNKNOWN};
	struct fixture f;

	assert_int_equal(-ERR_CHANGED, get_expecting(&f, "\"new\"", &listed));
	assert_int_equal(-ERR_CHANGED, get_expecting(&f, "", &listed));
	assert_int_equal(0, get_expecting(&f, "\"new\"", &unknown));
}

TEST(s3_get_beyond_the_end_is_fewer_bytes)
{
	struct fixture f;
	char buf[100];
	size_t len;

	begin(&f, &(struct fake_options){.size = 70});
	assert_int_equal(0, s3_get(f.client, "data", "k", 50, buf, 100, NULL, &len, NULL, NULL));
	assert_int_equal(20, len);
	end(&f);
}

TEST(s3_get_of_an_empty_object_is_no_bytes)
{
	struct fixture f;
	char buf[100];
	size_t len = 99;

	begin(&f, &(struct fake_options){.size = 0});
	assert_int_equal(0, s3_get(f.client, "data", "k", 0, buf, 100, NULL, &len, NULL, &f.err));
	assert_int_equal(0, len);
	end(&f);
}

static void ignore_range(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	(void)ctx, (void)q;
	r->status = 206;
	r->first = r->range_first = 0;
}

TEST(s3_get_does_not_take_other_bytes_for_those_it_asked_for)
{
	struct fixture f;
	char buf[100];
	size_t len;

	begin(&f, &(struct fake_options){.size = 1000, .script = ignore_range});
	assert_int_equal(
		-ERR_HTTP, s3_get(f.client, "data", "k", 50, buf, 100, NULL, &len, NULL, &f.err));
	assert_says(&f, "does not honour ranges");
	end(&f);
}

TEST(s3_transient_errors_are_retried)
{
	struct bad_days bad = {.n = 3, .status = 500, .code = "InternalError"};
	struct fixture f;

	assert_int_equal(0, get_on(&f, &bad));
	assert_int_equal(4, fake_http_requests(f.server));
	end(&f);
}

TEST(s3_transient_errors_are_given_up_on_in_the_end)
{
	struct bad_days bad = {.n = 100, .status = 400, .code = "RequestTimeout"};
	struct fixture f;

	assert_int_equal(-ERR_HTTP, get_on(&f, &bad));
	assert_int_equal(4, fake_http_requests(f.server));
	assert_says(&f, "400 RequestTimeout 'so it is' (request R7");
	assert_says(&f, "gave up after 4 attempts");
	end(&f);
}

TEST(s3_final_errors_are_not_retried)
{
	struct bad_days bad = {.n = 100, .status = 403, .code = "RequestTimeTooSkewed"};
	struct fixture f;

	assert_int_equal(-EACCES, get_on(&f, &bad));
	assert_int_equal(1, fake_http_requests(f.server));
	assert_says(&f, "clock");
	assert_null(strstr(f.err.msg, "the-secret"));
	assert_null(strstr(f.err.msg, "the-token"));
	end(&f);
}

TEST(s3_slow_down_waits_longer)
{
	struct bad_days bad = {.n = 3, .status = 503, .code = "SlowDown"};
	struct fixture f;
	uint64_t start;

	begin(&f, &(struct fake_options){.size = 1000, .script = answer_badly, .ctx = &bad});
	s3_client_free(f.client);
	s3_free(f.s3);
	f.network.retry_base_ms = 20;
	f.network.retry_max_ms = 10000;
	f.s3 = s3_new(&f.opts);
	assert_int_equal(0, s3_client_new(f.s3, &f.cancel, &f.client, &f.err));
	start = now_ns();
	assert_int_equal(0, get(&f, "key"));
	/* A quarter of 80, 160 and 320 ms; other trouble would wait for all of that at the very most. */
	assert_true(now_ns() - start >= 140000000);
	end(&f);
}

TEST(s3_broken_connections_are_retried)
{
	struct fixture f;

	begin(&f, &(struct fake_options){.size = 10});
	s3_client_free(f.client);
	s3_free(f.s3);
	f.opts.endpoint = "http://127.0.0.1:1";
	f.s3 = s3_new(&f.opts);
	assert_int_equal(0, s3_client_new(f.s3, &f.cancel, &f.client, &f.err));
	assert_true(get(&f, "k") < 0);
	assert_says(&f, "s3://data/k: cannot read it");
	assert_says(&f, "gave up after 4 attempts");
	end(&f);
}

TEST(s3_expired_credentials_are_asked_for_once_more)
{
	struct bad_days bad = {.n = 1, .status = 400, .code = "ExpiredToken"};
	struct fixture f;

	assert_int_equal(0, get_on(&f, &bad));
	assert_int_equal(2, fake_http_requests(f.server));
	end(&f);
}

TEST(s3_credentials_that_stay_expired_are_an_error)
{
	struct bad_days bad = {.n = 100, .status = 403, .code = "ExpiredToken"};
	struct fixture f;

	assert_int_equal(-EACCES, get_on(&f, &bad));
	assert_int_equal(2, fake_http_requests(f.server));
	assert_says(&f, "get new ones");
	end(&f);
}

TEST(s3_region_that_an_error_names_is_remembered_for_the_bucket)
{
	struct bad_days bad = {.n = 1,
		.status = 400,
		.code = "AuthorizationHeaderMalformed",
		.more = "<Region>eu-west-1</Region>"};
	struct fixture f;
	struct fake_request q;

	assert_int_equal(0, get_on(&f, &bad));
	assert_int_equal(0, get(&f, "other"));
	assert_int_equal(3, fake_http_requests(f.server));
	q = fake_http_request(f.server, 2);
	assert_non_null(strstr(q.headers, "/eu-west-1/s3/"));
	end(&f);
}

TEST(s3_region_comes_from_a_header_where_there_is_no_body)
{
	struct bad_days bad = {.n = 1,
		.status = 301,
		.code = "PermanentRedirect",
		.headers = "x-amz-bucket-region: ap-south-1\r\n"};
	struct fixture f;
	struct fake_request q;

	assert_int_equal(0, get_on(&f, &bad));
	q = fake_http_request(f.server, 1);
	assert_non_null(strstr(q.headers, "/ap-south-1/s3/"));
	end(&f);
}

TEST(s3_region_that_could_be_another_host_is_not_believed)
{
	struct bad_days bad = {.n = 100,
		.status = 301,
		.code = "PermanentRedirect",
		.more = "<Region>evil.example/</Region>"};
	struct fixture f;
	struct fake_request q;

	assert_int_equal(-ERR_HTTP, get_on(&f, &bad));
	q = fake_http_request(f.server, fake_http_requests(f.server) - 1);
	assert_null(strstr(q.headers, "evil"));
	end(&f);
}

TEST(s3_put_if_absent_says_that_it_was_there)
{
	struct bad_days bad = {.n = 100, .status = 412, .code = "PreconditionFailed"};
	struct fixture f;
	struct fake_request q;

	begin(&f, &(struct fake_options){.script = answer_badly, .ctx = &bad});
	assert_int_equal(-EEXIST, s3_put(f.client, "data", "k", "abc", 3, true, &f.err));
	q = fake_http_request(f.server, 0);
	assert_string_equal("PUT", q.method);
	assert_string_equal("abc", q.body);
	assert_true(fake_header_is(&q, "If-None-Match", "*"));
	end(&f);
}

TEST(s3_put_if_absent_that_met_another_is_tried_again)
{
	struct bad_days bad = {.n = 2, .status = 409, .code = "ConditionalRequestConflict"};
	struct fixture f;

	begin(&f, &(struct fake_options){.script = answer_badly, .ctx = &bad});
	assert_int_equal(0, s3_put(f.client, "data", "k", "abc", 3, true, &f.err));
	assert_int_equal(3, fake_http_requests(f.server));
	end(&f);
}

static void fill(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	const char *const *pages = ctx;

	set_text(r, 200, pages[q->number], NULL);
}

static int join(void *ctx, const struct s3_object *o, struct error *err)
{
	(void)err;
	text_addf(ctx, "%s:%lld ", o->key, o->size == SIZE_UNKNOWN ? -1 : (long long)o->size);
	return 0;
}

TEST(s3_list_goes_through_all_pages_in_order)
{
	const char *pages[] = {
		"<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
		"<NextContinuationToken>t/1</NextContinuationToken>"
		"<Contents><Key>p/a%2B+b</Key><Size>1</Size><ETag>&quot;x&quot;</ETag></Contents>"
		"<Contents><Key>p/z</Key><Size>2</Size></Contents>"
		"<CommonPrefixes><Prefix>p/m/</Prefix></CommonPrefixes></ListBucketResult>",
		"<ListBucketResult><IsTruncated>false</IsTruncated>"
		"<Contents><Key>p/z%2B</Key><Size>3</Size></Contents></ListBucketResult>"};
	struct fixture f;
	struct text t = {0};
	struct fake_request q;

	begin(&f, &(struct fake_options){.script = fill, .ctx = pages});
	assert_int_equal(0, s3_list(f.client, "data", "p/", "s", '/', join, &t, &f.err));
	assert_string_equal("p/a+ b:1 p/m/:-1 p/z:2 p/z%2B:3 ", t.s);
	q = fake_http_request(f.server, 0);
	assert_string_equal(
		"/data?delimiter=%2F&encoding-type=url&list-type=2&prefix=p%2F&start-after=s",
		q.path);
	q = fake_http_request(f.server, 1);
	assert_string_equal(
		"/data?continuation-token=t%2F1&delimiter=%2F&encoding-type=url&list-type=2&"
		"prefix=p%2F",
		q.path);
	text_done(&t);
	end(&f);
}

TEST(s3_list_of_something_else_says_to_check_the_endpoint)
{
	const char *pages[] = {"<html>hello</html>"};
	struct fixture f;

	begin(&f, &(struct fake_options){.script = fill, .ctx = pages});
	assert_int_equal(
		-ERR_FORMAT, s3_list(f.client, "data", "", NULL, '\0', join, NULL, &f.err));
	assert_says(&f, "check the endpoint");
	end(&f);
}

TEST(s3_list_that_would_not_end_is_an_error)
{
	const char *pages[] = {
		"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"};
	struct fixture f;

	begin(&f, &(struct fake_options){.script = fill, .ctx = pages});
	assert_int_equal(-ERR_HTTP, s3_list(f.client, "data", "", NULL, '\0', join, NULL, &f.err));
	assert_says(&f, "but not where");
	end(&f);
}

#define PAGE(truncated, rest) \
	"<ListBucketResult><IsTruncated>" truncated "</IsTruncated>" rest "</ListBucketResult>"
#define KEY(name)   "<Contents><Key>" name "</Key><Size>1</Size></Contents>"
#define NEXT(token) "<NextContinuationToken>" token "</NextContinuationToken>"

/* Each of these answers is no listing, or one that could be followed for ever: never an end. */
TEST(s3_list_that_is_not_whole_is_an_error)
{
	static const char *const answers[][3] = {
		{"<ListBucketResult></ListBucketResult>"},
		{"<ListBucketResult><Contents><Key>p/a</Key></Contents></ListBucketResult>"},
		{"<ListBucketResult><IsTruncated>false</IsTruncated>"},
		{PAGE("false", KEY("p/a") "<Contents><Key>p/b")},
		{"<Error><Code>InternalError</Code></Error>"},
		{""},
		{PAGE("true", KEY("p/a"))},
		{PAGE("false", KEY("q/a"))},
		{PAGE("false", KEY("p"))},
		{PAGE("true", KEY("p/a") NEXT("1")), PAGE("true", KEY("p/a") NEXT("2"))},
		{PAGE("true", KEY("p/b") NEXT("1")), PAGE("false", KEY("p/a"))},
		{PAGE("true", NEXT("1")), PAGE("true", NEXT("1"))},
	};

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		struct fixture f;
		struct text t = {0};

		begin(&f, &(struct fake_options){.script = fill, .ctx = (void *)answers[i]});
		if (s3_list(f.client, "data", "p/", NULL, '\0', join, &t, &f.err) >= 0)
			fail_msg("answer %zu was taken for a whole listing", i);
		text_done(&t);
		end(&f);
	}
}

static void fill_empty_for_ever(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	static char text[256];

	(void)ctx;
	snprintf(text, sizeof(text), PAGE("true", NEXT("%u")), q->number);
	set_text(r, 200, text, NULL);
}

TEST(s3_list_of_ever_new_empty_pages_ends)
{
	struct fixture f;

	begin(&f, &(struct fake_options){.script = fill_empty_for_ever});
	assert_int_equal(
		-ERR_HTTP, s3_list(f.client, "data", "p/", NULL, '\0', join, NULL, &f.err));
	assert_says(&f, "again and again");
	end(&f);
}

TEST(s3_list_of_a_bucket_that_is_not_found_is_no_absence_of_an_object)
{
	struct bad_days bad = {.n = 9, .status = 404, .code = "NoSuchKey"};
	struct fixture f;

	begin(&f, &(struct fake_options){.script = answer_badly, .ctx = &bad});
	assert_int_equal(
		-ERR_HTTP, s3_list(f.client, "data", "p/", NULL, '\0', join, NULL, &f.err));
	end(&f);
}

static int add_upload(void *ctx, const char *key, const char *id, time_t begun, struct error *err)
{
	(void)begun;
	(void)err;
	text_addf(ctx, "%s:%s ", key, id);
	return 0;
}

#define UPLOADS(truncated, rest) \
	"<ListMultipartUploadsResult><IsTruncated>" truncated "</IsTruncated>" rest \
	"<Upload><Key>a</Key><UploadId>1</UploadId></Upload></ListMultipartUploadsResult>"
#define MARKERS(key, id) \
	"<NextKeyMarker>" key "</NextKeyMarker><NextUploadIdMarker>" id "</NextUploadIdMarker>"

TEST(s3_uploads_are_listed_to_the_end_and_not_for_ever)
{
	static const char *const good[] = {UPLOADS("true", MARKERS("a", "1")),
		UPLOADS("true", MARKERS("a", "2")), UPLOADS("false", "")};
	static const char *const bad[][2] = {
		{UPLOADS("true", "")},
		{UPLOADS("true", MARKERS("a", "1")), UPLOADS("true", MARKERS("a", "1"))},
		{UPLOADS("true", MARKERS("b", "1")), UPLOADS("true", MARKERS("a", "2"))},
		{"<ListMultipartUploadsResult></ListMultipartUploadsResult>"},
	};
	struct fixture f;
	struct text t = {0};

	begin(&f, &(struct fake_options){.script = fill, .ctx = (void *)good});
	assert_int_equal(0, s3_uploads(f.client, "data", "", add_upload, &t, &f.err));
	assert_string_equal("a:1 a:1 a:1 ", t.s);
	end(&f);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		begin(&f, &(struct fake_options){.script = fill, .ctx = (void *)bad[i]});
		assert_int_equal(
			-ERR_HTTP, s3_uploads(f.client, "data", "", add_upload, &t, &f.err));
		end(&f);
	}
	text_done(&t);
}

static bool is_chosen(void *ctx, const char *key)
{
	(void)ctx;
	return strcmp(key, "ours") == 0;
}

#define VERSION(key, id) "<Version><Key>" key "</Key><VersionId>" id "</VersionId></Version>"

TEST(s3_versions_of_what_is_not_chosen_stay_and_are_passed_by)
{
	static const char *const pages[] = {
		"<ListVersionsResult><IsTruncated>true</IsTruncated><NextKeyMarker>foreign</"
		"NextKeyMarker>"
		"<NextVersionIdMarker>2</NextVersionIdMarker>" VERSION("foreign", "1")
			VERSION("foreign", "2") "</ListVersionsResult>",
		"<ListVersionsResult><IsTruncated>false</IsTruncated>" VERSION("foreign", "3")
			VERSION("ours", "4") "</ListVersionsResult>",
		"<DeleteResult></DeleteResult>"};
	const struct s3_chooser which = {.is_chosen = is_chosen};
	struct fixture f;
	struct fake_request q;

	begin(&f, &(struct fake_options){.script = fill, .ctx = (void *)pages});
	assert_int_equal(0, s3_delete_versions(f.client, "data", "", &which, &f.err));
	assert_int_equal(3, fake_http_requests(f.server));
	q = fake_http_request(f.server, 1);
	assert_string_equal(
		"/data?encoding-type=url&key-marker=foreign&version-id-marker=2&versions=", q.path);
	q = fake_http_request(f.server, 2);
	assert_non_null(strstr(q.body, "<Key>ours</Key><VersionId>4</VersionId>"));
	assert_null(strstr(q.body, "foreign"));
	end(&f);
}

TEST(s3_requests_with_a_limit_are_not_repeated_beyond_it)
{
	struct bad_days bad = {
		.n = 9, .status = 503, .code = "SlowDown", .headers = "Retry-After: 30\r\n"};
	const char *const key = "k";
	struct fixture f;

	begin(&f, &(struct fake_options){.script = answer_badly, .ctx = &bad});
	s3_client_limit(f.client, 500);
	assert_true(s3_delete(f.client, "data", &key, 1, &f.err) < 0);
	assert_says(&f, "its time was over");
	end(&f);
}

TEST(s3_delete_sends_one_list_with_its_digest)
{
	const char *pages[] = {"<DeleteResult></DeleteResult>"};
	const char *const keys[] = {"a", "b&c"};
	struct fixture f;
	struct fake_request q;

	begin(&f, &(struct fake_options){.script = fill, .ctx = pages});
	assert_int_equal(0, s3_delete(f.client, "data", keys, 2, &f.err));
	q = fake_http_request(f.server, 0);
	assert_string_equal("/data?delete=", q.path);
	assert_string_equal("<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object><Object><Key>"
			    "b&#38;c</Key></Object></Delete>",
		q.body);
	assert_true(fake_has_header(&q, "Content-MD5"));
	end(&f);
}

TEST(s3_delete_tells_of_the_key_that_stayed)
{
	const char *pages[] = {"<DeleteResult><Error><Key>gone</Key><Code>NoSuchKey</Code></Error>"
			       "<Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></"
			       "Error></DeleteResult>"};
	const char *const keys[] = {"gone", "b"};
	struct fixture f;

	begin(&f, &(struct fake_options){.script = fill, .ctx = pages});
	assert_int_equal(-EACCES, s3_delete(f.client, "data", keys, 2, &f.err));
	assert_says(&f, "s3://data/b: cannot delete it");
	assert_says(&f, "s3:DeleteObject");
	end(&f);
}

TEST(s3_delete_asks_again_for_keys_that_the_server_was_too_busy_for)
{
	static const char *const codes[] = {"InternalError", "SlowDown", "ServiceUnavailable"};
	static const char *const keys[] = {"a", "b"};

	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		_free_ char *busy = text_format("<DeleteResult><Error><Key>b</Key><Code>%s</Code>"
						"</Error></DeleteResult>",
			codes[i]);
		const char *pages[] = {busy, busy, "<DeleteResult></DeleteResult>"};
		struct fixture f;

		begin(&f, &(struct fake_options){.script = fill, .ctx = pages});
		assert_int_equal(0, s3_delete(f.client, "data", keys, 2, &f.err));
		assert_int_equal(3, fake_http_requests(f.server));
		end(&f);
	}
}

TEST(s3_delete_gives_up_on_keys_that_the_server_stays_too_busy_for)
{
	const char *busy =
		"<DeleteResult><Error><Key>b</Key><Code>SlowDown</Code></Error></DeleteResult>";
	const char *pages[] = {busy, busy, busy, busy, busy, busy};
	const char *const keys[] = {"a", "b"};
	struct fixture f;

	begin(&f, &(struct fake_options){.script = fill, .ctx = pages});
	assert_int_equal(-ERR_HTTP, s3_delete(f.client, "data", keys, 2, &f.err));
	assert_says(&f, "s3://data/b: cannot delete it: S3 answered SlowDown");
	assert_int_equal(1 + f.network.retries, fake_http_requests(f.server));
	end(&f);
}

TEST(s3_upload_that_fails_after_its_200_is_completed_again)
{
	const char *pages[] = {"<?xml version=\"1.0\"?>\n<Error><Code>InternalError</Code></Error>",
		"<CompleteMultipartUploadResult/>"};
	const char etags[2][128] = {"\"1\"", "\"2\""};
	struct fixture f;
	struct fake_request q;

	begin(&f, &(struct fake_options){.script = fill, .ctx = pages});
	assert_int_equal(0, s3_upload_complete(f.client, "data", "k", "i/d", etags, 2, &f.err));
	q = fake_http_request(f.server, 1);
	assert_string_equal("/data/k?uploadId=i%2Fd", q.path);
	assert_string_equal(
		"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&#34;1&#34;</"
		"ETag></Part><Part><PartNumber>2</PartNumber><ETag>&#34;2&#34;</ETag></Part>"
		"</CompleteMultipartUpload>",
		q.body);
	end(&f);
}

static void lose_the_answer(void *ctx, const struct fake_request *q, struct fake_reply *r)
{
	static const char gone[] = "<Error><Code>NoSuchUpload</Code></Error>";

	(void)ctx;
	if (q->number < 2)
		set_text(r, q->number == 0 ? 500 : 404, q->number == 0 ? "" : gone, NULL);
}

TEST(s3_upload_that_was_completed_by_an_attempt_without_answer_is_complete)
{
	const char etags[1][128] = {"\"1\""};
	struct fixture f;

	begin(&f, &(struct fake_options){.size = 10, .script = lose_the_answer});
	assert_int_equal(0, s3_upload_complete(f.client, "data", "k", "id", etags, 1, &f.err));
	assert_int_equal(3, fake_http_requests(f.server));
	end(&f);
}

struct no_lists {
	int status;
	const char *code;
	atomic_uint lists, singles;
	char body[256];
};

static void answer_no_lists(void *ctx, const struct fake_request *q, struct fake_reply *reply)
{
	struct no_lists *n = ctx;

	reply->etag[0] = reply->last_modified[0] = '\0';
	reply->text = "";
	reply->status = 204;
	if (strcmp(q->method, "POST") == 0) {
		n->lists++;
		reply->status = n->status;
		snprintf(n->body, sizeof(n->body),
			"<Error><Code>%s</Code><Message>no</Message></Error>", n->code);
		reply->text = n->body;
	} else if (strcmp(q->method, "DELETE") == 0) {
		n->singles++;
	}
	reply->content_length = strlen(reply->text);
}

TEST(s3_servers_that_take_no_lists_of_deletions_get_them_one_by_one_and_are_remembered)
{
	static const char *const keys[] = {"a", "b", "c"};
	static const struct no_lists kinds[] = {{.status = 501, .code = "NotImplemented"},
		{.status = 405, .code = "MethodNotAllowed"},
		{.status = 400, .code = "InvalidArgument"}};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct no_lists n = kinds[i];
		struct fixture f;

		begin(&f, &(struct fake_options){.script = answer_no_lists, .ctx = &n});
		assert_int_equal(0, s3_delete(f.client, "b", keys, 3, &f.err));
		assert_int_equal(0, s3_delete(f.client, "b", keys, 3, &f.err));
		assert_int_equal(1, n.lists);
		assert_int_equal(6, n.singles);
		end(&f);
	}
}

TEST(s3_deletions_that_are_refused_are_not_tried_one_by_one)
{
	static const char *const keys[] = {"a", "b"};
	static const struct no_lists kinds[] = {{.status = 403, .code = "AccessDenied"},
		{.status = 400, .code = "ExpiredToken"},
		{.status = 400, .code = "AuthorizationHeaderMalformed"}};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct no_lists n = kinds[i];
		struct fixture f;

		begin(&f, &(struct fake_options){.script = answer_no_lists, .ctx = &n});
		assert_true(s3_delete(f.client, "b", keys, 2, &f.err) < 0);
		assert_int_equal(0, n.singles);
		end(&f);
	}
}

TEST(s3_without_credentials_asks_unsigned)
{
	struct bad_days bad = {.n = 100, .status = 403, .code = "AccessDenied"};
	struct fixture f;
	struct fake_request q;

	begin(&f, &(struct fake_options){.script = answer_badly, .ctx = &bad});
	for (int i = 0; i < 3; i++)
		strchr(f.environment.v[i], '=')[1] = '\0';
	assert_int_equal(-EACCES, get(&f, "k"));
	q = fake_http_request(f.server, 0);
	assert_false(fake_has_header(&q, "Authorization"));
	assert_says(&f, "not signed: no AWS credentials were found");
	assert_says(&f, "anonymous readers may not");
	end(&f);
}

TEST(s3_with_half_of_the_credentials_does_not_ask_at_all)
{
	struct fixture f;

	begin(&f, &(struct fake_options){.size = 10});
	strchr(f.environment.v[0], '=')[1] = '\0';
	assert_int_equal(-ERR_CONFIG, get(&f, "k"));
	assert_int_equal(0, fake_http_requests(f.server));
	end(&f);
}

TEST(s3_that_must_not_sign_does_not)
{
	struct fixture f;
	struct fake_request q;

	begin(&f, &(struct fake_options){.size = 10});
	s3_client_free(f.client);
	s3_free(f.s3);
	f.opts.sign = S3_SIGN_NO;
	f.s3 = s3_new(&f.opts);
	assert_int_equal(0, s3_client_new(f.s3, &f.cancel, &f.client, &f.err));
	assert_int_equal(0, get(&f, "k"));
	q = fake_http_request(f.server, 0);
	assert_false(fake_has_header(&q, "Authorization"));
	end(&f);
}

TEST(s3_stops_waiting_for_the_next_attempt_when_cancelled)
{
	struct bad_days bad = {.n = 100, .status = 503, .code = "SlowDown"};
	struct fixture f;

	begin(&f, &(struct fake_options){.script = answer_badly, .ctx = &bad});
	cancel_request(&f.cancel);
	assert_int_equal(-ECANCELED, get(&f, "k"));
	end(&f);
}
