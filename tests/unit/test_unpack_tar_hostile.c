/* SPDX-License-Identifier: MIT */
/* Tars that are damaged, cut, or hold what must not be created. */
#include "defer.h"
#include "log.h"
#include "tar_builder.h"
#include "test.h"
#include "unpack_fixture.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

TEST(tar_hard_link_to_an_entry_that_is_left_out_is_refused_by_name)
{
	static const char *const exclude[] = {"a", NULL};
	struct text tar = {0};
	struct box b;

	tar_add(&tar, '0', "a", NULL, "shared");
	tar_add(&tar, '1', "b", "a", NULL);
	tar_end(&tar);
	box_open(&b);
	b.selection.exclude = exclude;
	assert_int_equal(-ERR_REFUSED, box_unpack(&b, &tar));
	box_assert_error(&b, -ERR_REFUSED, "'b' is a hard link to 'a', which is left out");
	box_close(&b);
	text_done(&tar);
}

static void check_refused(char type, const char *what)
{
	static const char *const exclude[] = {"dev/bad", NULL};
	struct text tar = {0};
	struct box b;

	tar_add(&tar, '0', "good", NULL, "x");
	tar_add(&tar, type, "dev/bad", NULL, NULL);
	tar_end(&tar);
	box_open(&b);
	assert_int_equal(-ERR_REFUSED, box_unpack(&b, &tar));
	box_assert_error(&b, -ERR_REFUSED, "'dev/bad'");
	box_assert_error(&b, -ERR_REFUSED, what);
	box_assert_absent(&b, "dev/bad");
	box_close(&b);

	box_open(&b);
	b.selection.exclude = exclude;
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_content(&b, "good", "x");
	box_assert_absent(&b, "dev");
	box_close(&b);
	text_done(&tar);
}

TEST(tar_devices_and_pipes_are_refused_unless_excluded)
{
	check_refused('3', "a character device");
	check_refused('4', "a block device");
	check_refused('6', "a named pipe");
}

/* Cut anywhere, a tar is an error, or its end fell between two entries: but never half a file. */
TEST(tar_cut_at_any_byte_never_leaves_a_wrong_file)
{
	struct text tar = {0}, cut;

	log_setup(LOG_ERROR, LOG_TEXT, 2);
	tar_add(&tar, '0', "one", NULL, "first content");
	tar_add_pax(&tar, 'x', "12 path=two\n");
	tar_add(&tar, '0', "short", NULL, "second content");
	tar_end(&tar);
	for (size_t len = 512; len <= tar.len; len++) {
		struct box b;

		box_open(&b);
		cut = (struct text){.s = tar.s, .len = len};
		if (box_unpack(&b, &cut) == 0) {
			box_assert_content(&b, "one", "first content");
			if (faccessat(b.root_fd, "two", F_OK, 0) == 0)
				box_assert_content(&b, "two", "second content");
			else
				assert_int_equal(1024, len);
		} else {
			assert_int_equal(-ERR_TRUNCATED, b.err.code);
		}
		box_close(&b);
	}
	log_setup(LOG_INFO, LOG_TEXT, 2);
	text_done(&tar);
}

TEST(tar_cut_in_a_file_names_it)
{
	struct text tar = {0};
	struct box b;

	tar_add(&tar, '0', "one", NULL, "first");
	tar_add(&tar, '0', "two", NULL, "second");
	tar.len -= 508;
	box_open(&b);
	assert_int_equal(-ERR_TRUNCATED, box_unpack(&b, &tar));
	box_assert_error(&b, -ERR_TRUNCATED, "'two'");
	box_assert_absent(&b, "two");
	box_close(&b);
	text_done(&tar);
}

TEST(tar_bytes_after_the_end_that_are_no_tar_are_an_error)
{
	struct text tar = {0};
	struct box b;

	tar_add(&tar, '0', "one", NULL, "first");
	tar_end(&tar);
	for (int i = 0; i < 5000; i++)
		text_add(&tar, "junk");
	box_open(&b);
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, &tar));
	box_assert_error(&b, -ERR_FORMAT, "follows the end of the tar archive, at byte 2048, is ");
	box_close(&b);
	text_done(&tar);
}

