/* SPDX-License-Identifier: MIT */
/* Zips as programs really make them, and what only looks like one: what a zip is, where it begins, and what of it is
 * believed. */
#include "defer.h"
#include "memory_object.h"
#include "tar_builder.h"
#include "test.h"
#include "unpack_fixture.h"
#include "zip_builder.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static void close_all(struct box *b, struct text *zip)
{
	box_close(b);
	text_done(zip);
}

static struct text zip_of_one(const char *name, const char *content)
{
	struct zip z = {0};

	zip_add(&z, &(struct zip_item){.name = name, .content = content, .stored = true});
	return zip_build(&z, NULL);
}

/* front, and a zip of one file "a" behind it. */
static struct text zip_behind(const void *front, size_t len)
{
	struct text zip = zip_of_one("a", "content"), all = {0};

	text_add_bytes(&all, front, len);
	text_add_bytes(&all, zip.s, zip.len);
	text_done(&zip);
	return all;
}

static void check_fails(struct box *b, const struct text *zip, int code, const char *message)
{
	assert_int_equal(code, box_unpack(b, zip));
	box_assert_error(b, code, message);
}

/* A zip that holds another one, cut behind it. */
static struct text cut_zip(const struct text *inner, const char *behind)
{
	struct zip z = {0};
	struct text whole;
	size_t end;

	zip_add(&z, &(struct zip_item){.name = "b.txt", .content = "b"});
	zip_add(&z, &(struct zip_item){.name = "inner.zip",
			    .content = inner->s,
			    .len = inner->len,
			    .stored = true});
	end = z.data.len;
	zip_add(&z, &(struct zip_item){.name = "c.txt", .content = "c"});
	whole = zip_build(&z, NULL);
	whole.len = end;
	text_add(&whole, behind);
	return whole;
}

TEST(zip_that_is_cut_off_does_not_become_the_zip_that_is_stored_in_it)
{
	static const struct zip_tail tails[] = {{0}, {.zip64 = true}};
	static const char *const behind[] = {"", "PK", "PK\3\4 the next header, in part"};

	for (size_t i = 0; i < ARRAY_LEN(tails) * ARRAY_LEN(behind); i++) {
		struct zip z = {0};
		struct text inner, zip;
		struct box b;

		zip_add(&z, &(struct zip_item){.name = "a", .content = "inner"});
		inner = zip_build(&z, &tails[i % 2]);
		zip = cut_zip(&inner, behind[i / 2]);
		box_open(&b);
		b.seekable = i % 3 != 0;
		check_fails(&b, &zip, -ERR_TRUNCATED, "cut short");
		text_done(&inner);
		close_all(&b, &zip);
	}
}

TEST(zip_that_is_cut_off_behind_a_program_does_not_become_the_zip_that_is_stored_in_it)
{
	static const char *const urls[] = {"https://host/x.zip", "https://host/x"};

	for (size_t i = 0; i < ARRAY_LEN(urls); i++) {
		struct text inner = zip_of_one("a", "inner"), cut = cut_zip(&inner, ""), all = {0};
		struct box b;

		text_add_bytes(&all, "\1\2\3\4PK\3\4 no header", 18);
		text_add_bytes(&all, cut.s, cut.len);
		box_open(&b);
		b.url = urls[i];
		if (i == 0) {
			check_fails(&b, &all, -ERR_TRUNCATED, "cut short");
		} else {
			assert_int_equal(0, box_unpack(&b, &all));
			box_assert_bytes(&b, "single", all.s, all.len);
		}
		text_done(&inner);
		text_done(&cut);
		close_all(&b, &all);
	}
}

TEST(zip_that_begins_with_an_entry_and_lists_none_is_an_error)
{
	static const char empty[22] = "PK\5\6";
	struct text inner = {0}, zip;
	struct box b;

	text_add_bytes(&inner, empty, sizeof(empty));
	zip = cut_zip(&inner, "");
	box_open(&b);
	check_fails(&b, &zip, -ERR_TRUNCATED, "lists nothing");
	text_done(&inner);
	close_all(&b, &zip);
}

