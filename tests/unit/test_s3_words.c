/* SPDX-License-Identifier: MIT */
/* What S3 writes and how it is written to, without a network: places, keys, XML, errors. */
#include "../../agent/s3/s3_private.h"
#include "defer.h"
#include "test.h"
#include <errno.h>
#include <string.h>

static void assert_place(const char *url, const char *bucket, const char *key)
{
	struct s3_bucket_key p;

	assert_int_equal(0, s3_bucket_key_parse(url, &p, NULL));
	assert_string_equal(bucket, p.bucket);
	assert_string_equal(key, p.key);
	s3_bucket_key_done(&p);
}

TEST(s3_place_is_a_bucket_and_whatever_follows)
{
	assert_place("s3://data/a/b.zip", "data", "a/b.zip");
	assert_place("S3://data/a?b#c %41+", "data", "a?b#c %41+");
	assert_place("s3://data//a//", "data", "/a//");
	assert_place("s3://my.data-1/", "my.data-1", "");
	assert_place("s3://data", "data", "");
}

TEST(s3_place_without_a_usable_bucket_is_refused)
{
	static const char *const wrong[] = {"s3://", "s3:///key", "s3://b/key", "s3://a b/key",
		"s3://a@evil/key", "s3://a:80/x", "s3://..a/x"};
	struct s3_bucket_key p;
	struct error err;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		assert_int_equal(-ERR_USAGE, s3_bucket_key_parse(wrong[i], &p, &err));
		assert_non_null(strstr(err.msg, wrong[i]));
	}
}

TEST(s3_keys_are_encoded_but_for_what_signatures_leave_alone)
{
	struct text t = {0};

	s3_encode(&t, "a b+c/d?e#f&g=h%i~j-k_l.m/\xc3\xa9", true);
	assert_string_equal("a%20b%2Bc/d%3Fe%23f%26g%3Dh%25i~j-k_l.m/%C3%A9", t.s);
	text_done(&t);
}

TEST(s3_queries_have_a_value_for_each_name_and_no_slash)
{
	struct text t = {0};

	s3_query_add(&t, "prefix", "a/b c");
	s3_query_add(&t, "uploads", "");
	assert_string_equal("prefix=a%2Fb%20c&uploads=", t.s);
	text_done(&t);
}

TEST(s3_keys_of_listings_are_decoded)
{
	_free_ char *key = s3_decode("a+b%2Bc%20d%C3%A9%zz%");

	assert_string_equal("a b+c d\xc3\xa9%zz%", key);
	assert_null(s3_decode("a%00b"));
}

TEST(s3_dates_of_both_kinds_are_understood)
{
	assert_int_equal(1764097804, s3_time("2025-11-25T19:10:04.123Z"));
	assert_int_equal(1764097804, s3_time("Tue, 25 Nov 2025 19:10:04 GMT"));
	assert_int_equal(0, s3_time("yesterday"));
}

/* XML */

static int collect(void *ctx, const char *path, const char *text, struct error *err)
{
	struct text *t = ctx;

	(void)err;
	text_addf(t, "%s=%s;", path, text);
	return 0;
}

static int read_xml(const char *xml, struct text *ret, struct error *err)
{
	return s3_xml_read(xml, strlen(xml), "R", collect, ret, err);
}

TEST(s3_xml_is_told_as_paths_and_texts)
{
	struct text t = {0};

	assert_int_equal(0, read_xml("<?xml version=\"1.0\"?><R xmlns=\"http://s3/\">\n<a>1 &amp; "
				     "2</a><b><c>&#xe9;</c><c/></b></R>",
				    &t, NULL));
	assert_string_equal("a=1 & 2;b/c=\xc3\xa9;b/c=;b=;=;", t.s);
	text_done(&t);
}

static void assert_refused(const char *xml, const char *why)
{
	struct text t = {0};
	struct error err = {0};

	assert_int_equal(-ERR_FORMAT, read_xml(xml, &t, &err));
	if (strstr(err.msg, why) == NULL)
		fail_msg("'%s' does not say '%s'", err.msg, why);
	text_done(&t);
}

