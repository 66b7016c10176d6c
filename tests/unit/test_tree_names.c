/* SPDX-License-Identifier: MIT */
/* Names: hostile ones, odd ones, and the same one twice. */
#include "tree_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

TREE_TEST(tree_refuses_absolute_names)
{
	assert_failed(f, put_file(f, "/tmp/moo", "x"), -ERR_REFUSED, "'/tmp/moo' was refused");
	assert_failed(f, put_dir(f, "//moo", 0755), -ERR_REFUSED, "absolute");
	assert_failed(f, put_symlink(f, "/moo", "x"), -ERR_REFUSED, "absolute");
	assert_failed(f, put_hardlink(f, "/moo", "x"), -ERR_REFUSED, "absolute");
}

TREE_TEST(tree_refuses_names_that_go_up)
{
	assert_failed(f, put_file(f, "../moo", "x"), -ERR_REFUSED, "'..'");
	assert_failed(f, put_file(f, "tmp/../../moo", "x"), -ERR_REFUSED, "'..'");
	assert_failed(f, put_file(f, "a/..", "x"), -ERR_REFUSED, "'..'");
	assert_failed(f, put_dir(f, "..", 0755), -ERR_REFUSED, "'..'");
	assert_false(is_there(f, "tmp"));
}

TREE_TEST(tree_refuses_a_sibling_whose_name_begins_like_the_root)
{
	assert_failed(f, put_file(f, "../root-evil/x", "x"), -ERR_REFUSED, "'..'");
}

TREE_TEST(tree_refuses_a_file_in_the_place_of_the_root)
{
	assert_failed(f, put_file(f, "./", "x"), -ERR_REFUSED, "root");
	assert_failed(f, put_symlink(f, ".", "a"), -ERR_REFUSED, "root");
}

TREE_TEST(tree_makes_missing_parents)
{
	assert_ok(f, put_file(f, "a/b/c/file", "deep"));
	assert_content(f, "a/b/c/file", "deep");
	assert_int_equal(stat_of(f, "a").st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_of(f, "a/b/c").st_mode, S_IFDIR | 0755);
}

TREE_TEST(tree_never_writes_through_a_symlink_of_the_archive)
{
	assert_ok(f, put_dir(f, "real", 0755));
	assert_ok(f, put_symlink(f, "link", "real"));
	assert_failed(
		f, put_file(f, "link/x", "x"), -ERR_REFUSED, "its parent 'link' is not a dir");
	assert_failed(f, put_dir(f, "link/sub/dir", 0755), -ERR_REFUSED, "'link'");
	assert_failed(f, put_symlink(f, "link/l", "x"), -ERR_REFUSED, "'link'");
	assert_false(is_there(f, "real/x"));
	assert_false(is_there(f, "real/sub"));
}

TREE_TEST(tree_never_writes_through_a_planted_symlink)
{
	char *outside = test_directory();

	assert_int_equal(symlinkat(outside, f->root_fd, "planted"), 0);
	assert_failed(f, put_file(f, "planted/x", "x"), -ERR_REFUSED, "'planted'");
	assert_failed(f, put_file(f, "planted/sub/x", "x"), -ERR_REFUSED, "'planted'");
	assert_failed(f, put_hardlink(f, "h", "planted/x"), -ERR_REFUSED, "not in the tree");
	assert_int_equal(rmdir(outside), 0); /* still empty */
	free(outside);
}

TREE_TEST(tree_replaces_a_planted_symlink_instead_of_following_it)
{
	char *outside = test_directory(), *victim = NULL;

	assert_true(asprintf(&victim, "%s/victim", outside) > 0);
	assert_int_equal(symlinkat(victim, f->root_fd, "file"), 0);
	assert_ok(f, put_file(f, "file", "mine"));
	assert_content(f, "file", "mine");
	assert_int_equal(access(victim, F_OK), -1);
	free(victim);
	free(outside);
}

