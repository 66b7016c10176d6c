/* SPDX-License-Identifier: MIT */
/* Where a destination is, where its state lives, and who may stage there. */
#include "defer.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define NOBODY 65534

static struct staging cats(const char *dir)
{
	return (struct staging){
		.to = in(dir, "cats"), .key = "aaaa", .etag = "v1", .names = "a b/"};
}

static void assert_list(const char *want, const char *dir)
{
	_free_ char *have = list(dir);

	assert_string_equal(want, have);
}

static int open_only(const char *to, struct error *err)
{
	const struct destination_options opts = {0};
	struct destination *d = NULL;
	int code = destination_open(to, &opts, &d, err);

	destination_close(d, false);
	return code;
}

TEST(place_follows_a_linked_destination_once)
{
	_free_ char *dir = test_directory();
	const struct destination_options opts = {0};
	struct staging s = cats(dir);
	struct destination *d;
	char *real;

	assert_int_equal(0, mkdir(in(dir, "volume"), 0755));
	assert_int_equal(0, symlink("volume", in(dir, "link")));
	s.to = in(dir, "link/./new//cats/");
	assert_int_equal(STAGED, stage(&s, NULL));
	real = in(dir, "volume/new/cats");
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_string_equal(real, destination_path(d));
	destination_close(d, false);
	s.to = real;
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(place_resolves_a_relative_destination)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);
	int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int code;

	assert_int_equal(0, chdir(dir));
	s.to = "x/../cats";
	code = stage(&s, NULL);
	s.to = "cats";
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, fchdir(back));
	close(back);
	assert_int_equal(-ERR_USAGE, code);
	assert_list("a b", in(dir, "cats"));
}

TEST(place_refuses_a_dangling_link)
{
	_free_ char *dir = test_directory();
	struct error err;

	assert_int_equal(0, symlink("nowhere", in(dir, "link")));
	assert_int_equal(-ENOENT, open_only(in(dir, "link"), &err));
	assert_non_null(
		strstr(err.msg, "link is a symbolic link to something that does not exist"));
	assert_int_equal(-ENOENT, open_only(in(dir, "link/below"), &err));
	assert_list("link", dir);
}

TEST(place_refuses_names_that_cannot_be_destinations)
{
	_free_ char *dir = test_directory();
	struct error err;

	assert_int_equal(-ERR_USAGE, open_only("/", &err));
	assert_int_equal(-ERR_USAGE, open_only("", &err));
	assert_int_equal(-ERR_USAGE, open_only(in(dir, ".stagerun"), &err));
	assert_int_equal(-ERR_USAGE, open_only(in(dir, ".stagerun-7/x"), &err));
	put_text(in(dir, "file"), "data");
	assert_int_equal(-ENOTDIR, open_only(in(dir, "file"), &err));
	assert_non_null(strstr(err.msg, "file: it is not a directory"));
	assert_int_equal(-ENOTDIR, open_only(in(dir, "file/below"), &err));
	assert_list("file", dir);
}

TEST(place_refuses_a_state_directory_that_somebody_planted)
{
	_free_ char *dir = test_directory();
	struct error err;

	assert_int_equal(0, mkdir(in(dir, "elsewhere"), 0755));
	assert_int_equal(0, symlink("elsewhere", in(dir, ".stagerun")));
	assert_int_equal(-ERR_REFUSED, open_only(in(dir, "cats"), &err));
	assert_non_null(strstr(err.msg, ".stagerun is a file or a symbolic link"));
	assert_list("", in(dir, "elsewhere"));
	assert_int_equal(0, unlink(in(dir, ".stagerun")));
	put_text(in(dir, ".stagerun"), "");
	assert_int_equal(-ERR_REFUSED, open_only(in(dir, "cats"), &err));
}

static int refused_to_nobody(void *dir)
{
	struct error err;

	EXPECT(open_only(in(dir, "cats"), &err) == -EACCES);
	EXPECT(strstr(err.msg, "cats: ") != NULL);
	EXPECT(strstr(err.msg, "is not writable by uid 65534; mount a volume at ") != NULL);
	EXPECT(open_only(in(dir, "x/cats"), &err) == -EACCES);
	EXPECT(strstr(err.msg, "/x does not exist and ") != NULL);
	return 0;
}

