/* SPDX-License-Identifier: MIT */
#include "../../agent/stage/stage_private.h"
#include "defer.h"
#include "test.h"
#include <string.h>
#include <sys/stat.h>

static struct stage_spec parsed(const char *arg)
{
	struct stage_spec spec = {0};

	assert_int_equal(0, stage_spec_parse(arg, &spec, NULL));
	spec.origin = text_copy("--stage");
	return spec;
}

TEST(stage_argument_is_split_at_the_last_equals_before_a_path)
{
	struct stage_spec spec = parsed("https://h/x.zip?a=/b=c&X-Amz-Signature=ab==/data/x");

	assert_string_equal("https://h/x.zip?a=/b=c&X-Amz-Signature=ab=", spec.sources[0].url);
	assert_string_equal("/data/x", spec.to);
	stage_spec_done(&spec);
}

TEST(stage_argument_may_name_a_relative_directory)
{
	struct stage_spec spec = parsed("/tmp/a=b.tar=./out");

	assert_string_equal("/tmp/a=b.tar", spec.sources[0].url);
	assert_string_equal("./out", spec.to);
	stage_spec_done(&spec);
}

TEST(stage_argument_without_a_directory_is_refused_with_the_form_it_should_have)
{
	struct stage_spec spec;
	struct error err;

	assert_int_equal(-ERR_USAGE, stage_spec_parse("https://h/x.zip", &spec, &err));
	assert_non_null(strstr(err.msg, "SOURCE=DIR"));
	assert_int_equal(-ERR_USAGE, stage_spec_parse("https://u:pw@h/x?sig=secret", &spec, &err));
	assert_non_null(strstr(err.msg, "https://h/x"));
	assert_null(strstr(err.msg, "secret"));
	assert_null(strstr(err.msg, "pw"));
	assert_int_equal(-ERR_USAGE, stage_spec_parse("=/data", &spec, &err));
	assert_int_equal(-ERR_USAGE, stage_spec_parse("https://h/x.zip=data", &spec, &err));
}

/* Joins two specs and returns the outcome; the stages are freed. */
static int join(const struct stage_spec specs[2], size_t *ret_n, struct error *err)
{
	static const struct stage_env env;
	struct stage *stages;
	int code = stage_join(&env, specs, 2, &stages, ret_n, err);

	for (size_t i = 0; i < *ret_n; i++)
		stage_done(&stages[i]);
	free(stages);
	return code;
}

TEST(sources_with_one_destination_are_one_stage_however_it_is_spelt)
{
	_free_ char *dir = test_directory();
	_free_ char *real = text_format("%s/real", dir), *link = text_format("%s/link", dir);
	_free_ char *a = text_format("/a.tar=%s/new", real),
		    *b = text_format("/b.tar=%s/new/", link);
	struct stage_spec specs[2] = {parsed(a), parsed(b)};
	size_t n;

	assert_int_equal(0, mkdir(real, 0755));
	assert_int_equal(0, symlink(real, link));
	assert_int_equal(0, join(specs, &n, NULL));
	assert_int_equal(1, n);
	stage_spec_done(&specs[0]);
	stage_spec_done(&specs[1]);
}

TEST(sources_with_one_destination_and_different_options_are_refused)
{
	struct stage_spec specs[2] = {parsed("/a.tar=/nowhere/x"), parsed("/b.tar=/nowhere/x")};
	struct error err;
	size_t n;

	specs[1].strip_components = 1;
	assert_int_equal(-ERR_USAGE, join(specs, &n, &err));
	assert_non_null(strstr(err.msg, "different options"));
	stage_spec_done(&specs[0]);
	stage_spec_done(&specs[1]);
}

TEST(destinations_inside_each_other_are_refused)
{
	struct stage_spec specs[2] = {parsed("/a.tar=/nowhere/x"), parsed("/b.tar=/nowhere/x/y")};
	struct error err;
	size_t n;

	assert_int_equal(-ERR_USAGE, join(specs, &n, &err));
	assert_non_null(strstr(err.msg, "inside"));
	stage_spec_done(&specs[0]);
	stage_spec_done(&specs[1]);
}

static void keys_of(const struct stage_spec specs[2], char keys[2][65])
{
	static const struct stage_env env;

	for (int i = 0; i < 2; i++) {
		struct stage *stages;
		size_t n;

		assert_int_equal(0, stage_join(&env, &specs[i], 1, &stages, &n, NULL));
		memcpy(keys[i], stages[0].key, 65);
		stage_done(&stages[0]);
		free(stages);
	}
}

TEST(key_of_a_stage_ignores_signatures_and_heeds_options)
{
	struct stage_spec specs[2] = {parsed("https://h/a.tar?X-Amz-Signature=1=/nowhere/x"),
		parsed("https://h/a.tar?X-Amz-Signature=2=/nowhere/x")};
	char keys[2][65];

	keys_of(specs, keys);
	assert_string_equal(keys[0], keys[1]);
	specs[1].no_extract = true;
	keys_of(specs, keys);
	assert_string_not_equal(keys[0], keys[1]);
	stage_spec_done(&specs[0]);
	stage_spec_done(&specs[1]);
}

TEST(slots_are_given_while_there_are_some_and_none_is_waited_for)
{
	uv_async_t freed;
	struct slots slots;
	uv_loop_t loop;

	assert_int_equal(0, uv_loop_init(&loop));
	assert_int_equal(0, uv_async_init(&loop, &freed, NULL));
	stage_slots_init(&slots, 2, &freed);
	assert_true(stage_slots_take(&slots));
	assert_true(stage_slots_take(&slots));
	assert_false(stage_slots_take(&slots));
	stage_slots_release(&slots);
	assert_true(stage_slots_take(&slots));
	uv_close((uv_handle_t *)&freed, NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(0, uv_loop_close(&loop));
}
