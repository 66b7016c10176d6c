/* SPDX-License-Identifier: MIT */
/* What somebody has made of what was staged: it is never replaced unasked. */
#include "../../agent/publish/publish_private.h"
#include "defer.h"
#include "log.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static char *work; /* of the test */

/* A source without a version, which is fetched again each time. */
static struct staging unversioned(const char *dir)
{
	return (struct staging){
		.to = in(dir, "cats"), .key = "aaaa", .names = "a b/ c/", .summed = true};
}

/* The same into a directory that is not the agent's. */
static struct staging merged(const char *dir)
{
	struct staging s = unversioned(dir);

	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "users"), "data");
	return s;
}

static void set_back(const char *path)
{
	const struct timespec times[] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};

	assert_int_equal(0, utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW));
}

static void edit(const char *to)
{
	put_text(in(to, "b/inside"), "edited");
}

static void edit_and_set_the_time_back(const char *to)
{
	put_text(in(to, "b/inside"), "NO VERSION");
	set_back(in(to, "b/inside"));
}

static void write_through_a_mapping(const char *to)
{
	_close_ int fd = open(in(to, "b/inside"), O_RDWR | O_CLOEXEC);
	char *at = mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_true(at != MAP_FAILED);
	at[0] = 'N';
	assert_int_equal(0, munmap(at, 4));
}

static void add_a_file(const char *to)
{
	put_text(in(to, "b/added"), "mine");
	set_back(in(to, "b/added"));
	set_back(in(to, "b"));
}

static void add_an_empty_directory(const char *to)
{
	assert_int_equal(0, mkdir(in(to, "b/added"), 0755));
	set_back(in(to, "b/added"));
	set_back(in(to, "b"));
}

static void add_a_link(const char *to)
{
	assert_int_equal(0, symlink("inside", in(to, "b/added")));
	set_back(in(to, "b/added"));
	set_back(in(to, "b"));
}

static void remove_a_file(const char *to)
{
	assert_int_equal(0, unlink(in(to, "b/inside")));
	set_back(in(to, "b"));
}

static void rename_a_file(const char *to)
{
	assert_int_equal(0, rename(in(to, "b/inside"), in(to, "b/elsewhere")));
}

static void replace_a_file(const char *to)
{
	put_text(in(work, "other"), "NO VERSION");
	assert_int_equal(0, rename(in(work, "other"), in(to, "a")));
}

static const struct {
	void (*change)(const char *to);
	const char *names;
} changes[] = {
	{edit, "b/inside"},
	{edit_and_set_the_time_back, "b/inside"},
	{write_through_a_mapping, "b/inside"},
	{add_a_file, "b/added"},
	{add_an_empty_directory, "b/added"},
	{add_a_link, "b/added"},
	{remove_a_file, "b"},
	{rename_a_file, "b/elsewhere"},
	{replace_a_file, "a"},
};

static void check_changes(struct staging (*make)(const char *dir))
{
	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		_free_ char *dir = test_directory();
		struct staging s = make(dir);
		struct error err = {0};

		work = dir;
		assert_int_equal(STAGED, stage(&s, NULL));
		assert_int_equal(STAGED, stage(&s, NULL)); /* nothing has changed */
		changes[i].change(s.to);
		s.etag = "next";
		if (stage(&s, &err) != -ERR_KEPT)
			fail_msg("change %zu", i);
		assert_non_null(strstr(err.msg, changes[i].names));
		assert_non_null(strstr(err.msg, "--replace"));
		s.renew = true;
		assert_int_equal(-ERR_KEPT, stage(&s, &err));
		s.replace = true;
		assert_int_equal(STAGED, stage(&s, &err));
		assert_true(is_complete(&s));
	}
}

TEST(what_was_changed_in_a_whole_is_not_replaced_unasked)
{
	check_changes(unversioned);
}

TEST(what_was_changed_in_a_merge_is_not_replaced_unasked)
{
	check_changes(merged);
}

static void change_at_once(bool merge)
{
	for (int i = 0; i < 20; i++) {
		_free_ char *dir = test_directory();
		struct staging s = merge ? merged(dir) : unversioned(dir);

		assert_int_equal(STAGED, stage(&s, NULL));
		put_text(in(s.to, i % 2 == 0 ? "a" : "b/inside"), "NO VERSION");
		assert_int_equal(-ERR_KEPT, stage(&s, NULL));
	}
}

TEST(what_was_changed_in_the_moment_after_is_not_replaced_unasked)
{
	change_at_once(false);
	change_at_once(true);
}

