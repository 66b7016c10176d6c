/* SPDX-License-Identifier: MIT */
/* ${NAME} in the texts of config.yml. */
#include "defer.h"
#include "runfile.h"
#include "test.h"
#include <string.h>

static const char *lookup(void *ctx, const char *name)
{
	(void)ctx;
	if (strcmp(name, "NAME") == 0)
		return "cats";
	if (strcmp(name, "_n2") == 0)
		return "${NAME}";
	return strcmp(name, "EMPTY") == 0 ? "" : NULL;
}

static void assert_expands(const char *s, const char *want)
{
	_free_ char *got = NULL;

	assert_int_equal(0, runfile_expand(s, lookup, NULL, &got, NULL));
	assert_string_equal(want, got);
}

static void assert_refused(const char *s, const char *sentence)
{
	struct error err = {0};
	char *got = NULL;

	assert_int_equal(-ERR_CONFIG, runfile_expand(s, lookup, NULL, &got, &err));
	assert_null(got);
	assert_string_equal(sentence, err.msg);
}

TEST(expand_puts_in_variables_and_leaves_all_else)
{
	assert_expands("", "");
	assert_expands("plain", "plain");
	assert_expands("${NAME}", "cats");
	assert_expands("/d/${NAME}/${EMPTY}x${NAME}", "/d/cats/xcats");
	assert_expands("$NAME $ $$ } {x} $${NAME}", "$NAME $ $$ } {x} $cats");
}

TEST(expand_of_a_path_knows_variables_without_braces)
{
	static const char *const paths[][2] = {{"$NAME", "cats"}, {"/d/$NAME/x", "/d/cats/x"},
		{"${NAME}$NAME-$EMPTY", "catscats-"}, {"$ $$ $1 $-x", "$ $$ $1 $-x"}, {"", ""},
		{"$_n2", "${NAME}"}, {"plain$", "plain$"}};
	struct error err = {0};
	char *none = NULL;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		_free_ char *got = NULL;

		assert_int_equal(0, runfile_expand_path(paths[i][0], lookup, NULL, &got, NULL));
		assert_string_equal(paths[i][1], got);
	}
	assert_int_equal(-ERR_CONFIG, runfile_expand_path("$NONE/x", lookup, NULL, &none, &err));
	assert_non_null(strstr(err.msg, "the environment has no NONE"));
}

TEST(expand_does_not_expand_what_a_variable_holds)
{
	assert_expands("<${_n2}>", "<${NAME}>");
}

TEST(expand_refuses_undefined_variables_and_other_expansions)
{
	assert_refused("a${NONE}b", "${NONE}: the environment has no NONE; "
				    "set it for the container, or under environment in config.yml");
	assert_refused("${NAME:-x}",
		"${NAME:-x} is not ${NAME}; other shell expansions work only in run actions");
	assert_refused(
		"${}", "${} is not ${NAME}; other shell expansions work only in run actions");
	assert_refused(
		"${1}", "${1} is not ${NAME}; other shell expansions work only in run actions");
	assert_refused("x${NAME", "a ${ without its }");
}
