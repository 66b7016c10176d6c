/* SPDX-License-Identifier: MIT */
#include "../../agent/command/options.h"
#include "defer.h"
#include "test.h"
#include <string.h>

struct taken {
	const char *file;
	int verbose;
};

static int take_file(void *into, const char *value, struct error *err)
{
	(void)err;
	((struct taken *)into)->file = value;
	return 0;
}

static int take_verbose(void *into, const char *value, struct error *err)
{
	(void)err;
	assert_null(value);
	((struct taken *)into)->verbose++;
	return 0;
}

static const struct option_row rows[] = {
	{"mount_dir", 0, "DIR", "", take_file},
	{"verbose", 'v', NULL, "", take_verbose},
	{NULL},
};
static const struct option_row *const tables[] = {rows, NULL};

static int parse(char **argv, struct taken *taken, int *rest, struct error *err)
{
	int argc = 0;

	while (argv[argc] != NULL)
		argc++;
	return options_parse(argc, argv, tables, taken, rest, err);
}

TEST(option_values_come_behind_a_space_or_an_equals_and_dashes_match_underscores)
{
	struct taken taken = {0};
	int rest;

	assert_int_equal(
		0, parse((char *[]){"--mount-dir", "/a", "-v", "x", NULL}, &taken, &rest, NULL));
	assert_string_equal("/a", taken.file);
	assert_int_equal(1, taken.verbose);
	assert_int_equal(3, rest);
	assert_int_equal(0, parse((char *[]){"--mount_dir=/b=c", NULL}, &taken, &rest, NULL));
	assert_string_equal("/b=c", taken.file);
}

TEST(options_end_at_the_first_word_that_is_none_and_at_two_dashes)
{
	struct taken taken = {0};
	int rest;

	assert_int_equal(0, parse((char *[]){"python", "-v", NULL}, &taken, &rest, NULL));
	assert_int_equal(0, rest);
	assert_int_equal(0, parse((char *[]){"--", "-v", NULL}, &taken, &rest, NULL));
	assert_int_equal(1, rest);
	assert_int_equal(0, taken.verbose);
}

TEST(unknown_option_is_refused_with_the_nearest_one)
{
	struct taken taken = {0};
	struct error err;
	int rest;

	assert_int_equal(-ERR_USAGE, parse((char *[]){"--verbos", NULL}, &taken, &rest, &err));
	assert_non_null(strstr(err.msg, "--verbose"));
	assert_int_equal(-ERR_USAGE, parse((char *[]){"--colour=x", NULL}, &taken, &rest, &err));
	assert_non_null(strstr(err.msg, "--colour"));
}

TEST(option_without_its_value_and_switch_with_one_are_refused)
{
	struct taken taken = {0};
	struct error err;
	int rest;

	assert_int_equal(-ERR_USAGE, parse((char *[]){"--mount_dir", NULL}, &taken, &rest, &err));
	assert_non_null(strstr(err.msg, "DIR"));
	assert_int_equal(-ERR_USAGE, parse((char *[]){"--verbose=1", NULL}, &taken, &rest, &err));
}

TEST(options_of_all_words_may_stand_anywhere_before_two_dashes)
{
	char *argv[] = {"SOURCE", "--mount_dir", "/a", "-", "-v", "--", "--verbose", "-v"};
	struct taken taken = {0};
	struct strings words = {0};

	assert_int_equal(0, options_parse_all(8, argv, tables, &taken, &words, NULL));
	assert_string_equal("/a", taken.file);
	assert_int_equal(1, taken.verbose);
	assert_int_equal(4, words.n);
	assert_string_equal("SOURCE", words.v[0]);
	assert_string_equal("-", words.v[1]);
	assert_string_equal("--verbose", words.v[2]);
	assert_string_equal("-v", words.v[3]);
	text_strings_done(&words);
}