TEST(zip_of_a_few_bytes_is_cut_short)
{
	struct text zip = {0};
	struct box b;

	text_add_bytes(&zip, "PK\3\4\24", 5);
	box_open(&b);
	check_fails(&b, &zip, -ERR_TRUNCATED, "no end record");
	close_all(&b, &zip);
}

TEST(zip_behind_another_zip_is_not_taken_for_all_of_it)
{
	struct text zip = zip_of_one("first", "1"), second = zip_of_one("second", "2");
	struct box b;

	text_add_bytes(&zip, second.s, second.len);
	box_open(&b);
	check_fails(&b, &zip, -ERR_TRUNCATED, "several in one file");
	text_done(&second);
	close_all(&b, &zip);
}

TEST(zip_without_entries_is_an_empty_directory)
{
	struct zip z = {0};
	struct text zip = zip_build(&z, NULL);
	struct box b;

	box_unpack_ok(&b, &zip, "zip");
	close_all(&b, &zip);
}

TEST(zip_may_begin_with_the_mark_of_one_that_was_to_be_split)
{
	static const char *const marks[] = {"PK00", "PK\7\10"};

	for (size_t i = 0; i < 2 * ARRAY_LEN(marks); i++) {
		struct zip z = {0};
		struct text zip;
		struct box b;

		if (i < 2) { /* offsets count from the mark on */
			text_add(&z.data, marks[i]);
			zip_add(&z, &(struct zip_item){.name = "a", .content = "content"});
			zip = zip_build(&z, NULL);
		} else {
			zip = zip_behind(marks[i - 2], 4);
		}
		box_unpack_ok(&b, &zip, "zip");
		box_assert_content(&b, "a", "content");
		close_all(&b, &zip);
	}
}

TEST(zip_behind_a_program_is_unpacked_when_its_name_says_zip)
{
	static const char exe[100] = "MZ\x90", script[] = "#!/bin/sh\nexit 0\n";
	static const struct {
		const char *bytes;
		size_t len;
	} fronts[] = {{exe, sizeof(exe)}, {script, sizeof(script) - 1},
		{"\x7f"
		 "ELF",
			4}};

	for (size_t i = 0; i < 2 * ARRAY_LEN(fronts); i++) {
		struct text zip = zip_behind(fronts[i / 2].bytes, fronts[i / 2].len);
		struct box b;

		box_open(&b);
		b.url = "https://host/setup.ZIP";
		b.seekable = i % 2 == 0;
		assert_int_equal(0, box_unpack(&b, &zip));
		box_assert_content(&b, "a", "content");
		close_all(&b, &zip);
	}
}

TEST(zip_behind_a_program_of_another_name_is_a_program)
{
	static const char exe[100] = "MZ\x90";
	struct text zip = zip_behind(exe, sizeof(exe));
	struct box b;

	box_open(&b);
	b.url = "https://host/setup.exe";
	assert_int_equal(0, box_unpack(&b, &zip));
	box_assert_bytes(&b, "single", zip.s, zip.len);
	close_all(&b, &zip);
}

TEST(zip_behind_bytes_of_no_known_kind_is_unpacked_whatever_its_name)
{
	struct text zip = zip_behind("\1\2\3\4\5\6\7\0", 8);
	struct box b;

	box_open(&b);
	b.url = "https://host/data";
	assert_int_equal(0, box_unpack(&b, &zip));
	box_assert_content(&b, "a", "content");
	close_all(&b, &zip);
}

TEST(zip_end_record_in_bytes_of_no_known_kind_makes_no_zip_of_them)
{
	static const char record[22] = "PK\5\6\0\0\0\0\1\0\1\0\10\0\0\0";
	struct text data = {0};
	struct box b;

	text_add_bytes(&data, "\1\2\3\4\5\6\7\0", 8);
	text_add_bytes(&data, record, sizeof(record));
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &data));
	box_assert_bytes(&b, "single", data.s, data.len);
	close_all(&b, &data);
}

