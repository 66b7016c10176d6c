/* SPDX-License-Identifier: MIT */
#include "datastore_ref.h"
#include "test.h"
#include <string.h>

static void assert_refused(const char *arg, const char *sentence)
{
	struct datastore_ref ref = {0};
	struct error err = {0};

	assert_int_equal(-ERR_USAGE, datastore_ref_parse(arg, &ref, &err));
	assert_string_equal(sentence, err.msg);
	assert_null(ref.name);
}

TEST(datastore_ref_refuses_versions_of_other_tools_and_says_what_to_write)
{
	assert_refused("cats:latest",
		"'cats:latest': a version is a number, such as cats:3; the newest is what cats alone means");
	assert_refused("ann:cats:Latest=/data",
		"'ann:cats:Latest=/data': a version is a number, such as ann:cats:3; the newest is what ann:cats alone means");
	assert_refused("cats:v12", "'cats:v12': a version is a plain number: write cats:12");
}

TEST(datastore_ref_takes_names_that_only_look_like_versions)
{
	static const char *const names[] = {
		"latest", "v1", "ann:v1beta", "ann:vision", "ann:latest-cats"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct datastore_ref ref = {0};

		assert_int_equal(0, datastore_ref_parse(names[i], &ref, NULL));
		assert_string_equal(names[i], ref.name);
		assert_null(ref.version);
		datastore_ref_done(&ref);
	}
}