TEST(s3_xml_of_another_kind_is_refused)
{
	assert_refused("<html><body>502</body></html>", "not a <R>");
	assert_refused("oops", "");
	assert_refused("", "");
	assert_refused("<R><a>1</a>", "");
	assert_refused("<R><a>1</b></R>", "");
}

TEST(s3_xml_that_brings_entities_of_its_own_is_refused)
{
	assert_refused("<!DOCTYPE R [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><R>&b;</R>",
		"document type");
	assert_refused("<!DOCTYPE R SYSTEM \"file:///etc/passwd\"><R/>", "document type");
}

TEST(s3_xml_that_is_deep_is_refused)
{
	struct text deep = {0};

	text_add(&deep, "<R>");
	for (int i = 0; i < 100000; i++)
		text_add(&deep, "<a>");
	assert_refused(deep.s, "too deep");
	text_done(&deep);
}

TEST(s3_xml_names_that_are_long_are_refused)
{
	struct text xml = {0};

	text_addf(&xml, "<R><%0300d/></R>", 0);
	xml.s[4] = 'a';
	assert_refused(xml.s, "too deep");
	text_done(&xml);
}

TEST(s3_xml_text_is_escaped)
{
	struct text t = {0};

	s3_xml_escape(&t, "<a & 'b' \"c\">\r");
	assert_string_equal("&#60;a &#38; &#39;b&#39; &#34;c&#34;&#62;&#13;", t.s);
	text_done(&t);
}

/* Errors */

static enum s3_verdict judge(long status, const char *code, const char *region)
{
	struct s3_fault f = {.status = status};

	snprintf(f.code, sizeof(f.code), "%s", code);
	snprintf(f.region, sizeof(f.region), "%s", region);
	return s3_fault_classify(&f, "us-east-1");
}

TEST(s3_faults_that_pass_are_told_from_those_that_do_not)
{
	assert_int_equal(S3_LATER, judge(500, "InternalError", ""));
	assert_int_equal(S3_LATER, judge(502, "", ""));
	assert_int_equal(S3_LATER, judge(400, "RequestTimeout", ""));
	assert_int_equal(S3_LATER, judge(408, "", ""));
	assert_int_equal(S3_LATER, judge(409, "ConditionalRequestConflict", ""));
	assert_int_equal(S3_SLOWER, judge(503, "SlowDown", ""));
	assert_int_equal(S3_SLOWER, judge(429, "", ""));
	assert_int_equal(S3_RENEW, judge(400, "ExpiredToken", ""));
	assert_int_equal(S3_RENEW, judge(403, "ExpiredToken", ""));
	assert_int_equal(S3_RENEW, judge(400, "InvalidToken", ""));
	assert_int_equal(S3_FINAL, judge(403, "RequestTimeTooSkewed", ""));
	assert_int_equal(S3_FINAL, judge(403, "AccessDenied", ""));
	assert_int_equal(S3_FINAL, judge(412, "PreconditionFailed", ""));
	assert_int_equal(S3_FINAL, judge(501, "NotImplemented", ""));
}

TEST(s3_faults_of_the_wrong_region_name_the_right_one)
{
	assert_int_equal(S3_MOVED, judge(301, "PermanentRedirect", "eu-west-1"));
	assert_int_equal(S3_MOVED, judge(400, "AuthorizationHeaderMalformed", "eu-west-1"));
	assert_int_equal(S3_FINAL, judge(403, "AccessDenied", "us-east-1"));
	assert_int_equal(S3_FINAL, judge(301, "PermanentRedirect", ""));
}

static void assert_told(const struct s3_fault *f, int code, const char *const *words)
{
	const struct s3_subject what = {.doing = "read",
		.bucket = "data",
		.key = "a.zip",
		.permission = "s3:GetObject",
		.endpoint = "http://s3",
		.region = "us-east-1",
		.who = "environment (AWS_ACCESS_KEY_ID)",
		.is_signed = true};
	struct error err;

	assert_int_equal(code, s3_fault_error(f, &what, &err));
	for (; *words != NULL; words++)
		if (strstr(err.msg, *words) == NULL)
			fail_msg("'%s' does not say '%s'", err.msg, *words);
}