TEST(what_was_removed_from_a_merge_is_named)
{
	_free_ char *dir = test_directory();
	struct staging s = merged(dir);
	struct error err;

	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, unlink(in(s.to, "a")));
	assert_int_equal(-ERR_KEPT, stage(&s, &err));
	assert_non_null(strstr(err.msg, "a in it has changed"));
}

TEST(what_was_removed_from_a_merge_altogether_is_staged_again)
{
	_free_ char *dir = test_directory();
	_free_ char *command = NULL;
	struct staging s = merged(dir);

	assert_int_equal(STAGED, stage(&s, NULL));
	command = text_format("rm -r '%s'/[abc]", s.to);
	assert_int_equal(0, system(command)); /* NOLINT(concurrency-mt-unsafe) */
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
}

/* As chown -R over the volume leaves it, which Kubernetes does before each start (fsGroup). */
TEST(what_was_changed_before_the_records_themselves_were_is_not_replaced)
{
	_free_ char *dir = test_directory();
	struct staging s = unversioned(dir);

	assert_int_equal(STAGED, stage(&s, NULL));
	put_text(in(s.to, "b/inside"), "NO VERSION");
	assert_int_equal(0, chmod(in(dir, ".stagerun/cats/whole.json"), 0600));
	assert_int_equal(-ERR_KEPT, stage(&s, NULL));
}

/* What lost nothing is noted as synced: from then on it is this record that is compared with. */
TEST(what_was_changed_before_the_machine_was_restarted_is_not_replaced)
{
	_free_ char *dir = test_directory();
	struct staging s = unversioned(dir);
	const struct destination_options opts = {0};
	struct destination *d;
	char *record = in(dir, ".stagerun/cats/whole.json");

	log_setup(LOG_WARN, LOG_TEXT, 2);
	assert_int_equal(STAGED, stage(&s, NULL));
	publish_age(record);
	put_text(in(s.to, "b/inside"), "NO VERSION");
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	(void)destination_holds(d, s.key);
	destination_close(d, false);
	assert_int_equal(-ERR_KEPT, stage(&s, NULL));
}

/* The time of change cannot be set, but the clock can: as if the tree had been begun later. */
TEST(what_was_changed_under_a_clock_that_was_set_back_is_found)
{
	_free_ char *dir = test_directory();
	const struct destination d = {.place = {.path = dir, .state_fd = -1}};
	const struct marks marks = {
		.finished = {.tv_sec = 9999999999}, .published = {.tv_sec = 9999999999}};
	const struct record record = {0};
	struct inode tree;
	struct survey s;

	put_text(in(dir, "file"), "mine");
	assert_int_equal(0, inode_stat(AT_FDCWD, dir, &tree));
	if (!tree.has_birth)
		skip();
	replace_survey_init(&s, &d, &marks, &record);
	replace_survey_add(&s, dir, &tree);
	assert_null(s.changed);
	tree.birth_sec += 1000;
	replace_survey_add(&s, dir, &tree);
	assert_string_equal("file", s.changed);
	replace_survey_done(&s);
}

TEST(what_was_changed_while_it_was_fetched_again_is_not_replaced)
{
	_free_ char *dir = test_directory();
	struct staging s = unversioned(dir);
	const struct destination_options opts = {0};
	const struct meta root = {.mode = (mode_t)-1, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct record *record = record_for(&s);
	struct destination *d;
	struct error err;
	int root_fd, state_fd;

	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, s.key, &root_fd, &state_fd, NULL));
	assert_int_equal(0, fill(root_fd, &s));
	put_text(in(s.to, "b/late"), "mine");
	assert_int_equal(-ERR_KEPT, destination_publish(d, record, &root, &err));
	assert_non_null(strstr(err.msg, "b/late"));
	destination_close(d, false);
	publish_record_free(record);
	assert_true(exists(in(s.to, "b/late")));
}

TEST(what_takes_the_place_of_the_staged_meanwhile_is_not_replaced)
{
	_free_ char *dir = test_directory();
	struct staging s = unversioned(dir);
	const struct destination_options opts = {.replace = true};
	const struct meta root = {.mode = (mode_t)-1, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct record *record = record_for(&s);
	struct destination *d;
	int root_fd, state_fd;

	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, s.key, &root_fd, &state_fd, NULL));
	assert_int_equal(0, fill(root_fd, &s));
	assert_int_equal(0, rename(s.to, in(dir, "moved")));
	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "mine"), "mine");
	assert_int_equal(-EEXIST, destination_publish(d, record, &root, NULL));
	destination_close(d, false);
	publish_record_free(record);
	assert_true(exists(in(s.to, "mine")));
}
