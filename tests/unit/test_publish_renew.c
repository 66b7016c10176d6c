/* SPDX-License-Identifier: MIT */
/* A destination that is renewed: what may take whose place, and what becomes of the one before. */
#include "defer.h"
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
