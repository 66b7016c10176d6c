/* SPDX-License-Identifier: MIT */
/* Zips that are damaged, cut, or made to do harm: each is an error with its own sentence. */
#include "defer.h"
#include "test.h"
#include "unpack_fixture.h"
#include "zip_builder.h"
#include <string.h>

static void close_all(struct box *b, struct text *zip)
{
	box_close(b);
	text_done(zip);
}

/* A zip that must fail, and how. */
static void check_zip_fails(struct text zip, int code, const char *message)
{
	struct box b;

	box_open(&b);
	assert_int_equal(code, box_unpack(&b, &zip));
	box_assert_error(&b, code, message);
	close_all(&b, &zip);
}

static void check_item_fails(const struct zip_item *item, int code, const char *message)
{
	struct zip z = {0};

	zip_add(&z, item);
	check_zip_fails(zip_build(&z, NULL), code, message);
}

TEST(zip_cut_at_any_byte_is_an_error)
{
	struct zip z = {0};
	struct text zip;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "first"});
	zip_add(&z, &(struct zip_item){.name = "b", .content = "second", .stored = true});
	zip = zip_build(&z, &(struct zip_tail){.zip64 = true});
	while (--zip.len >= 22) {
		struct box b;

		box_open(&b);
		assert_true(box_unpack(&b, &zip) < 0);
		box_close(&b);
	}
	text_done(&zip);
}

TEST(zip_without_an_end_record_says_that_it_may_be_cut)
{
	struct text zip = {0};

	text_add(&zip, "PK\3\4 and so on, but it never ends as it should");
	check_zip_fails(zip, -ERR_TRUNCATED, "has no end record");
}

TEST(zip_headers_that_disagree_are_an_error)
{
	const struct zip_item base = {.name = "x", .content = "content"};
	struct zip_item lie = base;

	lie.local_name = "y";
	check_item_fails(&lie, -ERR_FORMAT, "disagree about the name of 'x'");
	lie = base;
	lie.local_method = 12;
	check_item_fails(&lie, -ERR_FORMAT, "disagree about the compression method of 'x'");
	lie = base;
	lie.local_size_lie = 1;
	check_item_fails(&lie, -ERR_FORMAT, "disagree about the size of 'x'");
	lie = base;
	lie.local_crc_lie = 1;
	check_item_fails(&lie, -ERR_FORMAT, "disagree about the checksum of 'x'");
}

TEST(zip_offset_without_a_header_is_an_error)
{
	struct zip z = {0};

	zip_add(&z, &(struct zip_item){.name = "a", .content = "a"});
	zip_add(&z, &(struct zip_item){.name = "b", .content = "bbbbbbbb", .offset_lie = -2});
	check_zip_fails(zip_build(&z, NULL), -ERR_REFUSED, "overlaps the entry before it");
	zip_add(&z, &(struct zip_item){.name = "a", .content = "a"});
	zip_add(&z, &(struct zip_item){.name = "b", .content = "bb", .offset_lie = 2});
	zip_add(&z, &(struct zip_item){.name = "c", .content = "cccccccc"});
	check_zip_fails(zip_build(&z, NULL), -ERR_FORMAT, "no local header for 'b'");
}

TEST(zip_entries_that_share_their_data_are_refused)
{
	struct zip z = {0};
	long back;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "content"});
	back = (long)z.data.len;
	zip_add(&z, &(struct zip_item){.name = "b", .content = "content", .offset_lie = -back});
	check_zip_fails(zip_build(&z, NULL), -ERR_REFUSED, "overlaps the entry before it");
}

TEST(zip_entry_that_begins_in_the_one_before_is_refused_by_the_local_lengths_too)
{
	static const char padding[104] = {'x', 'x', 100};
	struct zip z = {0};

	zip_add(&z, &(struct zip_item){.name = "a",
			    .content = "content",
			    .stored = true,
			    .local_extra = {padding, sizeof(padding)}});
	zip_add(&z, &(struct zip_item){.name = "b", .content = "b", .offset_lie = -50});
	check_zip_fails(zip_build(&z, NULL), -ERR_REFUSED, "overlaps the entry before it");
}

