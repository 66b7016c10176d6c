/* SPDX-License-Identifier: MIT */
#include "decode.h"
#include "defer.h"
#include "log.h"
#include "memory_object.h"
#include "tar_builder.h"
#include "test.h"
#include "unpack_fixture.h"
#include "zip_builder.h"
#include <errno.h>
#include <nettle/sha2.h>
#include <string.h>

static void close_all(struct box *b, struct text *zip)
{
	box_close(b);
	text_done(zip);
}

/* Unpacks a zip of this one entry, which must go well. */
static void unpack_one(struct box *b, const struct zip_item *item)
{
	struct zip z = {0};
	struct text zip;

	zip_add(&z, item);
	zip = zip_build(&z, NULL);
	box_unpack_ok(b, &zip, "zip");
	text_done(&zip);
}

TEST(zip_entries_get_their_type_content_and_mode)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "d/", .mode = S_IFDIR | 0750});
	zip_add(&z, &(struct zip_item){.name = "d/deflated",
			    .content = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
			    .mode = S_IFREG | 0600});
	zip_add(&z, &(struct zip_item){.name = "d/stored",
			    .content = "stored",
			    .stored = true,
			    .mode = S_IFREG | 0755});
	zip_add(&z, &(struct zip_item){.name = "d/empty", .mode = S_IFREG | 0444});
	zip_add(&z, &(struct zip_item){.name = "d/link",
			    .content = "stored",
			    .stored = true,
			    .mode = S_IFLNK | 0777});
	zip = zip_build(&z, NULL);
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "d/deflated", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
	box_assert_content(&b, "d/stored", "stored");
	box_assert_content(&b, "d/empty", "");
	box_assert_link(&b, "d/link", "stored");
	assert_int_equal(S_IFDIR | 0750, box_stat(&b, "d").st_mode);
	assert_int_equal(S_IFREG | 0600, box_stat(&b, "d/deflated").st_mode);
	assert_int_equal(S_IFREG | 0755, box_stat(&b, "d/stored").st_mode);
	assert_int_equal(S_IFREG | 0444, box_stat(&b, "d/empty").st_mode);
	assert_int_equal(5, counted(&b.progress.entries));
	close_all(&b, &zip);
}

TEST(zip_made_on_dos_gets_default_modes)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "d/"});
	zip_add(&z, &(struct zip_item){.name = "f", .content = "x"});
	zip_add(&z, &(struct zip_item){.name = "readonly", .content = "x", .attributes = 1});
	zip_add(&z, &(struct zip_item){.name = "e", .attributes = 16});
	zip = zip_build(&z, NULL);
	box_unpack_ok(&b, &zip, "zip");
	assert_int_equal(S_IFDIR | 0755, box_stat(&b, "d").st_mode);
	assert_int_equal(S_IFREG | 0644, box_stat(&b, "f").st_mode);
	assert_int_equal(S_IFREG | 0444, box_stat(&b, "readonly").st_mode);
	assert_int_equal(S_IFDIR | 0755, box_stat(&b, "e").st_mode);
	close_all(&b, &zip);
}

TEST(zip_that_is_empty_makes_nothing)
{
	struct zip z = {0};
	struct text zip = zip_build(&z, NULL);
	struct box b;

	box_unpack_ok(&b, &zip, "zip");
	assert_int_equal(0, counted(&b.progress.entries));
	close_all(&b, &zip);
}

static time_t zip_mtime(const void *extra, size_t len, long *ret_nsec)
{
	struct box b;
	struct stat st;

	/* 2020-05-06 07:08:10 */
	unpack_one(&b, &(struct zip_item){.name = "f",
			       .content = "x",
			       .dos_time = 7 << 11 | 8 << 5 | 5,
			       .dos_date = 40 << 9 | 5 << 5 | 6,
			       .central_extra = {extra, len}});
	st = box_stat(&b, "f");
	box_close(&b);
	*ret_nsec = st.st_mtim.tv_nsec;
	return st.st_mtim.tv_sec;
}

