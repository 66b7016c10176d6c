/* SPDX-License-Identifier: MIT */
/* A destination that is there and not the agent's: entries move in one by one. */
#include "../../agent/publish/journal.h"
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

/* A destination with something of the user's in it. */
static struct staging scratch(const char *dir)
{
	struct staging s = {
		.to = in(dir, "scratch"), .key = KEY_A, .etag = "v1", .names = "a b/ c"};

	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "users"), "data");
	return s;
}

static void assert_list(const char *want, const char *dir)
{
	_free_ char *have = list(dir);

	assert_string_equal(want, have);
}

static void assert_text(const char *want, const char *path)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char content[64] = {0};

	assert_true(read(fd, content, sizeof(content) - 1) >= 0);
	assert_string_equal(want, content);
}

static char *state_of(const char *dir)
{
	return in(dir, ".stagerun/scratch");
}

TEST(merge_adds_entries_and_leaves_the_users_alone)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
	assert_list("a b c users", s.to);
	assert_text("data", in(s.to, "users"));
	assert_list("lock merged", state_of(dir));
	assert_list(KEY_A ".json", in(state_of(dir), "merged"));
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(merge_keeps_the_records_of_several_sources)
{
	_free_ char *dir = test_directory();
	struct staging a = scratch(dir), b = a;

	b.key = KEY_B;
	b.names = "x y/";
	assert_int_equal(STAGED, stage(&a, NULL));
	assert_int_equal(STAGED, stage(&b, NULL));
	assert_int_equal(WARM, stage(&a, NULL));
	assert_int_equal(WARM, stage(&b, NULL));
}

TEST(merge_is_not_warm_once_an_entry_is_another_file)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	assert_int_equal(STAGED, stage(&s, NULL));
	put_text(in(s.to, "new"), "v1");
	assert_int_equal(0, rename(in(s.to, "new"), in(s.to, "c")));
	assert_int_equal(-EEXIST, stage(&s, NULL));
}

TEST(merge_is_not_warm_once_an_entry_is_gone)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, unlink(in(s.to, "a")));
	s.replace = true;
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
}

TEST(merge_never_takes_a_users_name)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);
	const struct destination_options opts = {0};
	struct destination *d;
	struct error err;
	int root_fd, state_fd;

	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, KEY_A, &root_fd, &state_fd, NULL));
	assert_int_equal(0, destination_accepts(d, "fresh", &err));
	assert_int_equal(-EEXIST, destination_accepts(d, "users", &err));
	assert_non_null(strstr(err.msg, "scratch/users exists (it was not staged by this agent)"));
	assert_non_null(strstr(err.msg, "--replace"));
	destination_close(d, false);
}

TEST(merge_says_from_what_a_name_was_staged)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);
	const struct destination_options opts = {0};
	struct destination *d;
	struct error err;
	int root_fd, state_fd;

	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, KEY_B, &root_fd, &state_fd, NULL));
	assert_int_equal(-EEXIST, destination_accepts(d, "b", &err));
	assert_non_null(strstr(err.msg, "from http://host/cats.tar staged at 2026-01-02"));
	destination_close(d, false);
}

TEST(merge_refuses_the_agents_own_names_even_with_replace)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);
	const struct destination_options opts = {.replace = true};
	struct destination *d;
	int root_fd, state_fd;

	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, KEY_A, &root_fd, &state_fd, NULL));
	assert_int_equal(-ERR_REFUSED, destination_accepts(d, ".stagerun", NULL));
	assert_int_equal(-ERR_REFUSED, destination_accepts(d, ".stagerun-1000", NULL));
	assert_int_equal(0, destination_accepts(d, ".stagerunner", NULL));
	destination_close(d, false);
}

TEST(merge_replaces_names_of_any_type_when_asked)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	assert_int_equal(0, mkdir(in(s.to, "a"), 0755));
	put_text(in(s.to, "a/old"), "old");
	put_text(in(s.to, "b"), "old");
	assert_int_equal(0, symlink("nowhere", in(s.to, "c")));
	s.replace = true;
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
	assert_list("a b c users", s.to);
	assert_list("lock merged", state_of(dir));
}

TEST(merge_fetches_a_source_without_a_version_again)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	s.etag = NULL;
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
	s.names = "users";
	assert_int_equal(-EEXIST, stage(&s, NULL));
}

TEST(merge_undoes_all_when_one_name_is_taken_meanwhile)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);
	const struct destination_options opts = {0};
	const struct meta root = {.mode = (mode_t)-1, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct record *record = record_for(&s);
	struct destination *d;
	int root_fd, state_fd;

	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, KEY_A, &root_fd, &state_fd, NULL));
	assert_int_equal(0, fill(root_fd, &s));
	put_text(in(s.to, "c"), "theirs");
	assert_true(destination_publish(d, record, &root, NULL) < 0);
	destination_close(d, false);
	publish_record_free(record);
	assert_list("c users", s.to);
	assert_text("theirs", in(s.to, "c"));
	assert_list("scratch", dir);
}

