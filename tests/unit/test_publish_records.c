/* SPDX-License-Identifier: MIT */
/* State files that are cut short, foreign or full of rubbish count as absent. */
#include "../../agent/publish/journal.h"
#include "defer.h"
#include "publish_fixture.h"
#include "test.h"
#include "text.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static const struct staging cats = {.key = "aaaa", .etag = "v1", .names = "a"};

static char *read_all(const char *path)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *content = zalloc(8192);

	assert_true(read(fd, content, 8191) > 0);
	return content;
}

static void write_some(const char *path, const char *content, size_t len)
{
	_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_int_equal(len, write(fd, content, len));
}

/* Stages dir/cats, into something that exists when merge is asked. Returns the record's path. */
static char *make_record(const char *dir, bool merge)
{
	struct staging s = cats;

	s.to = in(dir, "cats");
	if (merge) {
		assert_int_equal(0, mkdir(s.to, 0755));
		put_text(in(s.to, "users"), "data");
	}
	assert_int_equal(STAGED, stage(&s, NULL));
	return in(dir, merge ? ".stagerun/cats/merged/aaaa.json" : ".stagerun/cats/whole.json");
}

static bool is_held(const char *dir)
{
	const struct destination_options opts = {0};
	struct destination *d;
	bool held;

	assert_int_equal(0, destination_open(in(dir, "cats"), &opts, &d, NULL));
	held = destination_holds(d, "aaaa") != NULL;
	destination_close(d, false);
	return held;
}

static void check_every_length(bool merge)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, merge);
	_free_ char *content = read_all(path);

	assert_true(is_held(dir));
	for (size_t len = 0; len < strlen(content); len++) {
		write_some(path, content, len);
		assert_false(is_held(dir));
	}
	write_some(path, content, strlen(content));
	assert_true(is_held(dir));
}

TEST(records_of_a_whole_that_are_cut_short_count_as_absent)
{
	check_every_length(false);
}

TEST(records_of_a_merge_that_are_cut_short_count_as_absent)
{
	check_every_length(true);
}

TEST(records_with_any_byte_overwritten_never_crash)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, true);
	_free_ char *content = read_all(path);
	const char rubbish[] = {'\0', '"', '{', '9', '%', '\n', '\xff'};
	size_t len = strlen(content);

	for (size_t i = 0; i < len; i++) {
		char was = content[i];

		content[i] = rubbish[i % sizeof(rubbish)];
		write_some(path, content, len);
		(void)is_held(dir);
		content[i] = was;
	}
	write_some(path, content, len);
	assert_true(is_held(dir));
}

static void replace_in_record(const char *path, const char *from, const char *to)
{
	_free_ char *content = read_all(path);
	char *at = strstr(content, from);
	struct text t = {0};

	assert_non_null(at);
	text_add_bytes(&t, content, (size_t)(at - content));
	text_addf(&t, "%s%s", to, at + strlen(from));
	write_some(path, t.s, t.len);
	text_done(&t);
}

TEST(records_of_another_format_count_as_absent)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, false);

	replace_in_record(path, "\"format\":1", "\"format\":2");
	assert_false(is_held(dir));
}

TEST(records_with_members_of_a_later_version_are_read)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, false);

	replace_in_record(path, "\"format\":1", "\"format\":1,\"later\":{\"x\":[1]}");
	assert_true(is_held(dir));
}

TEST(records_of_another_inode_count_as_absent)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, false);

	replace_in_record(path, "\"ino\":", "\"ino\":1");
	assert_false(is_held(dir));
}

static void drop_from_record(const char *path, const char *from, const char *end)
{
	_free_ char *content = read_all(path);
	char *at = strstr(content, from), *rest = at != NULL ? strstr(at, end) : NULL;

	assert_non_null(rest);
	memmove(at, rest, strlen(rest) + 1);
	write_some(path, content, strlen(content));
}

static void check_entries(bool merge)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, merge);

	drop_from_record(path, "{\"name\"", "{\"end\"");
	replace_in_record(path, "{\"end\":1}", "{\"end\":0}");
	assert_false(is_held(dir));
}