/* Where two blocks in the middle became zeros, the archive seems to end there. */
TEST(tar_whose_middle_was_lost_is_an_error)
{
	struct text tar = {0};
	struct box b;

	for (int i = 0; i < 9; i++)
		tar_add(&tar, '0', "name", NULL, "some content");
	tar_end(&tar);
	memset(tar.s + 2048, 0, 1024);
	memset(tar.s + 3072, 0, 512);
	box_open(&b);
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, &tar));
	box_close(&b);
	text_done(&tar);
}

static void sum_header(char *header)
{
	unsigned sum = 0;

	memset(header + 148, ' ', 8);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)header[i];
	snprintf(header + 148, 8, "%06o", sum);
}

/* The checksum is right, and a field is not: libarchive opens no archive that begins so. */
TEST(tar_with_any_byte_of_its_first_header_wrong_is_read_or_an_error)
{
	static const char wrong[] = {'\0', '-', 'x', '9', '\x80', '\xff'};

	log_setup(LOG_ERROR, LOG_TEXT, 2);
	for (size_t at = 0; at < 512; at++)
		for (size_t i = 0; i < sizeof(wrong); i++) {
			struct text tar = {0};
			struct box b;

			tar_add(&tar, '0', "one", NULL, "first");
			tar_end(&tar);
			tar.s[at] = wrong[i];
			if (at < 148 || at >= 156)
				sum_header(tar.s);
			box_open(&b);
			if (box_unpack(&b, &tar) < 0)
				assert_true(b.err.code < 0 && b.err.msg[0] != '\0');
			box_close(&b);
			text_done(&tar);
		}
	log_setup(LOG_INFO, LOG_TEXT, 2);
}

/* A whole archive, which the builder would pad to blocks of all that is there. */
static void add_one(struct text *to, const char *name, const char *content)
{
	struct text tar = {0};

	tar_add(&tar, '0', name, NULL, content);
	tar_end(&tar);
	text_add_bytes(to, tar.s, tar.len);
	text_done(&tar);
}

static void check_joined(const struct text *tar, size_t slice_bytes)
{
	struct box b;

	box_open(&b);
	b.slice_bytes = slice_bytes;
	if (box_unpack(&b, tar) < 0)
		fail_msg("slices of %zu: %s", slice_bytes, b.err.msg);
	assert_string_equal("tar", b.format);
	box_assert_content(&b, "one", "first");
	box_assert_content(&b, "two", "second");
	box_assert_content(&b, "three", "third");
	assert_true(b.drained);
	box_close(&b);
}

/* Not all writers pad to blocks, and a lone block of zeros is an end, too. */
TEST(tars_that_were_joined_are_all_read_whatever_zeros_are_between_them)
{
	static const size_t gaps[] = {0, 1, 512, 700, 9216, 100000};
	static const char zeros[100000];

	for (size_t i = 0; i < ARRAY_LEN(gaps); i++) {
		struct text tar = {0};

		add_one(&tar, "one", "first");
		text_add_bytes(&tar, zeros, gaps[i]);
		add_one(&tar, "two", "second");
		tar.len -= 512;
		add_one(&tar, "three", "third");
		check_joined(&tar, 100000);
		check_joined(&tar, 1000);
		check_joined(&tar, 513);
		check_joined(&tar, 100);
		text_done(&tar);
	}
}

TEST(tars_behind_an_empty_one_are_read_where_the_name_says_tar)
{
	struct text tar = {0};
	struct box b;

	tar_end(&tar);
	add_one(&tar, "one", "first");
	box_open(&b);
	b.file_name = "joined.tar";
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_content(&b, "one", "first");
	box_close(&b);
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_bytes(&b, "single", tar.s, tar.len);
	box_close(&b);
	text_done(&tar);
}

