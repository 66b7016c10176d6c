/* SPDX-License-Identifier: MIT */
/* Going on with a tree that a killed run left, and the sum that tells what a tree holds. */
#include "file_sum.h"
#include "tree_fixture.h"
#include <string.h>
#include <unistd.h>

/* What is there from now on was there before; the clock of a file system is a coarse one. */
static void go_on(struct fixture *f)
{
	struct timespec since;

	usleep(20000);
	fixture_reopen(f);
	clock_gettime(CLOCK_REALTIME_COARSE, &since);
	tree_continue(f->tree, &since);
}

static int has(struct fixture *f, const char *name, const char *content)
{
	struct meta m = meta_of(0644);

	return writer_has(f->w, name, &m, strlen(content), &f->err);
}

TREE_TEST(continued_tree_has_the_files_that_were_complete)
{
	assert_ok(f, put_file(f, "d/a", "content"));
	go_on(f);
	assert_int_equal(1, has(f, "d/a", "content"));
	assert_int_equal(0, has(f, "d/b", "content"));
	assert_int_equal(1, tree_found(f->tree));
}

TREE_TEST(new_tree_has_nothing)
{
	assert_ok(f, put_file(f, "a", "content"));
	assert_int_equal(0, has(f, "a", "content"));
}

TREE_TEST(continued_tree_has_no_file_of_another_size_or_time)
{
	struct meta later = meta_of(0644);

	later.mtime.tv_nsec++;
	assert_ok(f, put_file(f, "a", "content"));
	go_on(f);
	assert_int_equal(0, has(f, "a", "contents"));
	assert_int_equal(0, writer_has(f->w, "a", &later, strlen("content"), &f->err));
	assert_int_equal(0, writer_has(f->w, "a", &later, SIZE_UNKNOWN, &f->err));
}

TREE_TEST(continued_tree_has_a_file_once)
{
	assert_ok(f, put_file(f, "a", "content"));
	go_on(f);
	assert_int_equal(1, has(f, "a", "content"));
	assert_int_equal(0, has(f, "a", "content"));
}

TREE_TEST(continued_tree_does_not_have_what_was_written_since)
{
	go_on(f);
	assert_ok(f, put_file(f, "a", "content"));
	assert_int_equal(0, has(f, "a", "content"));
}

TREE_TEST(continued_tree_gives_a_file_the_mode_it_shall_have)
{
	struct meta m = meta_of(0600);

	assert_ok(f, put_file(f, "a", "content"));
	go_on(f);
	assert_int_equal(1, writer_has(f->w, "a", &m, strlen("content"), &f->err));
	assert_int_equal(0600, stat_of(f, "a").st_mode & 07777);
}

TREE_TEST(continued_tree_drops_what_no_entry_speaks_of)
{
	assert_ok(f, put_file(f, "d/a", "content"));
	assert_ok(f, put_file(f, "d/added", "content"));
	assert_ok(f, put_symlink(f, "link", "d/a"));
	assert_ok(f, put_dir(f, "empty", 0755));
	assert_ok(f, put_dir(f, "spoken/of", 0755));
	assert_ok(f, put_file(f, "other/deep/er", "content"));
	go_on(f);
	assert_int_equal(1, has(f, "d/a", "content"));
	assert_ok(f, put_dir(f, "spoken/of", 0755));
	assert_ok(f, fixture_finish(f, NULL));
	assert_content(f, "d/a", "content");
	assert_true(is_there(f, "spoken/of"));
	assert_false(is_there(f, "d/added"));
	assert_false(is_there(f, "link"));
	assert_false(is_there(f, "empty"));
	assert_false(is_there(f, "other"));
}

TREE_TEST(continued_tree_drops_second_names_that_no_entry_speaks_of)
{
	assert_ok(f, put_file(f, "a", "content"));
	assert_ok(f, put_hardlink(f, "b", "a"));
	assert_ok(f, put_hardlink(f, "c", "a"));
	tree_prepare_continue(f->root_fd, NULL);
	go_on(f);
	if (!has(f, "a", "content"))
		assert_ok(f, put_file(f, "a", "content"));
	assert_ok(f, put_hardlink(f, "b", "a"));
	assert_ok(f, fixture_finish(f, NULL));
	assert_content(f, "a", "content");
	assert_content(f, "b", "content");
	assert_false(is_there(f, "c"));
}