/* A locator, of whose record nothing is where it says. */
static const char locator[20] = "PK\6\7\0\0\0\0\2\0\0\0\0\0\0\0\1";

TEST(zip_comment_that_looks_like_a_locator_does_not_make_it_64_bit)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z,
		&(struct zip_item){
			.name = "a", .content = "content", .comment = {locator, sizeof(locator)}});
	zip = zip_build(&z, NULL);
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "a", "content");
	close_all(&b, &zip);
}

TEST(zip_64_bit_records_that_nothing_needs_are_passed_over)
{
	struct zip z = {0};
	struct text zip;
	struct box b;
	size_t directory;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "content"});
	directory = z.directory.len;
	zip = zip_build(&z, &(struct zip_tail){.zip64 = true});
	/* The end record says the same as the 64-bit one. */
	memcpy(zip.s + zip.len - 22 + 8, "\1\0\1\0", 4);
	memcpy(zip.s + zip.len - 22 + 12, &(uint32_t){(uint32_t)directory}, 4);
	memcpy(zip.s + zip.len - 22 + 16, &(uint32_t){(uint32_t)(zip.len - 98 - directory)}, 4);
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "a", "content");
	close_all(&b, &zip);
}

static void repeat_first_record(struct zip *z)
{
	size_t len = 46 + 1; /* a name of one letter */
	_free_ char *record = zalloc(len);

	memcpy(record, z->directory.s, len);
	text_add_bytes(&z->directory, record, len);
	z->n++;
}

TEST(zip_record_that_is_listed_twice_is_passed_over)
{
	for (int others = 0; others < 2; others++) {
		struct zip z = {0};
		struct text zip;
		struct box b;

		zip_add(&z, &(struct zip_item){.name = "a", .content = "content"});
		if (others)
			zip_add(&z, &(struct zip_item){.name = "b", .content = "more"});
		repeat_first_record(&z);
		zip = zip_build(&z, NULL);
		box_unpack_ok(&b, &zip, "zip");
		box_assert_content(&b, "a", "content");
		assert_int_equal(1 + others, atomic_load(&b.progress.entries));
		close_all(&b, &zip);
	}
}

TEST(zip_other_entry_of_the_same_name_still_wins)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "first"});
	zip_add(&z, &(struct zip_item){.name = "a", .content = "second"});
	zip = zip_build(&z, NULL);
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "a", "second");
	close_all(&b, &zip);
}

static void unpack_item(struct box *b, const struct zip_item *item)
{
	struct zip z = {0};
	struct text zip;

	zip_add(&z, item);
	zip = zip_build(&z, NULL);
	box_unpack_ok(b, &zip, "zip");
	text_done(&zip);
}

TEST(zip_of_a_pipes_output_is_a_regular_file)
{
	static const unsigned types[] = {S_IFIFO, S_IFSOCK, S_IFCHR};

	for (size_t i = 0; i < ARRAY_LEN(types); i++) {
		struct box b;

		unpack_item(&b, &(struct zip_item){
					.name = "-", .content = "piped", .mode = types[i] | 0600});
		box_assert_content(&b, "-", "piped");
		box_close(&b);
	}
}

TEST(zip_times_of_old_unix_fields_are_used)
{
	/* Accessed at 1, modified at 1000000000, of user 7 and group 8. */
	static const char info_zip[] = "\x55\x58\x08\0\1\0\0\0\x00\xca\x9a\x3b",
			  pkware[] = "\x0d\0\x0c\0\1\0\0\0\x00\xca\x9a\x3b\7\0\10\0";
	const struct zip_extra_bytes extras[] = {{info_zip, 12}, {pkware, 16}};

	for (size_t i = 0; i < ARRAY_LEN(extras); i++) {
		struct box b;

		unpack_item(&b, &(struct zip_item){.name = "a",
					.content = "c",
					.dos_date = 0x5821,
					.central_extra = extras[i]});
		assert_int_equal(1000000000, box_stat(&b, "a").st_mtime);
		box_close(&b);
	}
}