TREE_TEST(tree_refuses_a_file_as_a_parent)
{
	assert_ok(f, put_file(f, "a/f", "x"));
	assert_failed(f, put_file(f, "a/f/x", "x"), -ERR_REFUSED, "its parent 'a/f' is not");
	assert_failed(f, put_file(f, "a/f/b/x", "x"), -ERR_REFUSED, "its parent 'a/f' is not");
}

TREE_TEST(tree_does_not_replace_a_symlink_with_a_directory)
{
	assert_ok(f, put_symlink(f, "sym", "elsewhere"));
	assert_failed(f, put_dir(f, "sym/", 0755), -ERR_REFUSED, "would replace something else");
	assert_target(f, "sym", "elsewhere");
}

TREE_TEST(tree_does_not_replace_a_file_with_a_directory_nor_the_reverse)
{
	assert_ok(f, put_file(f, "file", "x"));
	assert_ok(f, put_dir(f, "dir", 0755));
	assert_failed(f, put_dir(f, "file", 0755), -ERR_REFUSED, "would replace something else");
	assert_failed(f, put_file(f, "dir", "x"), -ERR_REFUSED, "would replace a directory");
	assert_failed(f, put_symlink(f, "dir", "x"), -ERR_REFUSED, "would replace a directory");
	assert_failed(f, put_hardlink(f, "dir", "file"), -ERR_REFUSED, "would replace a directory");
}

TREE_TEST(tree_lets_the_later_file_win)
{
	assert_ok(f, put_file(f, "f", "a long first content"));
	assert_ok(f, put_file(f, "f", "second"));
	assert_content(f, "f", "second");
	assert_ok(f, put_symlink(f, "f", "target"));
	assert_target(f, "f", "target");
	assert_ok(f, put_file(f, "f", "third"));
	assert_content(f, "f", "third");
}

TREE_TEST(tree_replaces_one_name_of_a_hard_link_only)
{
	assert_ok(f, put_file(f, "one", "old"));
	assert_ok(f, put_hardlink(f, "two", "one"));
	assert_ok(f, put_file(f, "one", "new"));
	assert_content(f, "one", "new");
	assert_content(f, "two", "old");
}

TREE_TEST(tree_of_several_sources_refuses_a_name_twice)
{
	f->opts.several_sources = true;
	fixture_reopen(f);
	assert_ok(f, put_dir(f, "dir", 0755));
	assert_ok(f, put_dir(f, "dir", 0755));
	assert_ok(f, put_file(f, "dir/f", "first"));
	assert_failed(f, put_file(f, "dir/f", "second"), -ERR_REFUSED, "two sources");
	assert_failed(f, put_symlink(f, "dir/f", "x"), -ERR_REFUSED, "two sources");
	assert_ok(f, put_file(f, "other", "x"));
	assert_failed(f, put_hardlink(f, "dir/f", "other"), -ERR_REFUSED, "two sources");
	assert_content(f, "dir/f", "first");
}

TREE_TEST(tree_takes_any_byte_in_names)
{
	const char *names[] = {"new\nline", "esc\033[31m", "\xff\xfe invalid", "back\\slash", " ",
		"-rf", "*", "\x01"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		assert_ok(f, put_file(f, names[i], names[i]));
		assert_content(f, names[i], names[i]);
	}
}

TREE_TEST(tree_takes_the_longest_names)
{
	char name[PATH_MAX];

	memset(name, 'n', sizeof(name));
	for (size_t i = 255; i < sizeof(name); i += 256)
		name[i] = '/';
	name[255] = '\0';
	assert_ok(f, put_file(f, name, "longest component"));
	assert_content(f, name, "longest component");

	name[255] = '/'; /* the first directory must not be that file */
	name[0] = 'm';
	name[PATH_MAX - 1] = '\0';
	assert_ok(f, put_file(f, name, "longest path"));
	assert_content(f, name, "longest path");
}

