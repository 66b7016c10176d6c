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
#include <sys/wait.h>

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

static bool is_regular(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
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
	EXPECT(is_regular(in(s->to, ".stagerun")));
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

TEST(place_finds_a_name_of_its_own_again_when_others_have_taken_both)
{
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir), dogs = cats(dir);

	if (geteuid() != 0)
		skip();
	dogs.to = in(dir, "dogs");
	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(0, in_child(NOBODY, plant_both, dir));
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(WARM, stage(&s, NULL));
	assert_int_equal(STAGED, stage(&dogs, NULL));
	assert_int_equal(0, rmdir(in(dir, ".stagerun")));
	assert_int_equal(WARM, stage(&s, NULL));
	assert_int_equal(WARM, stage(&dogs, NULL));
}

static int stage_at_once(void *ctx)
{
	int code = stage(ctx, NULL);

	return code == STAGED ? 10 : code == WARM ? 11 : 12;
}

TEST(place_is_the_same_for_many_agents_that_need_a_name_of_their_own_at_once)
{
	enum { RACERS = 8 };
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir);
	int staged = 0, warm = 0, status;
	pid_t pids[RACERS];

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(0, in_child(NOBODY, plant_both, dir));
	for (int i = 0; i < RACERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(stage_at_once(&s));
	}
	for (int i = 0; i < RACERS; i++) {
		assert_int_equal(pids[i], waitpid(pids[i], &status, 0));
		staged += WIFEXITED(status) && WEXITSTATUS(status) == 10;
		warm += WIFEXITED(status) && WEXITSTATUS(status) == 11;
	}
	assert_int_equal(1, staged);
	assert_int_equal(RACERS - 1, warm);
}

static int plant_files(void *dir)
{
	EXPECT(symlink("nowhere", in(dir, ".stagerun")) == 0);
	put_text(in(dir, ".stagerun-0"), "");
	return 0;
}

TEST(place_passes_over_files_and_links_of_others_under_its_names)
{
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(0, in_child(NOBODY, plant_files, dir));
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(WARM, stage(&s, NULL));
	assert_false(name_exists(dir, "nowhere"));
}

static int probe_is_taken(void *dir)
{
	struct stat st;

	EXPECT(stat(in(dir, ".stagerun/cats"), &st) == 0);
	put_text(in(dir, text_format(".stagerun-probe-%lu", (unsigned long)st.st_ino)), "");
	return 0;
}

TEST(place_does_not_fail_by_a_probe_that_somebody_foresaw)
{
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, chmod(dir, 01777));
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, in_child(NOBODY, probe_is_taken, dir));
	s.etag = "v2";
	s.replace = true;
	assert_int_equal(STAGED, stage(&s, NULL));
}

static int stage_it(void *s)
{
	return stage(s, NULL) < 0 ? 1 : 0;
}

TEST(place_removes_the_probe_of_an_agent_that_was_killed)
{
	_free_ char *dir = test_directory();
	unsigned n = 1;
	int killed = 1;

	for (; killed == 1; n++) {
		_free_ char *name = text_format("%u", n);
		char *parent = in(dir, name);
		struct staging s;

		assert_int_equal(0, mkdir(parent, 0755));
		s = cats(parent);
		killed = kill_at_change(n, stage_it, &s);
		if (killed < 0)
			skip();
		assert_true(stage(&s, NULL) >= 0);
		assert_list(".stagerun cats", parent);
		assert_list("lock published whole.json", in(parent, ".stagerun/cats"));
	}
	assert_true(n > 10);
}

/* What nobody stages into cats, and root and daemon find. */
static int stage_as(void *s)
{
	int code = stage(s, NULL);

	return code == STAGED ? 0 : code == WARM ? 1 : 2;
}

TEST(place_believes_no_other_user_that_is_not_root)
{
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir);
	struct error err;

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, chmod(dir, 0777));
	assert_int_equal(0, in_child(NOBODY, stage_as, &s));
	assert_int_equal(2, in_child(NOBODY - 1, stage_as, &s));
	assert_int_equal(-EACCES, stage(&s, &err));
	assert_non_null(strstr(err.msg, "was staged by another user (uid 65534)"));
	assert_null(destination_peek(s.to));
	s.replace = true;
	assert_int_equal(STAGED, stage(&s, NULL));
}

