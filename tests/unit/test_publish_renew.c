/* SPDX-License-Identifier: MIT */
/* A destination that is renewed: what may take whose place, and what becomes of the one before. */
#include "defer.h"
#include "log.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct staging renewed(const char *dir, const char *etag)
{
	return (struct staging){
		.to = in(dir, "cats"), .key = "aaaa", .etag = etag, .names = "a b", .renew = true};
}

static bool holds_a_tree(const char *dir)
{
	_free_ char *names = list(in(dir, ".stagerun/cats"));

	return strstr(names, "tree.") != NULL;
}

TEST(renew_replaces_what_was_staged_before)
{
	_free_ char *dir = test_directory();
	struct staging one = renewed(dir, "v1"), two = renewed(dir, "v2"), other = one;

	assert_int_equal(STAGED, stage(&one, NULL));
	assert_int_equal(STAGED, stage(&two, NULL));
	assert_true(is_complete(&two));
	other.key = "bbbb";
	other.renew = false;
	assert_int_equal(-EEXIST, stage(&other, NULL));
	assert_true(is_complete(&two));
	other.renew = true;
	assert_int_equal(STAGED, stage(&other, NULL));
	assert_true(is_complete(&other));
}

TEST(renew_replaces_nothing_that_was_not_staged)
{
	_free_ char *dir = test_directory();
	struct staging s = renewed(dir, "v1");

	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "a"), "mine");
	assert_int_equal(-EEXIST, stage(&s, NULL));
}

TEST(renew_may_keep_what_it_replaced_until_the_next_time)
{
	_free_ char *dir = test_directory();
	struct staging one = renewed(dir, "v1"), two = renewed(dir, "v2");
	_close_ int reader = -1;
	char content[8] = "";
	int fd;

	assert_int_equal(STAGED, stage(&one, NULL));
	assert_false(holds_a_tree(dir));
	reader = open(one.to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(STAGED, stage(&two, NULL));
	assert_true(holds_a_tree(dir));
	fd = openat(reader, "a", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(2, read(fd, content, sizeof(content)));
	assert_memory_equal("v1", content, 2);
	close(fd);
	assert_int_equal(WARM, stage(&two, NULL));
	assert_false(holds_a_tree(dir));
	assert_true(is_complete(&two));
}

TEST(renew_merges_a_later_version_over_the_entries_of_the_one_before)
{
	_free_ char *dir = test_directory();
	struct staging one = renewed(dir, "v1"), two = renewed(dir, "v2");

	assert_int_equal(0, mkdir(one.to, 0755));
	put_text(in(one.to, "mine"), "mine");
	assert_int_equal(STAGED, stage(&one, NULL));
	assert_int_equal(STAGED, stage(&two, NULL));
	assert_true(is_complete(&two));
	assert_true(exists(in(two.to, "mine")));
}

static char *merge_versions(const char *dir, const char *one, const char *two, int expected)
{
	struct staging s = renewed(dir, "v1");

	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "mine"), "mine");
	s.names = one;
	assert_int_equal(STAGED, stage(&s, NULL));
	s.names = two;
	s.etag = "v2";
	assert_int_equal(expected, stage(&s, NULL));
	return list(s.to);
}

TEST(renew_takes_what_the_later_version_of_a_merge_does_not_have)
{
	_free_ char *dir = test_directory();
	_free_ char *names = merge_versions(dir, "a b/ c", "a d/", STAGED);
	struct staging three = renewed(dir, "v3");

	assert_string_equal("a d mine", names);
	three.names = "a b/ c";
	assert_int_equal(STAGED, stage(&three, NULL));
	assert_true(is_complete(&three));
	assert_int_equal(WARM, stage(&three, NULL));
	free(names);
	names = list(three.to);
	assert_string_equal("a b c mine", names);
}

TEST(renew_takes_nothing_of_a_merge_that_somebody_put_in_the_place_of_the_staged)
{
	_free_ char *dir = test_directory();
	struct staging s = renewed(dir, "v1");
	_free_ char *names = NULL;

	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "mine"), "mine");
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, rename(in(s.to, "mine"), in(s.to, "b")));
	s.etag = "v2";
	s.names = "a";
	assert_int_equal(-ERR_KEPT, stage(&s, NULL));
	s.replace = true;
	assert_int_equal(STAGED, stage(&s, NULL));
	names = list(s.to);
	assert_string_equal("a b", names);
}

/* Asked, with other options: what the stage before brought goes, and nobody else's. */
TEST(replace_takes_what_was_merged_from_the_same_source_with_other_options)
{
	_free_ char *dir = test_directory();
	struct staging s = renewed(dir, "v1"), other = s;
	_free_ char *names = NULL;

	s.renew = other.renew = false;
	s.lineage = "cats";
	other.lineage = "dogs";
	other.key = "dddd";
	other.names = "dog";
	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "mine"), "mine");
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(STAGED, stage(&other, NULL));
	s.key = "bbbb";
	s.names = "a c";
	assert_int_equal(-EEXIST, stage(&s, NULL));
	s.replace = true;
	assert_int_equal(STAGED, stage(&s, NULL));
	names = list(s.to);
	assert_string_equal("a c dog mine", names);
	free(names);
	names = list(in(dir, ".stagerun/cats/merged"));
	assert_string_equal("bbbb.json dddd.json", names);
	assert_int_equal(WARM, stage(&other, NULL));
}

static int stage_it(void *s)
{
	return stage(s, NULL) < 0 ? 1 : 0;
}

TEST(renew_takes_all_or_nothing_when_killed_at_any_system_call)
{
	_free_ char *dir = test_directory();
	int killed = 1;
	unsigned n = 1;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	for (; killed == 1; n++) {
		_free_ char *name = text_format("%u", n);
		_free_ char *names = NULL;
		char *parent = in(dir, name);
		struct staging s = renewed(parent, "v1");

		assert_int_equal(0, mkdir(parent, 0755));
		assert_int_equal(0, mkdir(s.to, 0755));
		put_text(in(s.to, "mine"), "mine");
		s.names = "a b/";
		assert_int_equal(STAGED, stage(&s, NULL));
		s.etag = "v2";
		s.names = "a c/";
		killed = kill_at_change(n, stage_it, &s);
		if (killed < 0)
			skip();
		assert_true(stage(&s, NULL) >= 0);
		assert_true(is_complete(&s));
		names = list(s.to);
		assert_string_equal("a c mine", names);
	}
	assert_true(n > 20);
}
