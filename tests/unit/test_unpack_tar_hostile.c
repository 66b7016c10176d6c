/* SPDX-License-Identifier: MIT */
/* Tars that are damaged, cut, or hold what must not be created. */
#include "log.h"
#include "tar_builder.h"
#include "test.h"
#include "unpack_fixture.h"
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

TEST(tar_bytes_after_the_end_are_read_and_ignored)
{
	struct text tar = {0};
	struct box b;

	log_setup(LOG_ERROR, LOG_TEXT, 2);
	tar_add(&tar, '0', "one", NULL, "first");
	tar_end(&tar);
	for (int i = 0; i < 5000; i++)
		text_add(&tar, "junk");
	box_open(&b);
	assert_int_equal(0, box_unpack(&b, &tar));
	box_assert_content(&b, "one", "first");
	assert_true(b.drained);
	box_close(&b);
	log_setup(LOG_INFO, LOG_TEXT, 2);
	text_done(&tar);
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