TEST(zip_times_are_the_best_that_the_entry_has)
{
	static const char ut[] = "UT\5\0\1\0\x10\x5e\x5f"; /* 0x5f5e1000 */
	static const char ntfs[] = "\n\0\40\0\0\0\0\0\1\0\30\0"
				   "\x15\x1c\x94\x9c\x95\xb4\xd0\x01"
				   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
	static const char both[] = "UT\5\0\1\0\x10\x5e\x5f"
				   "\n\0\40\0\0\0\0\0\1\0\30\0"
				   "\x15\x1c\x94\x9c\x95\xb4\xd0\x01"
				   "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
	static const char negative[] = "UT\5\0\1\xff\xff\xff\xff";
	struct tm tm = {.tm_year = 120, .tm_mon = 4, .tm_mday = 6, .tm_hour = 7, .tm_min = 8};
	const uint64_t ticks = 0x01d0b4959c941c15 - 116444736000000000;
	long nsec;

	tm.tm_sec = 10;
	tm.tm_isdst = -1;
	assert_int_equal(mktime(&tm), zip_mtime(NULL, 0, &nsec));
	assert_int_equal(0x5f5e1000, zip_mtime(ut, 9, &nsec));
	assert_int_equal(ticks / 10000000, zip_mtime(ntfs, 36, &nsec));
	assert_int_equal(ticks % 10000000 * 100, nsec);
	assert_int_equal(ticks / 10000000, zip_mtime(both, 45, &nsec));
	assert_int_equal(-1, zip_mtime(negative, 9, &nsec));
	/* One that is cut short counts for nothing. */
	assert_int_equal(mktime(&tm), zip_mtime("UT\5\0\1\1\1", 7, &nsec));
}

static time_t dos_mtime(int minute, int second)
{
	struct tm tm = {.tm_year = 120, .tm_mon = 4, .tm_mday = 6, .tm_hour = 7, .tm_isdst = -1};

	tm.tm_min = minute;
	tm.tm_sec = second;
	return mktime(&tm);
}

TEST(zip_dos_times_of_one_minute_and_of_the_next_are_told_apart)
{
	static const struct {
		const char *name;
		int minute, second;
	} items[] = {{"a", 8, 2}, {"b", 8, 58}, {"c", 9, 0}, {"d", 8, 0}};
	struct zip z = {0};
	struct text zip;
	struct box b;

	for (size_t i = 0; i < ARRAY_LEN(items); i++)
		zip_add(&z, &(struct zip_item){.name = items[i].name,
				    .dos_time = (unsigned)(7 << 11 | items[i].minute << 5 |
							   items[i].second / 2),
				    .dos_date = 40 << 9 | 5 << 5 | 6});
	zip = zip_build(&z, NULL);
	box_unpack_ok(&b, &zip, "zip");
	for (size_t i = 0; i < ARRAY_LEN(items); i++)
		assert_int_equal(dos_mtime(items[i].minute, items[i].second),
			box_stat(&b, items[i].name).st_mtim.tv_sec);
	close_all(&b, &zip);
}

TEST(zip_name_without_the_utf8_flag_keeps_its_bytes)
{
	struct box b;

	unpack_one(&b, &(struct zip_item){.name = "caf\x82\xff", .content = "x"});
	box_assert_content(&b, "caf\x82\xff", "x");
	box_close(&b);
}

TEST(zip_unicode_name_is_used_when_it_belongs_to_the_name)
{
	/* The checksum of "caf\x82". */
	static const char good[] = "up\x0a\0\1\xcb\x08\xd3\x71"
				   "caf\xc3\xa9";
	static const char stale[] = "up\x0a\0\1\0\0\0\0"
				    "caf\xc3\xa9";
	struct box b;

	unpack_one(&b,
		&(struct zip_item){.name = "caf\x82", .content = "x", .central_extra = {good, 14}});
	box_assert_content(&b, "caf\xc3\xa9", "x");
	box_close(&b);
	unpack_one(&b, &(struct zip_item){
			       .name = "caf\x82", .content = "x", .central_extra = {stale, 14}});
	box_assert_content(&b, "caf\x82", "x");
	box_close(&b);
}