TEST(zip_entry_that_begins_in_one_that_is_left_out_is_refused)
{
	static const char *const exclude[] = {"outer", NULL};
	struct zip inner = {0}, z = {0};
	struct text zip;
	struct box b;

	zip_add(&inner, &(struct zip_item){.name = "b", .content = "b"});
	zip_add(&z, &(struct zip_item){.name = "outer",
			    .content = inner.data.s,
			    .len = inner.data.len,
			    .stored = true});
	zip_add(&z, &(struct zip_item){
			    .name = "b", .content = "b", .offset_lie = -(long)inner.data.len});
	zip = zip_build(&z, NULL);
	box_open(&b);
	b.selection.exclude = exclude;
	assert_int_equal(-ERR_REFUSED, box_unpack(&b, &zip));
	box_assert_error(&b, -ERR_REFUSED, "overlaps the entry before it");
	text_done(&inner.data);
	text_done(&inner.directory);
	close_all(&b, &zip);
}

TEST(zip_entry_that_reaches_into_the_directory_is_an_error)
{
	check_item_fails(&(struct zip_item){.name = "a",
				 .content = "content",
				 .stored = true,
				 .size_lie = 5000,
				 .packed_lie = 5000},
		-ERR_FORMAT, "would reach into the zip's directory");
}

TEST(zip_damaged_content_is_an_error_that_names_the_entry)
{
	_free_ char *large = make_text(700000);

	check_item_fails(&(struct zip_item){.name = "small", .content = "content", .crc_lie = 1},
		-ERR_FORMAT, "'small' is damaged");
	check_item_fails(
		&(struct zip_item){
			.name = "stored", .content = "content", .stored = true, .crc_lie = 1},
		-ERR_FORMAT, "'stored' is damaged");
	check_item_fails(&(struct zip_item){.name = "large", .content = large, .crc_lie = 1},
		-ERR_FORMAT, "'large' is damaged");
}

TEST(zip_damaged_entry_among_many_small_ones_is_the_one_that_is_named)
{
	struct zip z = {0};
	struct text zip;
	char name[16];
	struct box b;

	for (unsigned i = 0; i < 400; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		zip_add(&z, &(struct zip_item){.name = name, .content = name, .crc_lie = i == 217});
	}
	zip = zip_build(&z, NULL);
	box_open(&b);
	b.slice_bytes = 1 << 20; /* batches end where slices do */
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, &zip));
	box_assert_error(&b, -ERR_FORMAT, "'f217' is damaged");
	box_assert_absent(&b, "f217");
	box_assert_content(&b, "f216", "f216"); /* in the same worker's hands before */
	close_all(&b, &zip);
}

TEST(zip_content_longer_or_shorter_than_promised_is_an_error)
{
	_free_ char *large = make_text(700000);
	const char *const why = "is not as long as the zip says";

	check_item_fails(&(struct zip_item){.name = "s", .content = "content", .size_lie = 1},
		-ERR_FORMAT, why);
	check_item_fails(&(struct zip_item){.name = "s", .content = "content", .size_lie = -1},
		-ERR_FORMAT, why);
	check_item_fails(
		&(struct zip_item){.name = "l", .content = large, .size_lie = 1}, -ERR_FORMAT, why);
	check_item_fails(&(struct zip_item){.name = "l", .content = large, .size_lie = -1},
		-ERR_FORMAT, why);
}

static void check_flipped(struct text *zip, size_t at)
{
	struct box b;

	zip->s[at] ^= 0x10;
	box_open(&b);
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, zip));
	box_close(&b);
	zip->s[at] ^= 0x10;
}

