/* SPDX-License-Identifier: MIT */
#include "test.h"
#include "unpack.h"
#include <string.h>

static bool takes(const char *include, const char *name)
{
	const char *const patterns[] = {include, NULL};
	const struct selection sel = {.include = patterns};

	return select_apply(&sel, name) != NULL;
}

static const char *strip(unsigned n, const char *name)
{
	const struct selection sel = {.strip_components = n};

	return select_apply(&sel, name);
}

TEST(select_takes_everything_under_its_own_name_by_default)
{
	const struct selection sel = {0};

	assert_string_equal("./a//b", select_apply(&sel, "./a//b"));
	assert_string_equal("a", select_apply(NULL, "a"));
}

TEST(select_star_and_question_mark_stop_at_a_slash)
{
	assert_true(takes("a/*.txt", "a/x.txt"));
	assert_true(takes("a/?.txt", "a/x.txt"));
	assert_false(takes("a/*.txt", "a/b/x.txt"));
	assert_false(takes("a?b", "a/b"));
	assert_false(takes("a/?.txt", "a/xy.txt"));
	assert_true(takes("a/*", "a/.hidden"));
}

TEST(select_two_stars_cross_slashes)
{
	assert_true(takes("train/**", "train/a/b/c.png"));
	assert_false(takes("train/**", "train"));
	assert_false(takes("train/**", "trainer/x"));
	assert_true(takes("a/**.png", "a/b/c.png"));
	assert_true(takes("**/x", "a/b/x"));
}

TEST(select_two_stars_between_slashes_may_be_no_directory_at_all)
{
	assert_true(takes("a/**/b", "a/b"));
	assert_true(takes("a/**/b", "a/x/y/b"));
	assert_false(takes("a/**/b", "a/xb"));
	assert_true(takes("**/x", "x"));
	assert_false(takes("**/x", "ax"));
}

TEST(select_pattern_with_two_stars_and_stars_finds_the_match_that_greed_misses)
{
	assert_true(takes("**/a*b/c", "a1b/d/axb/c"));
	assert_true(takes("a/**/b*/**/c", "a/b/x/b1/y/c"));
	assert_true(takes("x/*a*b", "x/aab"));
	assert_false(takes("x/*a*b", "x/aac"));
}

TEST(select_brackets_and_backslashes_are_understood)
{
	assert_true(takes("a/[0-9].txt", "a/7.txt"));
	assert_false(takes("a/[!0-9].txt", "a/7.txt"));
	assert_true(takes("a/[]x]", "a/]"));
	assert_false(takes("a[.-0]b", "a/b"));
	assert_true(takes("a/\\*", "a/*"));
	assert_false(takes("a/\\*", "a/x"));
	assert_true(takes("a/[x", "a/[x"));
	assert_true(takes("a/\\", "a/\\"));
}

TEST(select_pattern_of_a_directory_takes_all_beneath_it)
{
	assert_true(takes("a/b", "a/b/c/d"));
	assert_true(takes("a/b/", "a/b/c"));
	assert_false(takes("a/b", "a/bc"));
	assert_false(takes("b/c", "a/b/c"));
}

TEST(select_pattern_without_a_slash_matches_at_any_depth)
{
	assert_true(takes("*.csv", "a/b/x.csv"));
	assert_true(takes("cache", "a/cache/b"));
	assert_true(takes("cache/", "a/cache/b"));
	assert_false(takes("*.csv", "x.csv.gz"));
}

TEST(select_pattern_with_a_leading_slash_is_bound_to_the_top)
{
	assert_true(takes("/x", "x"));
	assert_true(takes("./x", "x/y"));
	assert_false(takes("/x", "a/x"));
	assert_true(takes("/a/x", "./a/x"));
}

TEST(select_names_match_without_their_dots_and_doubled_slashes)
{
	assert_true(takes("a/b", "./a/.//b/"));
	assert_false(takes("*", "./"));
}

TEST(select_exclude_wins_over_include)
{
	const char *const include[] = {"a", NULL}, *const exclude[] = {"*.tmp", "a/b", NULL};
	const struct selection sel = {.include = include, .exclude = exclude};

	assert_non_null(select_apply(&sel, "a/x"));
	assert_null(select_apply(&sel, "a/x.tmp"));
	assert_null(select_apply(&sel, "a/b/x"));
	assert_null(select_apply(&sel, "c"));
}

TEST(select_strips_leading_components_and_leaves_out_shorter_names)
{
	assert_string_equal("b/c", strip(1, "a/b/c"));
	assert_string_equal("c", strip(2, "./a//b/./c"));
	assert_string_equal("../c", strip(1, "a/../c"));
	assert_null(strip(1, "a"));
	assert_null(strip(1, "a/"));
	assert_null(strip(3, "a/b/c"));
}

TEST(select_matches_before_it_strips)
{
	const char *const include[] = {"a/b", NULL};
	const struct selection sel = {.include = include, .strip_components = 1};

	assert_string_equal("b/c", select_apply(&sel, "a/b/c"));
}

TEST(select_pattern_of_many_stars_is_not_exponential)
{
	char name[4001];

	memset(name, 'a', 4000);
	name[4000] = '\0';
	assert_false(takes("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", name));
	assert_false(takes("**a**a**a**a**a**a**a**a**a**a**a**b", name));
}

TEST(select_collects_the_first_names_that_it_leaves_out)
{
	const char *const patterns[] = {"*.parquet", NULL};
	struct selection_left left = {0};
	const struct selection sel = {.left = &left, .include = patterns};
	struct text t = {0};

	text_add(&t, "");
	select_describe_left(&left, &t);
	assert_string_equal("", t.s);
	assert_null(select_apply(&sel, "train/"));
	assert_null(select_apply(&sel, "train/1.csv"));
	assert_non_null(select_apply(&sel, "train/1.parquet"));
	assert_null(select_apply(&sel, "train/2.csv"));
	select_describe_left(&left, &t);
	assert_string_equal(": there are 'train/1.csv', 'train/2.csv'", t.s);
	assert_null(select_apply(&sel, "train/3.csv"));
	assert_null(select_apply(&sel, "train/4.csv"));
	text_done(&t);
	select_describe_left(&left, &t);
	assert_string_equal(": there are 'train/1.csv', 'train/2.csv', 'train/3.csv', ...", t.s);
	text_done(&t);
	select_left_done(&left);
}
