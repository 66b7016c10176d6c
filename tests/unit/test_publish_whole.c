/* SPDX-License-Identifier: MIT */
/* A destination that is staged as a whole: absent, empty, warm, replaced. */
#include "defer.h"
#include "log.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define KEY_A "aaaa"
#define KEY_B "bbbb"

static struct staging cats(const char *dir)
{
	return (struct staging){
		.to = in(dir, "cats"), .key = KEY_A, .etag = "v1", .names = "a b/ c"};
}

static void assert_list(const char *want, const char *dir)
{
	_free_ char *have = list(dir);

	assert_string_equal(want, have);
}

TEST(publish_makes_an_absent_destination_and_its_parents)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);
	struct stat st;

	s.to = in(dir, "x/y/cats");
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
	assert_list("a b c", s.to);
	assert_list(".stagerun cats", in(dir, "x/y"));
	assert_list("lock published whole.json", in(dir, "x/y/.stagerun/cats"));
	assert_int_equal(0, stat(in(dir, "x"), &st));
	assert_int_equal(0755, st.st_mode & 07777);
	assert_int_equal(0, stat(s.to, &st));
	assert_int_equal(0755, st.st_mode & 07777);
}

TEST(publish_shows_nothing_before_it_is_called)
{
	_free_ char *dir = test_directory();
	const struct destination_options opts = {0};
	struct staging s = cats(dir);
	struct destination *d;
	int root_fd, state_fd;

	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, s.key, &root_fd, &state_fd, NULL));
	assert_int_equal(0, fill(root_fd, &s));
	assert_false(exists(s.to));
	destination_close(d, false);
	assert_list("", dir);
}

TEST(publish_finds_the_same_version_warm)
{
	_free_ char *dir = test_directory();
	const struct destination_options opts = {0};
	struct staging s = cats(dir);
	const struct record *have;
	struct destination *d;

	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(WARM, stage(&s, NULL));
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_null(destination_holds(d, KEY_B));
	have = destination_holds(d, KEY_A);
	assert_non_null(have);
	assert_string_equal(KEY_A, have->key);
	assert_string_equal("http://host/cats.tar", have->sources[0].name);
	assert_string_equal("\"v1\"", have->sources[0].identity.etag);
	assert_true(have->sources[0].identity.size == SIZE_UNKNOWN);
	assert_true(have->bytes == 5000000000 && have->entries == 3);
	assert_true(have->staged_at == 1767323045);
	destination_close(d, false);
}

TEST(publish_takes_the_place_of_an_empty_directory_and_keeps_its_mode)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);
	struct stat st;

	assert_int_equal(0, mkdir(s.to, 0700));
	assert_int_equal(0, chmod(s.to, 02770));
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
	assert_int_equal(0, stat(s.to, &st));
	assert_int_equal(02770, st.st_mode & 07777);
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(publish_merges_into_the_empty_current_directory)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);
	struct stat before, after;
	int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	assert_int_equal(0, mkdir(s.to, 0755));
	assert_int_equal(0, stat(s.to, &before));
	assert_int_equal(0, chdir(s.to));
	s.to = ".";
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
	assert_int_equal(WARM, stage(&s, NULL));
	assert_int_equal(0, stat(".", &after));
	assert_int_equal(0, fchdir(back));
	close(back);
	assert_true(before.st_ino == after.st_ino);
}

TEST(publish_gives_the_root_what_the_archive_says)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);
	struct stat st;

	s.root_mode = 0511;
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, stat(s.to, &st));
	assert_int_equal(0511, st.st_mode & 07777);
	assert_true(st.st_mtim.tv_sec == 1000000000 && st.st_mtim.tv_nsec == 7);
}

TEST(publish_refuses_another_source_and_names_what_is_there)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir), other = cats(dir);
	struct error err;

	other.key = KEY_B;
	other.etag = "v2";
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(-EEXIST, stage(&other, &err));
	assert_non_null(strstr(err.msg, "http://host/cats.tar staged at 2026-01-02 03:04:05 UTC"));
	assert_non_null(strstr(err.msg, "\"v1\""));
	assert_non_null(strstr(err.msg, "--replace"));
	assert_true(is_complete(&s));
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(publish_replaces_the_whole_when_asked)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir), other = cats(dir);

	other.key = KEY_B;
	other.etag = "v2";
	other.names = "d";
	other.replace = true;
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(STAGED, stage(&other, NULL));
	assert_list("d", s.to);
	assert_list("lock published whole.json", in(dir, ".stagerun/cats"));
	other.replace = false;
	assert_int_equal(WARM, stage(&other, NULL));
}

TEST(publish_fetches_a_source_without_a_version_again)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir), other = cats(dir);

	s.etag = NULL;
	assert_int_equal(STAGED, stage(&s, NULL));
	s.names = "d";
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_list("d", s.to);
	other.key = KEY_B;
	assert_int_equal(-EEXIST, stage(&other, NULL));
}