TEST(place_says_what_to_mount_where_nothing_can_be_made)
{
	_free_ char *dir = shared_directory();

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, in_child(NOBODY, refused_to_nobody, dir));
	assert_list("", dir);
}

static int stage_inside(void *ctx)
{
	struct staging *s = ctx;

	EXPECT(stage(s, NULL) == STAGED);
	EXPECT(is_complete(s));
	EXPECT(stage(s, NULL) == WARM);
	EXPECT(name_exists(s->to, ".stagerun/.stagerun/merged/aaaa.json"));
	return 0;
}

TEST(place_keeps_its_state_inside_where_the_parent_is_not_writable)
{
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, mkdir(s.to, 0755));
	assert_int_equal(0, chown(s.to, NOBODY, NOBODY));
	assert_int_equal(0, in_child(NOBODY, stage_inside, &s));
	assert_list(".stagerun a b", s.to);
	assert_list("cats", dir);
}

static int stage_in_a_mount(void *ctx)
{
	struct staging *s = ctx;

	EXPECT(unshare(CLONE_NEWNS) == 0);
	EXPECT(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	EXPECT(mount("tmpfs", s->to, "tmpfs", 0, "size=1m") == 0);
	EXPECT(stage_inside(s) == 0);
	EXPECT(mount("none", s->to, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
	EXPECT(stage(s, NULL) == WARM);
	return 0;
}

TEST(place_keeps_its_state_inside_a_mount_root_and_reads_it_when_read_only)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, mkdir(s.to, 0755));
	assert_int_equal(0, in_child(0, stage_in_a_mount, &s));
	assert_list("", s.to);
	assert_list("cats", dir);
}

static int stage_below_a_mount(void *ctx)
{
	struct staging s = cats(ctx);
	struct error err;

	EXPECT(unshare(CLONE_NEWNS) == 0);
	EXPECT(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	EXPECT(mount("tmpfs", ctx, "tmpfs", 0, "size=1m") == 0);
	EXPECT(stage(&s, NULL) == STAGED);
	EXPECT(mount("none", ctx, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
	EXPECT(stage(&s, NULL) == WARM);
	s.etag = "v2";
	s.replace = true;
	EXPECT(stage(&s, &err) == -EROFS);
	EXPECT(strstr(err.msg, "cats: it is read-only") != NULL);
	s.to = in(ctx, "dogs");
	EXPECT(stage(&s, &err) == -EROFS);
	EXPECT(strstr(err.msg, " is read-only; mount a volume at ") != NULL);
	return 0;
}

TEST(place_finds_a_volume_warm_that_is_read_only_now)
{
	_free_ char *dir = test_directory();

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, in_child(0, stage_below_a_mount, dir));
}

static int share_with_root(void *ctx)
{
	struct staging s = cats(ctx), dogs = cats(ctx);
	struct error err;

	EXPECT(stage(&s, NULL) == WARM);
	s.etag = "v2";
	EXPECT(stage(&s, &err) == -EACCES);
	EXPECT(strstr(err.msg, "was staged by another user (uid 0)") != NULL);
	dogs.to = in(ctx, "dogs");
	EXPECT(stage(&dogs, NULL) == STAGED);
	EXPECT(stage(&dogs, NULL) == WARM);
	EXPECT(name_exists(ctx, ".stagerun-65534/dogs/whole.json"));
	return 0;
}

TEST(place_is_shared_by_users_who_see_each_others_data_warm)
{
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir), dogs = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, in_child(NOBODY, share_with_root, dir));
	dogs.to = in(dir, "dogs");
	dogs.etag = "v1";
	assert_true(is_complete(&dogs));
}

static int plant(void *dir)
{
	EXPECT(mkdir(in(dir, ".stagerun"), 0777) == 0 && chmod(in(dir, ".stagerun"), 0777) == 0);
	EXPECT(mkdir(in(dir, ".stagerun/cats"), 0777) == 0);
	EXPECT(chmod(in(dir, ".stagerun/cats"), 0777) == 0);
	return 0;
}

TEST(place_does_not_use_another_users_state_directory)
{
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(0, in_child(NOBODY, plant, dir));
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(WARM, stage(&s, NULL));
	assert_list("", in(dir, ".stagerun/cats"));
	assert_list("lock published whole.json", in(dir, ".stagerun-0/cats"));
}

static int plant_both(void *dir)
{
	EXPECT(mkdir(in(dir, ".stagerun"), 0777) == 0 && mkdir(in(dir, ".stagerun-0"), 0777) == 0);
	return 0;
}

TEST(place_refuses_when_both_names_are_another_users)
{
	_free_ char *dir = shared_directory();
	struct error err;

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(0, in_child(NOBODY, plant_both, dir));
	assert_int_equal(-ERR_REFUSED, open_only(in(dir, "cats"), &err));
	assert_non_null(strstr(err.msg, ".stagerun-0 is another user's directory"));
}

static int merge_in_sticky(void *ctx)
{
	struct staging *s = ctx;

	EXPECT(stage(s, NULL) == STAGED);
	EXPECT(is_complete(s));
	return 0;
}

TEST(place_merges_into_an_empty_directory_that_a_sticky_parent_protects)
{
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(0, mkdir(s.to, 0777));
	assert_int_equal(0, chmod(s.to, 0777));
	assert_int_equal(0, in_child(NOBODY, merge_in_sticky, &s));
	assert_list("a b", s.to);
}

TEST(place_is_not_confused_by_a_destination_below_a_destination)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir), below;

	assert_int_equal(STAGED, stage(&s, NULL));
	below = s;
	below.to = in(s.to, "tree.lock");
	assert_int_equal(STAGED, stage(&below, NULL));
	assert_int_equal(WARM, stage(&s, NULL));
	assert_int_equal(WARM, stage(&below, NULL));
}