TEST(records_of_a_whole_without_an_entry_count_as_absent)
{
	check_entries(false);
}

TEST(records_of_a_merge_without_an_entry_count_as_absent)
{
	check_entries(true);
}

static void check_birth(bool merge)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, merge);
	_free_ char *content = read_all(path);

	if (strstr(content, ",\"birth\"") == NULL)
		skip(); /* the file system has none */
	drop_from_record(path, ",\"birth\"", "}");
	assert_false(is_held(dir));
}

TEST(records_of_a_whole_without_a_time_of_birth_count_as_absent)
{
	check_birth(false);
}

TEST(records_of_a_merge_without_a_time_of_birth_count_as_absent)
{
	check_birth(true);
}

TEST(records_cannot_name_files_elsewhere)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, true);

	replace_in_record(path, "{\"name\":\"a\"", "{\"name\":\"../cats/a\"");
	assert_false(is_held(dir));
}

TEST(records_that_are_damaged_journals_are_removed)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, false), *journal = in(dir, ".stagerun/cats/journal.json");
	_free_ char *content = read_all(path);

	write_some(journal, content, strlen(content) / 2);
	assert_true(is_held(dir));
	assert_false(exists(journal));
}

TEST(records_that_are_a_link_count_as_absent)
{
	_free_ char *dir = test_directory();
	char *path = make_record(dir, false);

	assert_int_equal(0, rename(path, in(dir, "moved")));
	assert_int_equal(0, symlink(in(dir, "moved"), path));
	assert_false(is_held(dir));
}

TEST(records_keep_any_bytes_of_names_and_headers)
{
	static const char odd[] = "a\x01\xff\xc3\xa9%41\"\\ z";
	json_t *value = json_from_bytes(odd);
	_free_ char *back = json_to_bytes(value);

	assert_string_equal(odd, back);
	json_decref(value);
	value = json_string("%4");
	assert_null(json_to_bytes(value));
	json_decref(value);
	value = json_string("%00");
	assert_null(json_to_bytes(value));
	json_decref(value);
}

TEST(records_with_many_entries_are_read_a_line_at_a_time)
{
	_free_ char *dir = test_directory();
	_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct record *record = record_for(&cats);
	const struct journal_head head = {.dir_fd = fd,
		.path = dir,
		.kind = PUBLISH_MERGE,
		.tree = "tree.x",
		.record = record};
	struct journal_writer w;
	struct journal_entry e;
	struct journal *j;
	uint64_t n = 0;

	assert_int_equal(0, journal_begin(&w, &head, NULL));
	for (uint64_t i = 0; i < 10000; i++) {
		_free_ char *name = text_format("file-%llu", (unsigned long long)i);

		e = (struct journal_entry){
			.name = name, .inode = {.ino = UINT64_MAX - i, .mode = S_IFREG | 0644}};
		assert_int_equal(0, journal_add(&w, &e, NULL));
	}
	assert_int_equal(0, journal_commit(&w, false, NULL));
	assert_int_equal(0, journal_open(fd, JOURNAL_FILE, &j));
	assert_true(j->this_boot);
	for (; journal_next(j, &e) > 0; n++)
		assert_true(e.inode.ino == UINT64_MAX - n);
	assert_int_equal(10000, n);
	assert_true(j->lines.cap <= 4096);
	journal_close(j);
	publish_record_free(record);
}

/* What is written of a key is read as that key: a line break in one would end the line, and the records behind it. */
TEST(packed_records_with_a_key_of_two_lines_are_damaged)
{
	static const char text[] = "{\"stagerun\": \"records\", \"format\": 1}\n"
				   "{\"key\": \"aaaa\", \"bytes\": 2, \"written\": [1, 2]}\n{}"
				   "{\"key\": \"a\\nb\", \"bytes\": 2, \"written\": [1, 2]}\n{}";
	_free_ char *dir = test_directory();
	_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct packed_records p;

	write_some(in(dir, "packed"), text, strlen(text));
	packed_init(&p);
	packed_load(&p, fd, "packed", false);
	assert_int_equal(1, p.n);
	assert_string_equal("aaaa", p.v[0].key);
	packed_done(&p);
}