static const struct s3_fault *fault(long status, const char *code)
{
	static struct s3_fault f;

	f = (struct s3_fault){.status = status};
	snprintf(f.code, sizeof(f.code), "%s", code);
	return &f;
}

TEST(s3_errors_say_who_asked_what_of_whom_and_what_came_back)
{
	static const char body[] =
		"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>"
		"<Message>No,\nreally</Message><RequestId>R1</RequestId></Error>";
	static const char *const words[] = {"s3://data/a.zip: cannot read it", "403 AccessDenied",
		"'No, really'", "request R1", "endpoint http://s3", "region us-east-1",
		"credentials: environment (AWS_ACCESS_KEY_ID)", "has to allow s3:GetObject",
		"arn:aws:s3:::data/*", NULL};
	struct s3_fault f;

	s3_fault_read(&f, 403, body, strlen(body));
	assert_told(&f, -EACCES, words);
}

#define SAYS(...) ((const char *const[]){__VA_ARGS__, NULL})

TEST(s3_errors_say_what_to_do)
{
	assert_told(
		fault(403, "InvalidAccessKeyId"), -EACCES, SAYS("does not know the access key"));
	assert_told(
		fault(403, "SignatureDoesNotMatch"), -EACCES, SAYS("secret key does not belong"));
	assert_told(fault(400, "ExpiredToken"), -ERR_HTTP, SAYS("has expired: get new ones"));
	assert_told(fault(404, "NoSuchBucket"), -ERR_HTTP, SAYS("spelling of the bucket"));
	assert_told(fault(404, "NoSuchKey"), -ENOENT, SAYS("spelling of the key"));
	assert_told(fault(404, ""), -ENOENT, SAYS("spelling"));
	assert_told(fault(412, "PreconditionFailed"), -EEXIST, SAYS("412"));
	assert_told(
		fault(301, "PermanentRedirect"), -ERR_HTTP, SAYS("region is wrong", "[s3] region"));
	assert_told(fault(502, ""), -ERR_HTTP, SAYS("502", "fault is the server's"));
}

TEST(s3_errors_of_a_wrong_clock_say_by_how_much)
{
	struct s3_fault f = *fault(403, "RequestTimeTooSkewed");

	f.date = time(NULL) - 7200;
	assert_told(&f, -EACCES, SAYS("clock is", "ahead of the server's"));
	f.date = time(NULL) + 7200;
	assert_told(&f, -EACCES, SAYS("behind the server's"));
	f.date = 0;
	assert_told(&f, -EACCES, SAYS("clock is wrong"));
}

TEST(s3_errors_that_are_no_xml_are_told_by_their_status)
{
	static const char page[] = "<html><h1>Bad Gateway</h1></html>";
	struct s3_fault f;

	s3_fault_read(&f, 502, page, strlen(page));
	assert_string_equal("", f.code);
	assert_told(&f, -ERR_HTTP, SAYS("answered 502 ("));
}

TEST(s3_errors_say_that_an_object_is_not_there_only_in_the_words_of_s3)
{
	static const char page[] = "<html><h1>Not Found</h1></html>";
	struct s3_fault f;

	assert_told(fault(404, "NoSuchKey"), -ENOENT, SAYS("404"));
	assert_told(fault(404, "NoSuchBucket"), -ERR_HTTP, SAYS("404"));
	assert_told(fault(404, "MethodNotAllowed"), -ERR_HTTP, SAYS("404"));
	/* As HEAD is answered. */
	s3_fault_read(&f, 404, "", 0);
	assert_told(&f, -ENOENT, SAYS("404"));
	s3_fault_read(&f, 404, page, strlen(page));
	assert_told(&f, -ERR_HTTP, SAYS("404"));
}

/* Where */