TEST(place_does_not_believe_state_that_others_may_write)
{
	static const char *const open[] = {".stagerun", ".stagerun/cats"};
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir);
	struct error err;

	assert_int_equal(STAGED, stage(&s, NULL));
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(0, chmod(in(dir, open[i]), 0777));
		assert_int_equal(-ERR_REFUSED, stage(&s, &err));
		assert_non_null(strstr(err.msg, "others may write to "));
		assert_null(destination_peek(s.to));
		assert_int_equal(0, chmod(in(dir, open[i]), 0755));
	}
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(place_believes_of_what_others_may_write_only_what_has_not_changed)
{
	_free_ char *dir = shared_directory();
	struct staging s = cats(dir);

	s.root_mode = 0777;
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(WARM, stage(&s, NULL));
	put_text(in(s.to, "a"), "EVIL");
	assert_int_equal(-ERR_KEPT, stage(&s, NULL));
	s.root_mode = 0755;
	s.replace = true;
	assert_int_equal(STAGED, stage(&s, NULL));
	put_text(in(s.to, "a"), "mine");
	assert_int_equal(WARM, stage(&s, NULL));
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

/* In a mount name space of its own dir/cats, which has something in it, becomes a mount root. */
static int make_mount_root(const struct staging *s)
{
	EXPECT(unshare(CLONE_NEWNS) == 0);
	EXPECT(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	EXPECT(mount(s->to, s->to, NULL, MS_BIND, NULL) == 0);
	return 0;
}

static int stage_twice_in_a_mount(void *ctx)
{
	struct staging s = *(struct staging *)ctx, more = s;

	more.key = "bbbb";
	more.names = "c d/";
	EXPECT(make_mount_root(&s) == 0);
	EXPECT(stage(&s, NULL) == STAGED);
	EXPECT(stage(&more, NULL) == STAGED);
	EXPECT(stage(&s, NULL) == WARM && stage(&more, NULL) == WARM);
	s.etag = "v2";
	s.replace = true;
	EXPECT(stage(&s, NULL) == STAGED);
	EXPECT(stage(&s, NULL) == WARM && stage(&more, NULL) == WARM);
	return 0;
}

TEST(place_keeps_one_regular_file_in_a_mount_root)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, mkdir(s.to, 0755));
	assert_int_equal(0, in_child(0, stage_twice_in_a_mount, &s));
	assert_list(".stagerun a b c d", s.to);
	assert_true(is_regular(in(s.to, ".stagerun")));
}

static int stage_older_state(void *ctx)
{
	struct staging *s = ctx;

	EXPECT(make_mount_root(s) == 0);
	EXPECT(stage(s, NULL) == WARM);
	EXPECT(stage(s, NULL) == WARM);
	return 0;
}

TEST(place_takes_over_the_state_that_an_earlier_version_left_in_a_mount_root)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "mine"), "");
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, rename(in(dir, ".stagerun"), in(s.to, ".stagerun")));
	assert_int_equal(0, rename(in(s.to, ".stagerun/cats"), in(s.to, ".stagerun/.stagerun")));
	assert_int_equal(0, in_child(0, stage_older_state, &s));
	assert_list(".stagerun a b mine", s.to);
	assert_true(is_regular(in(s.to, ".stagerun")));
}

static int stage_where_the_name_is_taken(void *ctx)
{
	struct staging *s = ctx, below = *s;

	EXPECT(make_mount_root(s) == 0);
	below.to = in(s->to, "below");
	EXPECT(stage(&below, NULL) == STAGED);
	EXPECT(stage(s, NULL) == STAGED);
	EXPECT(stage(s, NULL) == WARM && stage(&below, NULL) == WARM);
	return 0;
}

TEST(place_keeps_records_of_a_mount_root_and_of_a_destination_in_it)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir), below = s;

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, mkdir(s.to, 0755));
	assert_int_equal(0, in_child(0, stage_where_the_name_is_taken, &s));
	assert_list(".stagerun .stagerun-0.records a b below", s.to);
	below.to = in(s.to, "below");
	assert_int_equal(WARM, stage(&below, NULL));
}

