/* SPDX-License-Identifier: MIT */
/* What `stagerun datastore` makes of words, and how it prints. */
#include "../../agent/command/datastore/datastore_call.h"
#include "../../agent/command/options.h"
#include "defer.h"
#include "json_bytes.h"
#include "test.h"
#include <string.h>

static void assert_default_name(const char *source, const char *expected)
{
	_free_ char *name = datastore_default_name(source);

	assert_string_equal(expected, name);
}

TEST(a_datastore_is_called_as_the_last_part_of_its_source_up_to_a_dot)
{
	assert_default_name("/data/Cats", "cats");
	assert_default_name("/data/cats.v2/", "cats");
	assert_default_name("cifar5.tar.gz", "cifar5");
	assert_default_name("https://host/a/CIFAR5.zip?sig=a/b", "cifar5");
	assert_default_name("s3://bucket/raw/dogs/", "dogs");
	assert_default_name("s3://bucket", "bucket");
	assert_default_name("/usr/bin/..", "usr");
	assert_default_name("/data/.hidden", "");
}

static void assert_target(const char *word, const char *name, unsigned version)
{
	struct datastore_target t;

	assert_int_equal(0, datastore_target_parse(word, &t, NULL));
	assert_string_equal(name, t.name);
	assert_int_equal(version, t.version);
	free(t.name);
}

TEST(a_target_is_a_name_and_perhaps_a_version)
{
	struct datastore_target t;

	assert_target("cats", "cats", 0);
	assert_target("cats:12", "cats", 12);
	assert_target("ann:cats:3", "cats", 3);
	assert_int_equal(-ERR_USAGE, datastore_target_parse("cats:0", &t, NULL));
	assert_int_equal(-ERR_USAGE, datastore_target_parse("cats:99999999999", &t, NULL));
	assert_int_equal(-ERR_USAGE, datastore_target_parse("cats=/x", &t, NULL));
	assert_int_equal(-ERR_USAGE, datastore_target_parse("Cats", &t, NULL));
}

static void assert_shown(const char *s, bool terminal, const char *expected)
{
	struct text t = {0};

	output_add_shown(&t, s, terminal);
	assert_string_equal(expected, t.s);
	text_done(&t);
}

TEST(names_cannot_draw_on_a_terminal)
{
	assert_shown("a\033[2Jb\n\177c", true, "a\\x1b[2Jb\\x0a\\x7fc");
	assert_shown("a\033b\n", false, "a\033b\n");
	assert_shown("ünï", true, "ünï");
}

static void assert_json(const char *s, const char *expected)
{
	struct text t = {0};

	json_add_text(&t, s);
	text_add(&t, "");
	assert_string_equal(expected, t.s);
	text_done(&t);
}

TEST(json_strings_keep_every_byte)
{
	assert_json("", "\"\"");
	assert_json("a\"b\\c\nd", "\"a\\\"b\\\\c\\u000ad\"");
	assert_json("ü€😀", "\"ü€😀\"");
	assert_json("\377a\xc3", "\"\\udcffa\\udcc3\"");
	assert_json("\xed\xa0\x80", "\"\\udced\\udca0\\udc80\"");
	assert_json("\xc0\xaf", "\"\\udcc0\\udcaf\"");
}

TEST(a_table_is_as_wide_as_its_cells)
{
	struct table t = {.headings = "NAME >SIZE LAST"};
	char *printed = NULL;
	size_t len;
	FILE *f = open_memstream(&printed, &len);

	output_table_add(&t, "a-long-name");
	output_table_add(&t, "1 B");
	output_table_add(&t, "x");
	output_table_addf(&t, "%c", 'b');
	output_table_add(&t, "1.25 GB");
	output_table_add(&t, "yy");
	output_table_print(&t, f);
	fclose(f);
	assert_string_equal("NAME            SIZE  LAST\n"
			    "a-long-name      1 B  x\n"
			    "b            1.25 GB  yy\n",
		printed);
	free(printed);
	output_table_done(&t);
}

TEST(a_policy_is_for_buckets_and_roles)
{
	struct error err;
	char *json;

	assert_int_equal(
		-ERR_USAGE, datastore_policy("file:///x", "arn:aws:iam::1:role/x", &json, &err));
	assert_non_null(strstr(err.msg, "only buckets have policies"));
	assert_int_equal(-ERR_USAGE, datastore_policy("s3://bucket/p", "bob", &json, &err));
	assert_non_null(strstr(err.msg, "'bob' is not the ARN"));
}

TEST(a_policy_lets_somebody_read_below_the_prefix_and_no_more)
{
	char *json = NULL;

	assert_int_equal(
		0, datastore_policy("s3://bucket/p/", "arn:aws-cn:iam::1:role/x", &json, NULL));
	assert_non_null(strstr(json, "\"arn:aws-cn:s3:::bucket/p/*\""));
	assert_non_null(strstr(json, "\"s3:prefix\""));
	assert_non_null(strstr(json, "\"p/*\""));
	assert_non_null(strstr(json, "\"s3:ListBucket\""));
	assert_non_null(strstr(json, "\"s3:GetBucketLocation\""));
	assert_null(strstr(json, "Put"));
	free(json);
}

TEST(a_policy_for_a_whole_bucket_has_no_condition)
{
	char *json = NULL;

	assert_int_equal(0, datastore_policy("s3://bucket", "arn:aws:iam::1:role/x", &json, NULL));
	assert_non_null(strstr(json, "\"arn:aws:s3:::bucket/*\""));
	assert_null(strstr(json, "Condition"));
	free(json);
}