static char *url_of(const char *endpoint, const char *region, enum s3_style style,
	const char *bucket, const char *key)
{
	static const struct transfer_options network;
	static char *const environment[] = {
		"AWS_CONFIG_FILE=/nonexistent", "AWS_SHARED_CREDENTIALS_FILE=/nonexistent", NULL};
	const struct s3_options opts = {.endpoint = endpoint,
		.region = region,
		.style = style,
		.network = &network,
		.environment = environment};
	struct s3 *s = s3_new(&opts);
	_free_ char *where = s3_region_of(s, bucket);
	char *url = s3_url(s, where, bucket, key, NULL);

	s3_free(s);
	return url;
}

static void assert_url(const char *url, const char *endpoint, const char *region,
	enum s3_style style, const char *bucket, const char *key)
{
	_free_ char *is = url_of(endpoint, region, style, bucket, key);

	assert_string_equal(url, is);
}

TEST(s3_buckets_of_aws_are_named_in_the_host_where_they_can_be)
{
	assert_url("https://data.s3.eu-west-1.amazonaws.com/a%20b", "", "eu-west-1", S3_STYLE_AUTO,
		"data", "a b");
	assert_url("https://data.s3.us-east-1.amazonaws.com/", "", "", S3_STYLE_AUTO, "data", NULL);
	assert_url("https://s3.us-east-1.amazonaws.com/my.data/k", "", "", S3_STYLE_AUTO, "my.data",
		"k");
	assert_url("https://s3.us-east-1.amazonaws.com/My_Data", "", "", S3_STYLE_AUTO, "My_Data",
		NULL);
	assert_url("https://data.s3.cn-north-1.amazonaws.com.cn/k", "", "cn-north-1", S3_STYLE_AUTO,
		"data", "k");
	assert_url("https://s3.us-east-1.amazonaws.com/data/k", "", "", S3_STYLE_PATH, "data", "k");
}

TEST(s3_buckets_of_others_are_named_in_the_path)
{
	assert_url("http://127.0.0.1:9000/data/a//b/../c", "http://127.0.0.1:9000/", "",
		S3_STYLE_AUTO, "data", "a//b/../c");
	assert_url("https://minio/data//k", "minio", "", S3_STYLE_AUTO, "data", "/k");
	assert_url("http://data.s3.local:80/k", "http://s3.local:80", "", S3_STYLE_VIRTUAL, "data",
		"k");
}

TEST(s3_tallies_tell_one_listing_from_another)
{
	struct s3_object o = {.key = "a", .size = 5, .etag = "\"1\""};
	struct identity first, same, other;
	struct s3_tally *t = s3_tally_new();

	s3_tally_add(t, &o);
	s3_tally_free(t, &first);
	t = s3_tally_new();
	s3_tally_add(t, &o);
	s3_tally_free(t, &same);
	t = s3_tally_new();
	memcpy(o.etag, "\"2\"", 4);
	s3_tally_add(t, &o);
	s3_tally_free(t, &other);
	assert_true(object_identity_same(&first, &same));
	assert_false(object_identity_same(&first, &other));
	assert_int_equal(5, first.size);
}

TEST(s3_advice_is_by_code_and_where_that_says_little_by_message)
{
	assert_non_null(
		strstr(s3_advice_on(S3_S3, "AccessDenied",
			       "not authorized to perform: kms:GenerateDataKey on resource"),
			"kms:Decrypt"));
	assert_non_null(strstr(s3_advice_on(S3_S3, "KMS.NotFoundException", ""), "KMS key"));
	assert_non_null(strstr(s3_advice_on(S3_S3, "InvalidRequest",
				       "Missing header x-amz-server-side-encryption"),
		"default encryption"));
	assert_non_null(strstr(s3_advice_on(S3_S3, "AccessDenied",
				       "Access Denied because object protected by object lock."),
		"Object Lock"));
	assert_non_null(strstr(
		s3_advice_on(S3_S3, "InvalidRequest", "Object is WORM protected"), "Object Lock"));
	assert_non_null(strstr(s3_advice_on(S3_STS, "AccessDenied", ""), "trust policy"));
	assert_null(s3_advice_on(S3_S3, "AccessDenied", "Access Denied"));
	assert_null(s3_advice_on(S3_S3, "", ""));
}
