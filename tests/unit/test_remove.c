/* SPDX-License-Identifier: MIT */
/* Removing trees: links, modes, depth, width, cancelling. */
#include "tree_fixture.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/resource.h>
#include <unistd.h>

static void with_fixture(void (*test)(struct fixture *f))
{
	fixture_run(test, false);
}

static int remove_named(struct fixture *f, const char *name)
{
	return remove_tree(f->root_fd, name, &f->cancel, &f->err);
}

static void remove_all_kinds(struct fixture *f)
{
	assert_ok(f, put_file(f, "t/a/b/file", "x"));
	assert_ok(f, put_dir(f, "t/empty", 0755));
	assert_ok(f, put_symlink(f, "t/link", "a"));
	assert_ok(f, put_file(f, "t/.hidden", "x"));
	assert_ok(f, put_file(f, "kept", "x"));
	assert_ok(f, remove_named(f, "t"));
	assert_false(is_there(f, "t"));
	assert_true(is_there(f, "kept"));
}

TEST(remove_tree_removes_all_kinds_of_entries)
{
	with_fixture(remove_all_kinds);
}

static void remove_nothing(struct fixture *f)
{
	assert_ok(f, remove_named(f, "not-there"));
	assert_ok(f, put_file(f, "file", "x"));
	assert_ok(f, remove_named(f, "file"));
	assert_false(is_there(f, "file"));
}

TEST(remove_tree_accepts_what_is_absent_or_a_file)
{
	with_fixture(remove_nothing);
}

static void remove_links(struct fixture *f)
{
	char *outside = test_directory(), *victim = NULL;
	int fd;

	assert_true(asprintf(&victim, "%s/victim", outside) > 0);
	fd = open(victim, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_ok(f, put_dir(f, "t", 0755));
	assert_int_equal(symlinkat(outside, f->root_fd, "t/link"), 0);
	assert_int_equal(symlinkat(outside, f->root_fd, "top-link"), 0);
	assert_ok(f, remove_named(f, "t"));
	assert_ok(f, remove_named(f, "top-link"));
	assert_false(is_there(f, "top-link"));
	assert_int_equal(access(victim, F_OK), 0);
	free(victim);
	free(outside);
}

TEST(remove_tree_does_not_follow_links)
{
	with_fixture(remove_links);
}

static void remove_closed(struct fixture *f)
{
	int r;

	become_nobody(f);
	fixture_reopen(f);
	r = put_file(f, "t/none/file", "x");
	r = r != 0 ? r : put_dir(f, "t/none", 0000);
	r = r != 0 ? r : put_file(f, "t/ro/sub/file", "x");
	r = r != 0 ? r : put_dir(f, "t/ro", 0500);
	r = r != 0 ? r : put_dir(f, "t/blind", 0600);
	r = r != 0 ? r : put_file(f, "t/blind/file", "x");
	r = r != 0 ? r : put_dir(f, "t", 0100);
	r = r != 0 ? r : fixture_finish(f, NULL);
	r = r != 0 ? r : remove_named(f, "t");
	become_root();
	assert_ok(f, r);
	assert_false(is_there(f, "t"));
}

TEST(remove_tree_opens_directories_that_are_in_the_way)
{
	with_fixture(remove_closed);
}

/* Directories nested as deeply as asked, each with a file beside the next. */
static int nest(struct fixture *f, const char *top, int depth, mode_t mode)
{
	int fd = dup(f->root_fd), r = 0;
	const char *name = top;

	for (int i = 0; i < depth && fd >= 0; i++, name = "0") {
		int next, file;

		r |= mkdirat(fd, name, 0700);
		next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		file = openat(next, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		close(file);
		fchmod(fd, i == 0 ? 0700 : mode);
		close(fd);
		fd = next;
	}
	close(fd);
	return r;
}

static void remove_deep(struct fixture *f)
{
	struct rlimit before, few;
	int r;

	assert_int_equal(nest(f, "t", 3000, 0700), 0);
	getrlimit(RLIMIT_NOFILE, &before);
	few = (struct rlimit){.rlim_cur = 100, .rlim_max = before.rlim_max};
	setrlimit(RLIMIT_NOFILE, &few);
	r = remove_named(f, "t");
	setrlimit(RLIMIT_NOFILE, &before);
	assert_ok(f, r);
	assert_false(is_there(f, "t"));
}

TEST(remove_tree_needs_few_descriptors_at_any_depth)
{
	with_fixture(remove_deep);
}

static void remove_deep_closed(struct fixture *f)
{
	int r;

	become_nobody(f);
	r = nest(f, "t", 200, 0500);
	r = r != 0 ? r : remove_named(f, "t");
	become_root();
	assert_ok(f, r);
	assert_false(is_there(f, "t"));
}

TEST(remove_tree_moves_deep_directories_that_are_read_only)
{
	with_fixture(remove_deep_closed);
}

static void remove_wide(struct fixture *f)
{
	char name[64];

	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), i % 2 ? "t/dir%d/file" : "t/file%d", i);
		assert_ok(f, put_file(f, name, ""));
	}
	assert_ok(f, remove_named(f, "t"));
	assert_false(is_there(f, "t"));
}

TEST(remove_tree_empties_wide_directories)
{
	with_fixture(remove_wide);
}

static void remove_cancelled(struct fixture *f)
{
	assert_ok(f, put_file(f, "t/a", "x"));
	cancel_request(&f->cancel);
	assert_failed(f, remove_named(f, "t"), -ECANCELED, "cancelled");
	assert_true(is_there(f, "t/a"));
}

TEST(remove_tree_stops_when_cancelled)
{
	with_fixture(remove_cancelled);
}

static void remove_forbidden(struct fixture *f)
{
	int r;

	if (geteuid() != 0)
		skip();
	assert_ok(f, put_file(f, "t/sub/file", "x"));
	assert_int_equal(fchmod(f->root_fd, 0777), 0);
	setfsgid(65534);
	setfsuid(65534);
	r = remove_named(f, "t");
	become_root();
	assert_failed(f, r, -EACCES, "cannot remove 't/sub/file'");
	assert_true(is_there(f, "t/sub/file"));
}

TEST(remove_tree_names_what_it_cannot_remove)
{
	with_fixture(remove_forbidden);
}