TEST(merge_keeps_names_that_are_not_text)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	s.names = "\xff\xfe %41 tab\there new\nline \xc3\xa9/";
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
	assert_int_equal(WARM, stage(&s, NULL));
}

static int stage_it(void *s)
{
	return stage(s, NULL) < 0 ? 1 : 0;
}

TEST(merge_is_completed_or_staged_anew_when_killed_at_any_system_call)
{
	_free_ char *dir = test_directory();
	unsigned n = 1;
	int killed = 1;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	for (; killed == 1; n++) {
		_free_ char *name = text_format("%u", n);
		char *parent = in(dir, name);
		struct staging s;

		assert_int_equal(0, mkdir(parent, 0755));
		s = scratch(parent);
		killed = kill_at_change(n, stage_it, &s);
		if (killed < 0)
			skip();
		assert_true(stage(&s, NULL) >= 0);
		assert_true(is_complete(&s));
		assert_list("a b c users", s.to);
		assert_list("lock merged", state_of(parent));
	}
	assert_true(n > 20);
}

TEST(merge_shows_old_or_new_of_every_name_when_killed_while_replacing)
{
	_free_ char *dir = test_directory();
	unsigned n = 1;
	int killed = 1;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	for (; killed == 1; n++) {
		_free_ char *name = text_format("%u", n);
		char *parent = in(dir, name);
		struct staging old, new, one;

		assert_int_equal(0, mkdir(parent, 0755));
		old = new = scratch(parent);
		new.etag = "v2";
		new.replace = true;
		assert_int_equal(STAGED, stage(&old, NULL));
		killed = kill_at_change(n, stage_it, &new);
		if (killed < 0)
			skip();
		for (int i = 0; i < 3; i++) {
			const char *const names[] = {"a", "b/", "c"};

			one = old;
			one.names = names[i];
			if (!is_complete(&one))
				one.etag = "v2";
			assert_true(is_complete(&one));
		}
		assert_true(stage(&new, NULL) >= 0);
		assert_true(is_complete(&new));
		assert_list("lock merged", state_of(parent));
	}
	assert_true(n > 20);
}

/* As an agent leaves it that dies in the middle of its renames: the journal, "a" and "b" moved, "c"
 * not yet. "a" was the user's before, and what it was waits in the tree. */
static void die_in_the_middle(const struct staging *s, const char *state)
{
	const char *const names[] = {"a", "b", "c"};
	_free_ char *tree = text_format("%s/tree.abcdef", state);
	_free_ char *command = text_format("mkdir -p '%s'", tree);
	struct record *record = record_for(s);
	struct journal_head head = {
		.path = state, .kind = PUBLISH_MERGE, .tree = "tree.abcdef", .record = record};
	struct journal_writer w;

	assert_int_equal(0, system(command)); /* NOLINT(concurrency-mt-unsafe) */
	_close_ int state_fd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_close_ int tree_fd = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_close_ int dest_fd = open(s->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_text(in(s->to, "a"), "the user's");
	assert_int_equal(0, fill(tree_fd, s));
	head.dir_fd = state_fd;
	assert_int_equal(0, journal_begin(&w, &head, NULL));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct journal_entry e = {.name = names[i], .replace = i == 0};

		assert_int_equal(0, inode_stat(tree_fd, names[i], &e.inode));
		assert_int_equal(0, journal_add(&w, &e, NULL));
	}
	assert_int_equal(0, journal_commit(&w, true, NULL));
	assert_int_equal(0, renameat2(tree_fd, "a", dest_fd, "a", RENAME_EXCHANGE));
	assert_int_equal(0, renameat(tree_fd, "b", dest_fd, "b"));
	publish_record_free(record);
}

static void open_and_close(const char *to)
{
	const struct destination_options opts = {0};
	struct destination *d;

	assert_int_equal(0, destination_open(to, &opts, &d, NULL));
	destination_close(d, false);
}

TEST(merge_that_was_interrupted_is_completed_by_whoever_opens_next)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	log_setup(LOG_WARN, LOG_TEXT, 2);
	die_in_the_middle(&s, state_of(dir));
	open_and_close(s.to);
	assert_true(is_complete(&s));
	assert_list("lock merged", state_of(dir));
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(merge_whose_tree_is_gone_is_taken_back)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	log_setup(LOG_WARN, LOG_TEXT, 2);
	die_in_the_middle(&s, state_of(dir));
	assert_int_equal(0, unlink(in(state_of(dir), "tree.abcdef/c")));
	open_and_close(s.to);
	assert_list("a users", s.to);
	assert_text("the user's", in(s.to, "a"));
	assert_list("scratch", dir);
}

