/* SPDX-License-Identifier: MIT */
/* The rules for names and link targets, as text. */
#include "../../agent/write/tree_private.h"
#include "defer.h"
#include "test.h"
#include <limits.h>
#include <string.h>

static void assert_normal(const char *name, const char *want)
{
	char path[PATH_MAX];
	struct error err = {0};

	if (tree_path_normalise(name, PATH_MAX - 1, path, &err) != 0)
		fail_msg("%s", err.msg);
	assert_string_equal(path, want);
}

static void assert_name_refused(const char *name, const char *words)
{
	char path[PATH_MAX];
	struct error err = {0};

	assert_int_equal(tree_path_normalise(name, PATH_MAX - 1, path, &err), -ERR_REFUSED);
	if (strstr(err.msg, words) == NULL)
		fail_msg("'%s' does not say '%s'", err.msg, words);
}

TEST(path_normalise_drops_dots_and_slashes)
{
	assert_normal("a", "a");
	assert_normal("./a/b", "a/b");
	assert_normal("a//b///c/", "a/b/c");
	assert_normal("a/./b/.", "a/b");
}

TEST(path_normalise_calls_the_root_the_empty_path)
{
	assert_normal("./", "");
	assert_normal(".", "");
	assert_normal("././/.", "");
}

TEST(path_normalise_keeps_names_that_only_look_special)
{
	assert_normal("...", "...");
	assert_normal("..a/a..", "..a/a..");
	assert_normal(".hidden", ".hidden");
	assert_normal("..\\..\\a", "..\\..\\a");
}

TEST(path_normalise_refuses_absolute_names)
{
	assert_name_refused("/etc/passwd", "absolute");
	assert_name_refused("//a", "absolute");
	assert_name_refused("/", "absolute");
}

TEST(path_normalise_refuses_going_up_anywhere)
{
	assert_name_refused("..", "'..'");
	assert_name_refused("../a", "'..'");
	assert_name_refused("a/../../b", "'..'");
	assert_name_refused("a/..", "'..'");
	assert_name_refused("a/../", "'..'");
}

TEST(path_normalise_refuses_the_agents_own_names_at_every_depth)
{
	static const char *const refused[] = {".stagerun", ".stagerun/x", "a/.stagerun",
		"./a//b/.stagerun/cats/merged/k.json", ".stagerun-1000", "a/.stagerun-x/b",
		"a/.StageRun"};
	static const char *const taken[] = {
		"stagerun", ".stagerunx", "a.stagerun", ".stagerun.ini"};

	for (size_t i = 0; i < ARRAY_LEN(refused); i++)
		assert_name_refused(refused[i], "the agent keeps its own files");
	for (size_t i = 0; i < ARRAY_LEN(taken); i++)
		assert_normal(taken[i], taken[i]);
}

TEST(path_normalise_refuses_an_empty_name)
{
	assert_name_refused("", "no name");
}

TEST(path_normalise_takes_components_of_255_bytes_and_no_more)
{
	char name[300];

	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	assert_normal(name, name);
	name[255] = 'n';
	name[256] = '\0';
	assert_name_refused(name, "256 bytes");
}

TEST(path_normalise_refuses_names_over_the_limit_and_says_which)
{
	char path[8];
	struct error err;

	assert_int_equal(tree_path_normalise("abc/efg", 7, path, &err), 0);
	assert_int_equal(tree_path_normalise("abc/efgh", 7, path, &err), -ERR_REFUSED);
	assert_non_null(strstr(err.msg, "8 bytes"));
	assert_non_null(strstr(err.msg, "limits.max_path is 7"));
}

TEST(path_helpers_split_normalised_paths)
{
	assert_int_equal(tree_path_depth(""), 0);
	assert_int_equal(tree_path_depth("a"), 1);
	assert_int_equal(tree_path_depth("a/b/c"), 3);
	assert_int_equal(tree_path_parent_len("a"), 0);
	assert_int_equal(tree_path_parent_len("a/b/c"), 3);
	assert_string_equal(tree_path_base("a/b/c"), "c");
	assert_string_equal(tree_path_base("c"), "c");
}

static int check(const char *link, const char *target, bool *ret_verify)
{
	struct error err;

	return tree_path_check_target(link, target, PATH_MAX - 1, ret_verify, &err);
}

TEST(path_check_target_counts_leading_dots_against_the_links_depth)
{
	bool verify;

	assert_int_equal(check("a/b/l", "../../x", &verify), 0);
	assert_false(verify);
	assert_int_equal(check("a/b/l", "../../../x", &verify), -ERR_REFUSED);
	assert_int_equal(check("l", "..", &verify), -ERR_REFUSED);
	assert_int_equal(check("l", ".", &verify), 0);
	assert_int_equal(check("l", "./././../x", &verify), -ERR_REFUSED);
}

TEST(path_check_target_wants_a_later_look_at_dots_after_names)
{
	bool verify;

	assert_int_equal(check("l", "a/b/../c", &verify), 0);
	assert_true(verify);
	assert_int_equal(check("d/l", "../a/..", &verify), 0);
	assert_true(verify);
	assert_int_equal(check("l", "a/../..", &verify), -ERR_REFUSED);
}

TEST(path_check_target_refuses_absolute_and_empty_targets)
{
	bool verify;

	assert_int_equal(check("l", "/etc", &verify), -ERR_REFUSED);
	assert_int_equal(check("l", "", &verify), -ERR_REFUSED);
}

TEST(entry_refused_keeps_the_reason_whatever_the_names_length)
{
	char name[4000];
	struct error err;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_int_equal(tree_entry_refused(&err, name, "the reason"), -ERR_REFUSED);
	assert_non_null(strstr(err.msg, "was refused: the reason"));
}