static int stage_below_a_packed_root(void *ctx)
{
	struct staging *s = ctx, below = *s;

	EXPECT(make_mount_root(s) == 0);
	below.to = in(s->to, "below");
	EXPECT(stage(s, NULL) == STAGED);
	EXPECT(stage(&below, NULL) == STAGED);
	EXPECT(stage(s, NULL) == WARM && stage(&below, NULL) == WARM);
	return 0;
}

TEST(place_lies_beside_a_destination_also_where_its_parent_is_a_mount_root_that_was_staged_into)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, mkdir(s.to, 0755));
	assert_int_equal(0, in_child(0, stage_below_a_packed_root, &s));
	assert_list(".stagerun .stagerun-0 a b below", s.to);
	assert_true(is_regular(in(s.to, ".stagerun")));
}

static int die_in_a_mount_at_every_call(void *ctx)
{
	struct staging s = *(struct staging *)ctx;
	const char *dir = s.to;
	unsigned n = 1;
	int killed = 1;

	EXPECT(make_mount_root(&s) == 0);
	for (; killed == 1; n++) {
		_free_ char *name = text_format("%u", n);
		struct staging more;

		s.to = in(dir, name);
		more = s;
		more.key = "bbbb";
		more.names = "c";
		EXPECT(mkdir(s.to, 0755) == 0 && mount(s.to, s.to, NULL, MS_BIND, NULL) == 0);
		EXPECT(stage(&more, NULL) == STAGED);
		killed = kill_at_change(n, stage_it, &s);
		if (killed < 0)
			return 0;
		EXPECT(stage(&more, NULL) == WARM);
		EXPECT(stage(&s, NULL) >= 0);
		EXPECT(stage(&s, NULL) == WARM && stage(&more, NULL) == WARM);
		EXPECT(is_complete(&s) && is_regular(in(s.to, ".stagerun")));
		_free_ char *left = list(s.to);
		EXPECT(strcmp(left, ".stagerun a b c") == 0);
		EXPECT(umount(s.to) == 0);
	}
	EXPECT(n > 20);
	return 0;
}

TEST(place_in_a_mount_root_survives_death_at_any_system_call)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, mkdir(s.to, 0755));
	assert_int_equal(0, in_child(0, die_in_a_mount_at_every_call, &s));
}

TEST(place_removes_the_parents_that_it_made_for_a_stage_that_failed)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);
	const struct destination_options opts = {0};
	struct destination *d;
	int root_fd, state_fd;

	assert_int_equal(0, mkdir(in(dir, "there"), 0755));
	s.to = in(dir, "there/x/y/cats");
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, s.key, &root_fd, &state_fd, NULL));
	destination_close(d, false);
	assert_list("", in(dir, "there"));
	put_text(in(dir, "there/file"), "");
	s.to = in(dir, "there/x/../../there/file/x");
	assert_true(stage(&s, NULL) < 0);
	assert_list("file", in(dir, "there"));
}

static int interrupted(void *ctx)
{
	const struct staging *s = ctx;
	const struct destination_options opts = {0};
	struct destination *d;
	int root_fd, state_fd;

	EXPECT(destination_open(s->to, &opts, &d, NULL) == 0);
	EXPECT(destination_begin(d, s->key, &root_fd, &state_fd, NULL) == 0);
	_exit(0);
}

TEST(place_removes_the_parents_that_a_killed_stage_made_when_the_next_one_fails)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);

	s.to = in(dir, "x/y/cats");
	assert_int_equal(0, in_child(geteuid(), interrupted, &s));
	assert_list("x", dir);
	assert_int_equal(0, open_only(s.to, NULL));
	assert_list("", dir);
}

TEST(place_keeps_parents_that_others_made_or_use)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);

	s.to = in(dir, "x/y/cats");
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, open_only(in(dir, "x/y/dogs"), NULL));
	assert_int_equal(0, open_only(in(dir, "x/z/dogs"), NULL));
	assert_list("y", in(dir, "x"));
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(place_that_is_only_looked_at_is_not_made)
{
	_free_ char *dir = test_directory();

	assert_null(destination_peek(in(dir, "x/y/cats")));
	assert_list("", dir);
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