/* Replaces the boot id in a journal by that of another boot, of the same length. */
static void age_journal(const char *path)
{
	static const char mark[] = "\"boot\":\"";
	_close_ int fd = open(path, O_RDWR | O_CLOEXEC);
	char content[4096] = {0}, *boot;

	assert_true(read(fd, content, sizeof(content) - 1) > 0);
	boot = strstr(content, mark);
	assert_non_null(boot);
	boot += strlen(mark);
	*boot = *boot == '0' ? '1' : '0';
	assert_int_equal(strlen(content), pwrite(fd, content, strlen(content), 0));
}

TEST(merge_of_an_earlier_boot_is_taken_back_since_its_bytes_may_be_lost)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	log_setup(LOG_WARN, LOG_TEXT, 2);
	die_in_the_middle(&s, state_of(dir));
	age_journal(in(state_of(dir), "journal.json"));
	open_and_close(s.to);
	assert_list("a users", s.to);
	assert_text("the user's", in(s.to, "a"));
	assert_list("scratch", dir);
}

TEST(merge_records_of_another_boot_are_believed_when_all_was_synced)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	s.synced = true;
	assert_int_equal(STAGED, stage(&s, NULL));
	age_journal(in(state_of(dir), "merged/" KEY_A ".json"));
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(merge_records_of_another_boot_that_nothing_speaks_for_are_not_believed)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);

	log_setup(LOG_ERROR, LOG_TEXT, 2);
	assert_int_equal(STAGED, stage(&s, NULL));
	age_journal(in(state_of(dir), "merged/" KEY_A ".json"));
	assert_int_equal(STAGED, stage(&s, NULL));
	assert_true(is_complete(&s));
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(merge_that_is_cancelled_between_renames_goes_on_next_time)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);
	struct cancel cancel;
	const struct destination_options opts = {.cancel = &cancel};
	struct destination *d = NULL;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	die_in_the_middle(&s, state_of(dir));
	cancel_init(&cancel);
	cancel_request(&cancel);
	assert_int_equal(-ECANCELED, destination_open(s.to, &opts, &d, NULL));
	cancel_done(&cancel);
	assert_true(exists(in(state_of(dir), "tree.abcdef/c")));
	open_and_close(s.to);
	assert_true(is_complete(&s));
	assert_int_equal(WARM, stage(&s, NULL));
}

TEST(merge_that_is_pending_keeps_its_tree_when_closed)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);
	const struct destination_options opts = {0};
	struct destination *d;

	log_setup(LOG_WARN, LOG_TEXT, 2);
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	die_in_the_middle(&s, state_of(dir));
	destination_close(d, false);
	assert_true(exists(in(state_of(dir), "tree.abcdef/c")));
	open_and_close(s.to);
	assert_true(is_complete(&s));
}

TEST(merge_that_is_cancelled_before_renames_leaves_nothing)
{
	_free_ char *dir = test_directory();
	struct staging s = scratch(dir);
	struct cancel cancel;
	const struct destination_options opts = {.cancel = &cancel};
	const struct meta root = {.mode = (mode_t)-1, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct record *record = record_for(&s);
	struct destination *d;
	int root_fd, state_fd;

	cancel_init(&cancel);
	assert_int_equal(0, destination_open(s.to, &opts, &d, NULL));
	assert_int_equal(0, destination_begin(d, KEY_A, &root_fd, &state_fd, NULL));
	assert_int_equal(0, fill(root_fd, &s));
	cancel_request(&cancel);
	assert_int_equal(-ECANCELED, destination_publish(d, record, &root, NULL));
	destination_close(d, false);
	cancel_done(&cancel);
	publish_record_free(record);
	assert_list("users", s.to);
	assert_list("scratch", dir);
}

static int merge_read_only_directory(void *ctx)
{
	struct staging *s = ctx;
	struct staging again = *s;
	struct stat st;

	EXPECT(stage(s, NULL) == STAGED);
	EXPECT(stat(in(s->to, "b"), &st) == 0 && (st.st_mode & 07777) == 0555);
	again.etag = "v2";
	again.replace = true;
	EXPECT(stage(&again, NULL) == STAGED);
	EXPECT(is_complete(&again));
	EXPECT(stat(in(s->to, "b"), &st) == 0 && (st.st_mode & 07777) == 0555);
	return 0;
}

TEST(merge_moves_a_read_only_directory_without_being_root)
{
	_free_ char *dir = shared_directory();
	struct staging s = {.to = in(dir, "scratch"),
		.key = KEY_A,
		.etag = "v1",
		.names = "a b/",
		.dir_mode = 0555};

	if (geteuid() != 0)
		skip();
	assert_int_equal(0, mkdir(s.to, 0755));
	put_text(in(s.to, "users"), "data");
	assert_int_equal(0, chown(dir, 65534, 65534));
	assert_int_equal(0, chown(s.to, 65534, 65534));
	assert_int_equal(0, in_child(65534, merge_read_only_directory, &s));
}