TEST(zip_flipped_bit_anywhere_in_the_data_is_an_error)
{
	_free_ char *small = make_text(200), *large = make_text(700000);
	struct zip z = {0};
	struct text zip;

	zip_add(&z, &(struct zip_item){.name = "s", .content = small});
	zip = zip_build(&z, NULL);
	for (size_t at = 31; at < 31 + 100; at++)
		check_flipped(&zip, at);
	text_done(&zip);
	zip_add(&z, &(struct zip_item){.name = "l", .content = large});
	zip = zip_build(&z, NULL);
	for (size_t at = 31; at < 250000; at += 25013)
		check_flipped(&zip, at);
	text_done(&zip);
}

TEST(zip_that_is_encrypted_or_compressed_otherwise_is_said_to_be_so)
{
	check_item_fails(&(struct zip_item){.name = "x", .content = "c", .flags = 1},
		-ERR_UNSUPPORTED, "'x' is encrypted");
	check_item_fails(&(struct zip_item){.name = "x", .content = "c", .method = 98},
		-ERR_UNSUPPORTED, "method 98 (PPMd)");
	check_item_fails(&(struct zip_item){.name = "x", .content = "c", .method = 77},
		-ERR_UNSUPPORTED, "method 77 (unknown)");
}

TEST(zip_of_several_disks_is_said_to_be_so)
{
	struct zip z = {0};

	zip_add(&z, &(struct zip_item){.name = "x", .content = "c"});
	check_zip_fails(zip_build(&z, &(struct zip_tail){.disk = 3}), -ERR_UNSUPPORTED,
		"one part of several");
}

TEST(zip_directory_of_another_length_than_said_is_an_error)
{
	struct zip z = {0};

	zip_add(&z, &(struct zip_item){.name = "x", .content = "c"});
	check_zip_fails(zip_build(&z, &(struct zip_tail){.count_lie = 1}), -ERR_FORMAT,
		"says it has 2 entries but its directory lists 1");
}

TEST(zip_devices_and_pipes_are_refused)
{
	check_item_fails(&(struct zip_item){.name = "x", .mode = S_IFIFO | 0644}, -ERR_REFUSED,
		"'x' is a device, a pipe or a socket");
}

TEST(zip_directory_entry_with_content_is_an_error)
{
	check_item_fails(&(struct zip_item){.name = "x/", .content = "c"}, -ERR_FORMAT,
		"'x/' is a directory, yet it has content");
}

TEST(zip_link_target_with_a_nul_or_of_absurd_length_is_refused)
{
	_free_ char *large = make_text(100000);

	check_item_fails(&(struct zip_item){.name = "x",
				 .content = "a\0b",
				 .len = 3,
				 .stored = true,
				 .mode = S_IFLNK | 0777},
		-ERR_REFUSED, "holds a NUL byte");
	check_item_fails(&(struct zip_item){.name = "x", .content = large, .mode = S_IFLNK | 0777},
		-ERR_REFUSED, "is too long");
}

TEST(zip_entries_that_leave_the_tree_are_refused)
{
	check_item_fails(&(struct zip_item){.name = "../x", .content = "c"}, -ERR_REFUSED, "../x");
	check_item_fails(&(struct zip_item){.name = "/x", .content = "c"}, -ERR_REFUSED, "/x");
	check_item_fails(
		&(struct zip_item){
			.name = "x", .content = "../y", .stored = true, .mode = S_IFLNK | 0777},
		-ERR_REFUSED, "x");
}

TEST(zip_more_than_the_disk_can_hold_is_refused_before_anything_is_written)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "c"});
	zip_add(&z, &(struct zip_item){
			    .name = "b", .content = "c", .zip64 = true, .listed_first = true});
	/* The 64-bit size in the record listed first: 46 bytes, name, id and length come before. */
	memset(z.directory.s + 46 + 1 + 4, 0x7f, 7);
	zip = zip_build(&z, NULL);
	box_open(&b);
	assert_int_equal(-ERR_SPACE, box_unpack(&b, &zip));
	box_assert_absent(&b, "a");
	close_all(&b, &zip);
}