TEST(zip_backslashes_separate_in_a_zip_of_windows)
{
	static const unsigned systems[] = {0, 10, 14};

	for (size_t i = 0; i < ARRAY_LEN(systems); i++) {
		const unsigned on = systems[i];
		struct zip z = {0};
		struct text zip;
		struct box b;

		zip_add(&z, &(struct zip_item){
				    .name = "train\\cat\\1", .content = "cat", .made_on = on});
		zip_add(&z, &(struct zip_item){.name = "train\\empty\\", .made_on = on});
		zip_add(&z, &(struct zip_item){.name = "test\\1",
				    .local_name = "test/1",
				    .content = "one",
				    .made_on = on});
		zip_add(&z, &(struct zip_item){.name = "a/b\\c", .content = "c", .made_on = on});
		zip = zip_build(&z, NULL);
		box_unpack_ok(&b, &zip, "zip");
		box_assert_content(&b, "train/cat/1", "cat");
		box_assert_content(&b, "test/1", "one");
		box_assert_content(&b, "a/b\\c", "c");
		assert_true(S_ISDIR(box_stat(&b, "train/empty").st_mode));
		close_all(&b, &zip);
	}
}

TEST(zip_backslashes_of_unix_are_letters)
{
	struct box b;

	unpack_item(&b, &(struct zip_item){.name = "a\\b", .content = "c", .mode = S_IFREG | 0644});
	box_assert_content(&b, "a\\b", "c");
	box_close(&b);
}

TEST(zip_backslashes_do_not_lead_out_of_the_tree)
{
	struct text zip = zip_of_one("..\\x", "c");
	struct box b;

	box_open(&b);
	check_fails(&b, &zip, -ERR_REFUSED, "../x");
	close_all(&b, &zip);
}

TEST(zip_entry_called_slash_is_the_root)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "/"});
	zip_add(&z, &(struct zip_item){.name = "a", .content = "content"});
	zip = zip_build(&z, NULL);
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "a", "content");
	close_all(&b, &zip);
}

TEST(zip_file_with_the_attribute_of_a_directory_keeps_its_content)
{
	struct box b;

	unpack_item(&b, &(struct zip_item){.name = "a", .content = "c", .attributes = 0x10});
	box_assert_content(&b, "a", "c");
	box_close(&b);
}

/* A zip whose directory is len bytes of something else. */
static struct text zip_of_garbage(size_t len)
{
	struct zip z = {0};
	_free_ char *garbage = zalloc(len);

	zip_add(&z, &(struct zip_item){.name = "a", .content = "c"});
	text_add_bytes(&z.data, garbage, len);
	text_done(&z.directory);
	text_add_bytes(&z.directory, garbage, len);
	return zip_build(&z, NULL);
}

TEST(zip_directory_is_stored_no_further_than_it_is_one)
{
	const size_t len = (size_t)4 << 20;
	struct text zip = zip_of_garbage(len);
	struct rlimit before, limit;
	struct box b;

	assert_int_equal(0, getrlimit(RLIMIT_FSIZE, &before));
	limit = (struct rlimit){.rlim_cur = len / 2, .rlim_max = before.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	box_open(&b);
	assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &limit));
	check_fails(&b, &zip, -ERR_FORMAT, "damaged at byte 0");
	assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &before));
	signal(SIGXFSZ, SIG_DFL);
	close_all(&b, &zip);
}

static struct text zip_of_many(unsigned n)
{
	struct zip z = {0};
	char name[32];

	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		zip_add(&z, &(struct zip_item){.name = name});
	}
	return zip_build(&z, NULL);
}