TREE_TEST(tree_refuses_names_over_max_path)
{
	f->opts.limits.max_path = 10;
	fixture_reopen(f);
	assert_ok(f, put_file(f, "a/23456789", "x"));
	assert_failed(f, put_file(f, "a/234567890", "x"), -ERR_REFUSED, "limits.max_path is 10");
	assert_failed(f, put_symlink(f, "l", "12345678901"), -ERR_REFUSED, "limits.max_path is 10");
}

static int next_fd(struct fixture *f)
{
	int fd = dup(f->root_fd);

	close(fd);
	return fd;
}

TREE_TEST(tree_goes_on_in_directories_it_had_to_close)
{
	int before = next_fd(f);
	char name[64];

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 40; i++) {
			snprintf(name, sizeof(name), "dir%d/sub/file%d", i, round);
			assert_ok(f, put_file(f, name, name));
		}
	}
	assert_content(f, "dir0/sub/file0", "dir0/sub/file0");
	assert_content(f, "dir39/sub/file1", "dir39/sub/file1");
	assert_content(f, "dir0/sub/file1", "dir0/sub/file1");
	assert_true(next_fd(f) - before <= 16);
}

TREE_TEST(tree_of_unique_names_takes_none_twice)
{
	f->opts.unique_names = true;
	fixture_reopen(f);
	assert_ok(f, put_file(f, "a/b", "x"));
	assert_ok(f, put_dir(f, "a", 0755));
	assert_failed(f, put_file(f, "a/b", "y"), -ERR_REFUSED, "another entry has this name");
	assert_failed(f, put_symlink(f, "a/b", "c"), -ERR_REFUSED, "another entry has this name");
	assert_content(f, "a/b", "x");
}

static int accept_but_taken(void *ctx, const char *name, struct error *err)
{
	int *asked = ctx;

	++*asked;
	if (strcmp(name, "taken") == 0)
		return error_set(err, -EEXIST, "'taken' exists");
	return 0;
}

TREE_TEST(tree_asks_whether_a_top_level_name_is_welcome)
{
	int asked = 0;

	f->opts.accept_top_name = accept_but_taken;
	f->opts.accept_ctx = &asked;
	fixture_reopen(f);
	assert_ok(f, put_dir(f, "./", 0755));
	assert_int_equal(asked, 0);
	assert_ok(f, put_file(f, "top/a", "x"));
	assert_ok(f, put_file(f, "./top/b/c", "x"));
	assert_int_equal(asked, 1);
	assert_ok(f, put_symlink(f, "to", "top"));
	assert_int_equal(asked, 2);
	assert_failed(f, put_file(f, "taken/a", "x"), -EEXIST, "'taken' exists");
	assert_failed(f, put_file(f, "taken/b", "x"), -EEXIST, "'taken' exists");
	assert_false(is_there(f, "taken"));
}

static void new_tree_without_openat2(void *ctx)
{
	struct fixture *f = ctx;

	fixture_reopen(f);
	if (put_file(f, "a/b/file", "x") == 0 && put_symlink(f, "link", "a") == 0 &&
		put_file(f, "link/x", "x") == -ERR_REFUSED)
		fixture_finish(f, NULL);
}

static void openat2_fails(struct fixture *f, int errnum)
{
	struct refusal refusal = {.syscall = 437 /* openat2 */, .errnum = errnum};

	with_refusal(&refusal, new_tree_without_openat2, f);
	assert_null(f->w); /* it came to the end */
	assert_content(f, "a/b/file", "x");
}

static void openat2_is_missing(struct fixture *f)
{
	openat2_fails(f, ENOSYS);
}

static void openat2_is_forbidden(struct fixture *f)
{
	openat2_fails(f, EPERM);
}

TEST(tree_works_where_the_kernel_has_no_openat2)
{
	fixture_run(openat2_is_missing, false);
}

TEST(tree_works_where_a_seccomp_profile_forbids_openat2)
{
	fixture_run(openat2_is_forbidden, false);
}