TREE_TEST(continued_tree_takes_no_link_to_what_this_run_has_not_seen)
{
	assert_ok(f, put_file(f, "a", "content"));
	go_on(f);
	assert_failed(f, put_hardlink(f, "b", "a"), -ERR_REFUSED, "not in the tree");
	assert_int_equal(1, has(f, "a", "content"));
	assert_ok(f, put_hardlink(f, "b", "a"));
}

TREE_TEST(tree_that_is_made_ready_follows_no_link)
{
	assert_ok(f, put_dir(f, "d/closed", 0000));
	assert_ok(f, put_file(f, "file", "x"));
	assert_int_equal(0, symlinkat("../outside", f->root_fd, "link"));
	(void)!mkdirat(f->root_fd, "../outside", 0700);
	tree_prepare_continue(f->root_fd, NULL);
	assert_int_equal(0755, stat_of(f, "d/closed").st_mode & 07777);
	assert_int_equal(0700, stat_of(f, "../outside").st_mode & 07777);
	assert_int_equal(0644, stat_of(f, "file").st_mode & 07777);
}

TREE_TEST(continued_tree_counts_what_it_has_against_its_limits)
{
	f->opts.limits.max_bytes = 10;
	assert_ok(f, put_file(f, "a", "content"));
	go_on(f);
	assert_int_equal(1, has(f, "a", "content"));
	assert_failed(f, put_file(f, "b", "content"), -ERR_LIMIT, "max_bytes");
}

TREE_TEST(sum_of_files_is_that_of_their_marks)
{
	assert_ok(f, put_file(f, "a", "content"));
	assert_ok(f, put_file(f, "d/b", "more"));
	assert_true(tree_file_sum(f->tree).known);
	assert_int_equal(
		file_sum_mark("d/b", 4) + file_sum_mark("a", 7), tree_file_sum(f->tree).dense);
}

TEST(marks_differ_by_name_and_by_size)
{
	assert_int_not_equal(file_sum_mark("a", 1), file_sum_mark("a", 2));
	assert_int_not_equal(file_sum_mark("a", 1), file_sum_mark("b", 1));
	assert_int_not_equal(file_sum_mark("a", 1) + file_sum_mark("b", 2),
		file_sum_mark("a", 2) + file_sum_mark("b", 1));
}

TREE_TEST(sum_of_files_has_the_later_of_two_with_one_name)
{
	assert_ok(f, put_file(f, "a", "content"));
	assert_ok(f, put_file(f, "a", "other"));
	assert_int_equal(file_sum_mark("a", 5), tree_file_sum(f->tree).dense);
	assert_ok(f, put_symlink(f, "a", "b"));
	assert_int_equal(0, tree_file_sum(f->tree).dense);
}

TREE_TEST(sum_of_files_has_each_name_of_a_file)
{
	assert_ok(f, put_file(f, "a", "content"));
	assert_ok(f, put_hardlink(f, "b", "a"));
	assert_ok(f, put_hardlink(f, "b", "a"));
	assert_int_equal(
		file_sum_mark("a", 7) + file_sum_mark("b", 7), tree_file_sum(f->tree).dense);
}

TREE_TEST(sum_of_a_continued_tree_is_that_of_one_in_one_go)
{
	assert_ok(f, put_file(f, "a", "content"));
	assert_ok(f, put_file(f, "b", "half"));
	go_on(f);
	assert_int_equal(1, has(f, "a", "content"));
	assert_ok(f, put_file(f, "b", "all of it"));
	assert_int_equal(
		file_sum_mark("a", 7) + file_sum_mark("b", 9), tree_file_sum(f->tree).dense);
}

TREE_TEST(sum_of_files_keeps_those_with_holes_apart)
{
	struct meta m = meta_of(0644);

	assert_ok(f, writer_file_open(f->w, "a", &m, 1 << 20, false, &f->err));
	assert_ok(f, writer_file_write(f->w, 0, "x", 1, &f->err));
	assert_ok(f, writer_file_close(f->w, &f->err));
	assert_int_equal(0, tree_file_sum(f->tree).dense);
	assert_int_equal(file_sum_mark("a", 1 << 20), tree_file_sum(f->tree).sparse);
	assert_true(tree_file_sum(f->tree).known);
}
