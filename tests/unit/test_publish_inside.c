/* SPDX-License-Identifier: MIT */
/* What lies in a destination and is not what was staged there: mounts, and other destinations. Neither replacing nor
 * removing goes over it. */
#include "../../agent/publish/publish_private.h"
#include "defer.h"
#include "log.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include "tree.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static struct staging cats(const char *dir)
{
	return (struct staging){
		.to = in(dir, "cats"), .key = "aaaa", .etag = "v1", .names = "a b/"};
}

/* In a mount namespace of our own. */
static bool mount_on(const char *path, const char *what)
{
	bool is_bind = what[0] == '/';

	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount(what, path, is_bind ? NULL : what, is_bind ? MS_BIND : 0, NULL) == 0;
}

static int remove_around(const char *dir, const char *mounted, const char *what)
{
	struct error err = {0};
	int fd;

	EXPECT(mount_on(mounted, what));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_text(in(mounted, "mine"), "mine");
	EXPECT(remove_tree(fd, "t", NULL, &err) == -EBUSY);
	EXPECT(strstr(err.msg, "t/in: something is mounted") != NULL);
	EXPECT(exists(in(mounted, "mine")));
	return 0;
}

static void make_outside_and_inside(const char *dir)
{
	assert_int_equal(0, mkdir(in(dir, "outside"), 0755));
	assert_int_equal(0, mkdir(in(dir, "t"), 0755));
	assert_int_equal(0, mkdir(in(dir, "t/in"), 0755));
}

static int remove_around_tmpfs(void *dir)
{
	return remove_around(dir, in(dir, "t/in"), "tmpfs");
}

static int remove_around_bind(void *dir)
{
	return remove_around(dir, in(dir, "t/in"), in(dir, "outside"));
}

TEST(remove_tree_does_not_go_into_what_is_mounted)
{
	_free_ char *dir = test_directory();

	if (geteuid() != 0)
		skip();
	make_outside_and_inside(dir);
	assert_int_equal(0, in_child(0, remove_around_tmpfs, dir));
	assert_int_equal(0, in_child(0, remove_around_bind, dir));
	assert_true(exists(in(dir, "outside/mine")));
}

static int stage_around(const char *dir, bool merge, const char *what)
{
	struct staging s = cats(dir);
	struct error err;
	char *mounted;

	log_setup(LOG_ERROR, LOG_TEXT, 2);
	if (merge) {
		EXPECT(mkdir(s.to, 0755) == 0);
		put_text(in(s.to, "users"), "data");
	}
	EXPECT(stage(&s, NULL) == STAGED);
	mounted = in(s.to, "b/in");
	EXPECT(mkdir(mounted, 0755) == 0);
	EXPECT(mount_on(mounted, what));
	put_text(in(mounted, "mine"), "mine");
	s.etag = "v2";
	s.replace = true;
	EXPECT(stage(&s, &err) == -ERR_KEPT);
	EXPECT(strstr(err.msg, mounted) != NULL);
	EXPECT(exists(in(mounted, "mine")));
	return 0;
}

static int stage_around_tmpfs(void *dir)
{
	return stage_around(dir, false, "tmpfs");
}

static int merge_around_bind(void *dir)
{
	return stage_around(dir, true, in(dir, "outside"));
}

TEST(a_destination_with_a_mount_in_it_is_not_replaced)
{
	_free_ char *dir = test_directory(), *other = test_directory();

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, in_child(0, stage_around_tmpfs, dir));
	assert_int_equal(0, mkdir(in(other, "outside"), 0755));
	assert_int_equal(0, in_child(0, merge_around_bind, other));
	assert_true(exists(in(other, "outside/mine")));
}