TEST(publish_does_not_take_another_directory_for_its_own)
{
	_free_ char *dir = test_directory();
	const struct destination_options opts = {0};
	struct staging s = cats(dir);
	struct destination *d;

	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, rename(s.to, in(dir, "moved")));
	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "users"), "data");
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_null(destination_holds(d, KEY_A));
	destination_close(d, false);
}

TEST(publish_does_not_take_a_reused_inode_for_its_own)
{
	_free_ char *dir = test_directory();
	struct staging s = cats(dir);

	/* ext4 gives the number of a removed directory to the next one that is made. */
	for (int i = 0; i < 20; i++) {
		_free_ char *remove = text_format("rm -r '%s'", s.to);

		s.names = "a";
		assert_int_equal(STAGED, stage(&s, NULL));
		assert_int_equal(0, system(remove)); /* NOLINT(concurrency-mt-unsafe) */
		assert_int_equal(0, mkdir(s.to, 0755));
		assert_int_equal(STAGED, stage(&s, NULL));
		assert_int_equal(0, system(remove)); /* NOLINT(concurrency-mt-unsafe) */
	}
}

TEST(publish_leaves_what_appeared_meanwhile_alone)
{
	_free_ char *dir = test_directory();
	const struct destination_options opts = {0};
	const struct meta root = {.mode = (mode_t)-1, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct staging s = cats(dir);
	struct record *record = record_for(&s);
	struct destination *d;
	struct error err;
	int root_fd, state_fd;

	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, s.key, &root_fd, &state_fd, NULL));
	assert_int_equal(0, fill(root_fd, &s));
	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "users"), "data");
	assert_true(destination_publish(d, record, &root, &err) < 0);
	assert_non_null(strstr(err.msg, "somebody else made it meanwhile"));
	destination_close(d, false);
	publish_record_free(record);
	assert_list("users", s.to);
	assert_list("cats", dir);
}

TEST(publish_starts_over_with_an_empty_tree)
{
	_free_ char *dir = test_directory();
	const struct destination_options opts = {0};
	const struct meta root = {.mode = (mode_t)-1, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct staging s = cats(dir);
	struct record *record = record_for(&s);
	struct destination *d;
	int root_fd, state_fd;

	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, s.key, &root_fd, &state_fd, NULL));
	assert_int_equal(0, fill(root_fd, &s));
	assert_int_equal(0, destination_begin(d, s.key, &root_fd, &state_fd, NULL));
	s.names = "only";
	assert_int_equal(0, fill(root_fd, &s));
	assert_int_equal(0, destination_publish(d, record, &root, NULL));
	destination_close(d, false);
	publish_record_free(record);
	assert_list("only", s.to);
}

TEST(publish_leaves_the_tree_when_told_to_and_removes_it_next_time)
{
	_free_ char *dir = test_directory();
	const struct destination_options opts = {0};
	struct staging s = cats(dir);
	struct destination *d;
	int root_fd, state_fd;
	_free_ char *left = NULL;

	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, s.key, &root_fd, &state_fd, NULL));
	assert_int_equal(0, fill(root_fd, &s));
	destination_close(d, true);
	left = list(in(dir, ".stagerun/cats"));
	assert_non_null(strstr(left, "tree."));
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_list("lock published whole.json", in(dir, ".stagerun/cats"));
}

static int stage_it(void *s)
{
	return stage(s, NULL) < 0 ? 1 : 0;
}

TEST(publish_shows_all_or_nothing_when_killed_at_any_system_call)
{
	_free_ char *dir = test_directory();
	unsigned n = 1;
	int killed = 1;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	for (; killed == 1; n++) {
		_free_ char *name = text_format("%u", n);
		struct staging s = cats(in(dir, name));

		killed = kill_at_change(n, stage_it, &s);
		if (killed < 0)
			skip();
		assert_true(!exists(s.to) || is_complete(&s));
		assert_true(stage(&s, NULL) >= 0);
		assert_true(is_complete(&s));
		assert_list("lock published whole.json", in(in(dir, name), ".stagerun/cats"));
	}
	assert_true(n > 20);
}

TEST(publish_shows_the_old_or_the_new_when_killed_while_replacing)
{
	_free_ char *dir = test_directory();
	unsigned n = 1;
	int killed = 1;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	for (; killed == 1; n++) {
		_free_ char *name = text_format("%u", n);
		struct staging old = cats(in(dir, name)), new = old;

		new.etag = "v2";
		new.replace = true;
		assert_int_equal(STAGED, stage(&old, NULL));
		killed = kill_at_change(n, stage_it, &new);
		if (killed < 0)
			skip();
		assert_true(is_complete(&old) || is_complete(&new));
		assert_true(stage(&new, NULL) >= 0);
		assert_true(is_complete(&new));
		assert_list("lock published whole.json", in(in(dir, name), ".stagerun/cats"));
	}
	assert_true(n > 20);
}