TEST(zip_descriptors_behind_the_data_are_passed_over)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "first", .descriptor = true});
	zip_add(&z, &(struct zip_item){
			    .name = "b", .content = "second", .stored = true, .descriptor = true});
	zip_add(&z, &(struct zip_item){
			    .name = "c", .content = "third", .descriptor = true, .zip64 = true});
	zip = zip_build(&z, NULL);
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "a", "first");
	box_assert_content(&b, "b", "second");
	box_assert_content(&b, "c", "third");
	close_all(&b, &zip);
}

TEST(zip64_sizes_offsets_and_end_record_are_read)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "first"});
	zip_add(&z, &(struct zip_item){.name = "b", .content = "second", .zip64 = true});
	zip = zip_build(&z, &(struct zip_tail){.zip64 = true, .comment = "with a comment"});
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "a", "first");
	box_assert_content(&b, "b", "second");
	close_all(&b, &zip);
}

TEST(zip_comment_that_looks_like_an_end_record_is_a_comment)
{
	char comment[65000];
	struct zip z = {0};
	struct text zip;
	struct box b;

	memset(comment, 'c', sizeof(comment));
	memcpy(comment + 60000, "PK\5\6zzzz", 8);
	comment[sizeof(comment) - 1] = '\0';
	zip_add(&z, &(struct zip_item){.name = "a", .content = "first"});
	zip = zip_build(&z, &(struct zip_tail){.comment = comment});
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "a", "first");
	close_all(&b, &zip);
}

TEST(zip_behind_other_bytes_is_found_where_it_is)
{
	static const struct zip_tail tails[] = {{0}, {.zip64 = true}};

	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		struct zip z = {0};
		struct text zip, shifted = {0};
		struct box b;

		zip_add(&z, &(struct zip_item){.name = "a", .content = "first"});
		zip = zip_build(&z, &tails[i]);
		text_add(&shifted, "PK\5\6 looks like one, but is in the way");
		text_add_bytes(&shifted, zip.s, zip.len);
		box_unpack_ok(&b, &shifted, "zip");
		box_assert_content(&b, "a", "first");
		box_close(&b);
		text_done(&zip);
		text_done(&shifted);
	}
}

TEST(zip_listed_in_another_order_than_its_data_is_unpacked)
{
	struct zip z = {0};
	struct text zip;
	char name[16];
	struct box b;

	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		zip_add(&z, &(struct zip_item){
				    .name = name, .content = name, .listed_first = i % 3 == 0});
	}
	zip = zip_build(&z, NULL);
	box_unpack_ok(&b, &zip, "zip");
	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		box_assert_content(&b, name, name);
	}
	close_all(&b, &zip);
}

static void check_cut(const struct text *zip, const char *medium, const char *large, size_t cut,
	unsigned slices_in_block)
{
	struct box b;

	box_open(&b);
	b.slice_bytes = cut;
	b.slices_in_block = slices_in_block;
	assert_int_equal(0, box_unpack(&b, zip));
	box_assert_content(&b, "small", "x");
	box_assert_content(&b, "large", large);
	box_assert_content(&b, "stored", large);
	box_assert_content(&b, "medium", medium);
	box_assert_content(&b, "medium2", medium);
	box_assert_content(&b, "medium3", medium);
	assert_true(b.drained);
	box_close(&b);
}