TEST(zip_that_lists_more_entries_than_are_allowed_is_refused_before_any_is_written)
{
	struct text zip = zip_of_many(50);
	struct box b;

	box_open_limited(&b, UINT64_MAX, 49);
	check_fails(&b, &zip, -ERR_LIMIT, "limits.max_entries");
	box_assert_absent(&b, "f0");
	close_all(&b, &zip);
}

TEST(zip_directory_larger_than_all_files_may_be_is_refused)
{
	struct text zip = zip_of_many(1000);
	struct box b;

	box_open_limited(&b, 20000, UINT64_MAX);
	check_fails(&b, &zip, -ERR_LIMIT, "limits.max_bytes");
	box_assert_absent(&b, "f0");
	close_all(&b, &zip);
}

TEST(zip_that_must_be_stored_whole_is_stored_within_the_limit)
{
	struct text zip = zip_of_many(1000);
	struct box b;

	box_open_limited(&b, 60000, UINT64_MAX);
	b.seekable = false;
	check_fails(&b, &zip, -ERR_LIMIT, "has to be stored");
	close_all(&b, &zip);
}

TEST(zip_that_must_be_stored_whole_may_be_as_large_as_what_is_in_it)
{
	_free_ char *content = make_text(50000);
	struct text zip = zip_of_one("a", content);
	struct box b;

	box_open_limited(&b, 51000, UINT64_MAX);
	b.seekable = false;
	assert_int_equal(0, box_unpack(&b, &zip));
	box_assert_content(&b, "a", content);
	close_all(&b, &zip);
}

/* Nobody asks what was wrong. */
static void unpack_without_error(const struct text *zip, bool seekable)
{
	struct object *o;
	struct unpack_input input = {.source = "source", .file_name = "single", .extract = true};
	const char *format;
	struct box b;

	box_open_limited(&b, 30000, UINT64_MAX);
	o = memory_object(zip->s, zip->len, 1000, seekable, "source");
	input.in = object_stream(o);
	input.object = o;
	assert_true(unpack(&b.env, &input, &format, NULL) < 0);
	object_close(o);
	box_close(&b);
}

TEST(zip_that_fails_needs_nobody_to_tell)
{
	struct text zips[] = {zip_of_many(1000), zip_of_garbage(5000), zip_of_one("../x", "c"),
		zip_of_one("a", "c")};

	zips[3].s[33] ^= 1; /* its content */
	for (size_t i = 0; i < ARRAY_LEN(zips); i++) {
		unpack_without_error(&zips[i], true);
		unpack_without_error(&zips[i], false);
		text_done(&zips[i]);
	}
}

static void check_crumbs(const struct text *zip, size_t slice, const struct text *content)
{
	struct box b;

	box_open(&b);
	b.slice_bytes = slice;
	if (box_unpack(&b, zip) < 0)
		fail_msg("%s (%zu)", b.err.msg, slice);
	box_assert_bytes(&b, "f", content->s, content->len);
	box_close(&b);
}

TEST(zip_of_every_method_is_unpacked_however_its_bytes_arrive)
{
	static const char *const methods[] = {"Deflate64", "BZip2", "LZMA", "XZ"};
	static const char make[] = "seq 3000; head -c 70000 /dev/zero; seq 1 7 9000";
	static const size_t slices[] = {1, 2, 3, 7, 700, 100000};
	struct text content = {0};

	run_tool(&content, make);
	for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
		_free_ char *command = text_format(
			"cd \"$(mktemp -d)\" && (%s) > f && 7z a -bso0 -bsp0 -tzip -mm=%s t.zip "
			"f && cat t.zip && rm f t.zip && rmdir \"$PWD\"",
			make, methods[i]);
		struct text zip = {0};

		run_tool(&zip, command);
		for (size_t k = 0; k < ARRAY_LEN(slices); k++)
			check_crumbs(&zip, slices[k], &content);
		text_done(&zip);
	}
	text_done(&content);
}