static int replace_somebodys_around_a_mounted_file(void *ctx)
{
	struct staging s = cats(ctx);
	struct error err;

	EXPECT(mkdir(s.to, 0755) == 0 && mkdir(in(s.to, "b"), 0755) == 0);
	put_text(in(s.to, "b/file"), "below");
	put_text(in(ctx, "outside"), "above");
	EXPECT(unshare(CLONE_NEWNS) == 0);
	EXPECT(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	EXPECT(mount(in(ctx, "outside"), in(s.to, "b/file"), NULL, MS_BIND, NULL) == 0);
	s.replace = true;
	EXPECT(stage(&s, &err) == -ERR_KEPT);
	EXPECT(strstr(err.msg, "cats/b/file") != NULL);
	return 0;
}

TEST(somebodys_directory_with_a_mounted_file_is_not_replaced)
{
	_free_ char *dir = test_directory();

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, in_child(0, replace_somebodys_around_a_mounted_file, dir));
	assert_true(exists(in(dir, "cats/b/file")));
}

static int find_odd_mount(void *dir)
{
	char *odd = in(dir, "with blank\t\\and\nline");
	struct strings found = {0};

	EXPECT(mkdir(odd, 0755) == 0);
	EXPECT(mount_on(odd, "tmpfs"));
	nest_list_mounts(dir, &found);
	EXPECT(found.n == 1 && strcmp(found.v[0], odd) == 0);
	EXPECT(nest_find_mount(&found, odd) != NULL);
	EXPECT(nest_find_mount(&found, in(dir, "with")) == NULL);
	text_strings_done(&found);
	return 0;
}

TEST(mounts_of_any_name_are_found)
{
	_free_ char *dir = test_directory();

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, in_child(0, find_odd_mount, dir));
}

static void check_nested(bool merge, bool nested_merges)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir), nested = {.key = "bbbb", .etag = "v1", .names = "x y/"};
	struct error err;

	if (merge) {
		assert_int_equal(0, mkdir(s.to, 0755));
		put_text(in(s.to, "users"), "data");
	}
	assert_int_equal(STAGED, stage(&s, NULL));
	nested.to = in(s.to, "b/deep/er");
	if (nested_merges) {
		assert_int_equal(0, mkdir(in(s.to, "b/deep"), 0755));
		assert_int_equal(0, mkdir(nested.to, 0755));
		put_text(in(nested.to, "users"), "data");
	}
	assert_int_equal(STAGED, stage(&nested, NULL));
	assert_int_equal(WARM, stage(&s, NULL));
	s.etag = "v2";
	s.renew = true;
	assert_int_equal(-ERR_KEPT, stage(&s, &err));
	assert_non_null(strstr(err.msg, nested.to));
	s.replace = true;
	assert_int_equal(-ERR_KEPT, stage(&s, &err));
	assert_non_null(strstr(err.msg, nested.to));
	assert_int_equal(WARM, stage(&nested, NULL));
	assert_true(is_complete(&nested));
}

TEST(a_destination_in_which_another_was_staged_is_not_replaced)
{
	check_nested(false, false);
	check_nested(false, true);
	check_nested(true, false);
	check_nested(true, true);
}

TEST(a_destination_beside_the_entries_of_another_does_not_keep_them)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir), nested = {.key = "bbbb", .etag = "v1", .names = "x"};

	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "users"), "data");
	assert_int_equal(STAGED, stage(&s, NULL));
	nested.to = in(s.to, "beside");
	assert_int_equal(STAGED, stage(&nested, NULL));
	s.etag = "v2";
	s.renew = true;
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
	assert_int_equal(WARM, stage(&nested, NULL));
}

TEST(somebodys_directory_in_which_something_was_staged_is_not_replaced)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir), nested = {.key = "bbbb", .etag = "v1", .names = "x"};
	struct error err;

	assert_int_equal(0, mkdir(s.to, 0755));
	assert_int_equal(0, mkdir(in(s.to, "b"), 0755));
	put_text(in(s.to, "b/users"), "data");
	nested.to = in(s.to, "b/nested");
	assert_int_equal(STAGED, stage(&nested, NULL));
	s.replace = true;
	assert_int_equal(-ERR_KEPT, stage(&s, &err));
	assert_non_null(strstr(err.msg, nested.to));
	assert_int_equal(WARM, stage(&nested, NULL));
	assert_true(exists(in(s.to, "b/users")));
}