TEST(zip_content_is_the_same_however_the_stream_is_cut)
{
	static const size_t cuts[] = {13, 31, 1000, 65536, 131072, 1000000};
	_free_ char *large = make_text(700000); /* more than a worker's part with this budget */
	_free_ char *medium = make_text(150000);
	struct zip z = {0};
	struct text zip;

	zip_add(&z, &(struct zip_item){.name = "small", .content = "x"});
	zip_add(&z, &(struct zip_item){.name = "large", .content = large});
	zip_add(&z, &(struct zip_item){.name = "stored", .content = large, .stored = true});
	zip_add(&z, &(struct zip_item){.name = "medium", .content = medium});
	zip_add(&z, &(struct zip_item){.name = "medium2", .content = medium, .stored = true});
	zip_add(&z, &(struct zip_item){.name = "medium3", .content = medium, .stored = true});
	zip = zip_build(&z, NULL);
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		check_cut(&zip, medium, large, cuts[i], 1);
		check_cut(&zip, medium, large, cuts[i], 3);
	}
	text_done(&zip);
}

TEST(zip_from_a_server_without_ranges_is_stored_first)
{
	_free_ char *large = make_text(700000);
	struct zip z = {0};
	struct text zip;
	struct box b;

	log_setup(LOG_ERROR, LOG_TEXT, 2);
	zip_add(&z, &(struct zip_item){.name = "a", .content = "first"});
	zip_add(&z, &(struct zip_item){.name = "large", .content = large});
	zip = zip_build(&z, NULL);
	box_open(&b);
	b.seekable = false;
	assert_int_equal(0, box_unpack(&b, &zip));
	box_assert_content(&b, "a", "first");
	box_assert_content(&b, "large", large);
	log_setup(LOG_INFO, LOG_TEXT, 2);
	close_all(&b, &zip);
}

TEST(zip_later_entry_of_one_name_wins_whatever_its_spelling_and_size)
{
	_free_ char *large = make_text(700000);
	struct zip z = {0};
	struct text zip;
	char name[32], content[32];
	struct box b;

	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), i % 2 ? "d/f%d" : "./d//f%d", i % 7);
		snprintf(content, sizeof(content), "content %d", i);
		zip_add(&z, &(struct zip_item){.name = name, .content = content});
	}
	zip_add(&z, &(struct zip_item){.name = "d/f0", .content = large});
	zip_add(&z, &(struct zip_item){.name = "d/f1", .content = large});
	zip_add(&z, &(struct zip_item){.name = "d/f1", .content = "last"});
	zip = zip_build(&z, NULL);
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "d/f0", large);
	box_assert_content(&b, "d/f1", "last");
	box_assert_content(&b, "d/f2", "content 296");
	box_assert_content(&b, "d/f6", "content 293");
	close_all(&b, &zip);
}

TEST(zip_selection_skips_and_strips)
{
	static const char *const include[] = {"top/keep", "top/*.txt", NULL};
	static const char *const exclude[] = {"*.bad", NULL};
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "top/no", .content = "no"});
	zip_add(&z, &(struct zip_item){.name = "top/keep/a", .content = "a"});
	/* What is left out may be something that could not be unpacked. */
	zip_add(&z, &(struct zip_item){.name = "top/keep/x.bad", .content = "x", .method = 12});
	zip_add(&z, &(struct zip_item){.name = "top/b.txt", .content = "b"});
	zip = zip_build(&z, NULL);
	box_open(&b);
	b.selection = (struct selection){include, exclude, 1};
	assert_int_equal(0, box_unpack(&b, &zip));
	box_assert_content(&b, "keep/a", "a");
	box_assert_content(&b, "b.txt", "b");
	box_assert_absent(&b, "no");
	box_assert_absent(&b, "keep/x.bad");
	close_all(&b, &zip);
}