/* As on NFS: renameat2() knows no flags. */
static int stage_with_plain_renames(void *ctx)
{
	struct staging s = cats(ctx), merged = s;

	EXPECT(refuse_system_call(SYS_renameat2, EINVAL) == 0);
	EXPECT(stage(&s, NULL) == STAGED);
	s.etag = "v2";
	s.replace = true;
	EXPECT(stage(&s, NULL) == STAGED);
	EXPECT(is_complete(&s));
	EXPECT(stage(&s, NULL) == WARM);

	merged.to = in(ctx, "merged");
	EXPECT(mkdir(merged.to, 0755) == 0 && mkdir(in(merged.to, "users"), 0755) == 0);
	EXPECT(stage(&merged, NULL) == STAGED);
	merged.etag = "v2";
	EXPECT(stage(&merged, NULL) == -EEXIST);
	merged.replace = true;
	EXPECT(stage(&merged, NULL) == STAGED);
	EXPECT(is_complete(&merged));
	EXPECT(!name_exists(ctx, ".stagerun/merged/replaced"));
	return 0;
}

TEST(place_needs_no_flags_of_rename)
{
	_free_ char *dir = test_directory();

	assert_int_equal(0, in_child(geteuid(), stage_with_plain_renames, dir));
}

static int stage_without_statx(void *ctx)
{
	struct staging s = cats(ctx);

	EXPECT(refuse_system_call(SYS_statx, EPERM) == 0);
	EXPECT(stage(&s, NULL) == STAGED);
	EXPECT(stage(&s, NULL) == WARM);
	return 0;
}

TEST(place_needs_no_statx)
{
	_free_ char *dir = test_directory();

	assert_int_equal(0, in_child(geteuid(), stage_without_statx, dir));
}

/* As on FUSE and NFS mounts that give every file to one user, who is not this one: here it is this
 * process that sees another number of its own. */
static int stage_as_somebody_else(void *ctx)
{
	struct staging s = cats(ctx);
	uid_t before = geteuid();

	EXPECT(refuse_system_call(SYS_geteuid, EPERM) == 0);
	EXPECT(geteuid() != before);
	EXPECT(mkdir(in(ctx, ".stagerun"), 0755) == 0);
	EXPECT(stage(&s, NULL) == STAGED);
	EXPECT(stage(&s, NULL) == WARM);
	EXPECT(name_exists(ctx, ".stagerun/cats/whole.json"));
	return 0;
}

TEST(place_is_ours_where_all_files_belong_to_one_user)
{
	_free_ char *dir = test_directory();

	assert_int_equal(0, in_child(geteuid(), stage_as_somebody_else, dir));
	assert_list(".stagerun cats", dir);
}