static void check_empty(const char *name, size_t len, bool compressed, const char *format)
{
	static char zeros[10240];
	struct text nothing = {.s = zeros, .len = len};
	struct box b;

	box_open(&b);
	b.file_name = name;
	b.has_object = !compressed;
	assert_int_equal(0, box_unpack(&b, &nothing));
	if (strcmp(format, b.format) != 0)
		fail_msg("%s of %zu bytes is %s", name, len, b.format);
	if (strcmp(format, "tar") == 0)
		box_assert_absent(&b, name);
	else
		box_assert_bytes(&b, name, zeros, len);
	box_close(&b);
}

TEST(tar_of_nothing_is_an_empty_directory_where_the_name_says_tar)
{
	static const size_t lengths[] = {1, 512, 1024, 10240};

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		check_empty("x.tar", lengths[i], false, "tar");
		check_empty("X.TAR", lengths[i], true, "tar");
		check_empty("x.tgz", lengths[i], true, "tar");
		check_empty("x.tzst", lengths[i], true, "tar");
		check_empty("x.img", lengths[i], false, "file");
		check_empty("tar", lengths[i], false, "file");
		check_empty("x.tgz", lengths[i], false, "tar");
	}
}

TEST(tar_links_whose_target_is_in_pax_alone_are_links_of_their_kind)
{
	struct text tar = {0};
	struct box b;

	tar_add(&tar, '0', "file", NULL, "x");
	tar_add_pax(&tar, 'x', "17 linkpath=file\n");
	tar_add(&tar, '2', "soft", NULL, NULL);
	tar_add_pax(&tar, 'x', "17 linkpath=file\n");
	tar_add(&tar, '1', "hard", NULL, NULL);
	tar_end(&tar);
	box_open(&b);
	if (box_unpack(&b, &tar) < 0)
		fail_msg("%s", b.err.msg);
	box_assert_link(&b, "soft", "file");
	assert_int_equal(box_stat(&b, "file").st_ino, box_stat(&b, "hard").st_ino);
	box_close(&b);
	text_done(&tar);
}

static void check_volume(struct text *tar)
{
	struct box b;

	tar_end(tar);
	box_open(&b);
	assert_int_equal(-ERR_UNSUPPORTED, box_unpack(&b, tar));
	box_assert_error(&b, -ERR_UNSUPPORTED, "a later volume of a multi-volume tar archive");
	box_close(&b);
	text_done(tar);
}

TEST(tar_volumes_that_begin_with_the_rest_of_a_file_are_told)
{
	struct text tar = {0};

	tar_add(&tar, 'M', "big", NULL, "rest");
	check_volume(&tar);
	tar = (struct text){0};
	tar_add(&tar, 'V', "label Volume 2", NULL, NULL);
	tar_add(&tar, 'M', "big", NULL, "rest");
	check_volume(&tar);
	tar = (struct text){0};
	tar_add_pax(&tar, 'g', "27 GNU.volume.filename=big\n");
	tar_add(&tar, '0', "GNUFileParts/big.2", NULL, "rest");
	check_volume(&tar);
}

TEST(tar_damaged_header_is_an_error_that_names_the_entry_before)
{
	struct text tar = {0};
	struct box b;

	tar_add(&tar, '0', "one", NULL, "first");
	tar_add(&tar, '0', "two", NULL, "second");
	tar_end(&tar);
	tar.s[1024] ^= 1;
	box_open(&b);
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, &tar));
	box_assert_error(&b, -ERR_FORMAT, "'one'");
	box_close(&b);
	text_done(&tar);
}

TEST(tar_pax_header_that_cannot_be_parsed_is_an_error)
{
	struct text tar = {0};
	struct box b;

	tar_add_pax(&tar, 'x', "99 path=lies about its length\n");
	tar_add(&tar, '0', "short", NULL, "x");
	tar_end(&tar);
	box_open(&b);
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, &tar));
	box_assert_absent(&b, "short");
	box_close(&b);
	text_done(&tar);
}

TEST(tar_pax_size_that_overflows_is_an_error)
{
	struct text tar = {0};
	struct box b;

	tar_add_pax(&tar, 'x', "29 size=99999999999999999999\n");
	tar_add(&tar, '0', "short", NULL, "x");
	tar_end(&tar);
	box_open(&b);
	assert_true(box_unpack(&b, &tar) < 0);
	box_close(&b);
	text_done(&tar);
}