/* Bytes that are passed over, and those behind the last entry, count for the digest too. */
TEST(zip_is_read_to_its_end_for_the_digest)
{
	static const char *const include[] = {"b", NULL};
	struct zip z = {0};
	struct text zip;
	struct object *o;
	struct unpack_input input = {.source = "source", .file_name = "single", .extract = true};
	struct sha256_ctx sha256;
	uint8_t digest[32];
	char want[65], got[65] = "";
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "left out"});
	zip_add(&z, &(struct zip_item){.name = "b", .content = "b"});
	zip = zip_build(&z, NULL);
	sha256_init(&sha256);
	sha256_update(&sha256, zip.len, (const uint8_t *)zip.s);
	sha256_digest(&sha256, sizeof(digest), digest);
	for (int i = 0; i < 32; i++)
		snprintf(want + 2 * (size_t)i, 3, "%02x", digest[i]);
	box_open(&b);
	b.selection.include = include;
	o = memory_object(zip.s, zip.len, 10, true, "source");
	input.object = o;
	input.in = sha256_reader(object_stream(o), want);
	assert_int_equal(0, unpack(&b.env, &input, &b.format, &b.err));
	sha256_reader_hex(input.in, got);
	assert_string_equal(want, got);
	box_assert_content(&b, "b", "b");
	reader_close(input.in);
	object_close(o);
	close_all(&b, &zip);
}

TEST(zip_bytes_after_its_comment_are_tolerated)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "first"});
	zip = zip_build(&z, NULL);
	text_add(&zip, "\n");
	box_unpack_ok(&b, &zip, "zip");
	box_assert_content(&b, "a", "first");
	close_all(&b, &zip);
}

TEST(zip_that_was_cancelled_stops)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "c"});
	zip = zip_build(&z, NULL);
	box_open(&b);
	cancel_request(&b.cancel);
	assert_int_equal(-ECANCELED, box_unpack(&b, &zip));
	box_assert_absent(&b, "a");
	close_all(&b, &zip);
}

TEST(zip_of_more_than_65535_entries_is_unpacked_with_a_count_that_wrapped)
{
	static const char *const include[] = {"*99", NULL};
	struct zip z = {0};
	struct text zip;
	char name[16];
	struct box b;

	for (int i = 0; i < 65537; i++) {
		snprintf(name, sizeof(name), "%d/%d", i % 16, i);
		zip_add(&z, &(struct zip_item){.name = name});
	}
	zip = zip_build(&z, NULL);
	box_open(&b);
	b.slice_bytes = 100000;
	b.selection.include = include;
	assert_int_equal(0, box_unpack(&b, &zip));
	assert_int_equal(655, counted(&b.progress.entries));
	box_assert_content(&b, "11/65499", "");
	close_all(&b, &zip);
}

/* Entries of one archive as two tools see it. */
static void check_tool(const char *command, const char *format)
{
	struct text zip = {0};
	struct box b;

	run_tool(&zip, command);
	box_open(&b);
	if (box_unpack(&b, &zip) < 0)
		fail_msg("%s", b.err.msg);
	assert_string_equal(format, b.format);
	box_assert_content(&b, "d/hello", "hello\n");
	box_assert_link(&b, "d/link", "hello");
	assert_int_equal(1600000000, box_stat(&b, "d/hello").st_mtim.tv_sec);
	assert_int_equal(S_IFREG | 0751, box_stat(&b, "d/hello").st_mode);
	close_all(&b, &zip);
}

#define MAKE_TREE \
	"cd \"$(mktemp -d)\" && mkdir d && echo hello > d/hello && chmod 751 d/hello && " \
	"touch -d @1600000000 d/hello && ln -s hello d/link && "
#define REMOVE_TREE " && rm -r \"$PWD\""

TEST(zip_made_by_info_zip_is_unpacked)
{
	check_tool(MAKE_TREE "zip -qry t.zip d && cat t.zip" REMOVE_TREE, "zip");
}

/* Sizes behind the data, as the writer cannot go back. (Some builds of Info-ZIP refuse symbolic links
 * there.) */
TEST(zip_made_by_bsdtar_into_a_pipe_is_unpacked)
{
	check_tool(MAKE_TREE "bsdtar --format zip -cf - d | cat" REMOVE_TREE, "zip");
}

TEST(zip_made_by_7zip_is_unpacked)
{
	check_tool(MAKE_TREE "7z a -bso0 -bsp0 -snl -tzip t.zip d && cat t.zip" REMOVE_TREE, "zip");
}
