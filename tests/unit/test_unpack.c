/* SPDX-License-Identifier: MIT */
#include "defer.h"
#include "log.h"
#include "reader.h"
#include "tar_builder.h"
#include "test.h"
#include "unpack_fixture.h"
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>

static void unpack_as(struct box *b, const struct text *archive, const char *format)
{
	if (box_unpack(b, archive) < 0)
		fail_msg("%s", b->err.msg);
	assert_string_equal(format, b->format);
	assert_true(b->drained);
}

TEST(unpack_stores_anything_else_as_one_file)
{
	struct text plain = {.s = "just,some,values\n", .len = 17};
	struct box b;
	struct stat st;

	box_open(&b);
	b.mtime = 1234567890;
	b.slice_bytes = 5;
	unpack_as(&b, &plain, "file");
	box_assert_content(&b, "single", "just,some,values\n");
	st = box_stat(&b, "single");
	assert_int_equal(S_IFREG | 0644, st.st_mode);
	assert_int_equal(1234567890, st.st_mtim.tv_sec);
	box_close(&b);
}

TEST(unpack_stores_an_empty_stream_as_an_empty_file)
{
	struct text nothing = {0};
	struct box b;

	box_open(&b);
	unpack_as(&b, &nothing, "file");
	box_assert_content(&b, "single", "");
	box_close(&b);
}

TEST(unpack_stores_an_archive_as_one_file_when_told_to)
{
	struct text tar = {0};
	struct box b;

	tar_add(&tar, '0', "inside", NULL, "x");
	tar_end(&tar);
	box_open(&b);
	b.extract = false;
	unpack_as(&b, &tar, "file");
	box_assert_bytes(&b, "single", tar.s, tar.len);
	box_assert_absent(&b, "inside");
	box_close(&b);
	text_done(&tar);
}

TEST(unpack_stores_a_zip_that_was_compressed_again_as_one_file)
{
	struct text zip = {.s = "PK\3\4 whatever follows, it is one file", .len = 38};
	struct box b;

	box_open(&b);
	b.has_object = false;
	unpack_as(&b, &zip, "file");
	box_assert_bytes(&b, "single", zip.s, zip.len);
	box_close(&b);
}

TEST(unpack_is_not_fooled_by_what_only_begins_like_an_archive)
{
	static const char *const texts[] = {"070707 is a number", "7z\xbc\xaf", "PK\5\6", "\xc7q"};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct text plain = {.s = (char *)texts[i], .len = strlen(texts[i])};
		struct box b;

		box_open(&b);
		unpack_as(&b, &plain, "file");
		box_assert_content(&b, "single", texts[i]);
		box_close(&b);
	}
}

static int fail_next(struct reader *r, struct slice *ret, struct error *err)
{
	static int calls;
	static const char header[512] = "x";

	(void)r;
	if (calls++ % 2 == 0) {
		*ret = (struct slice){.data = (const uint8_t *)header, .len = sizeof(header)};
		return 1;
	}
	return error_set(err, -ERR_CHANGED, "it was replaced");
}

static void close_nothing(struct reader *r)
{
	(void)r;
}

TEST(unpack_passes_on_the_readers_error_and_leaves_no_file)
{
	static const struct reader_ops ops = {.next = fail_next, .close = close_nothing};
	struct reader in;
	struct unpack_input input = {
		.in = &in, .source = "source", .file_name = "single", .extract = false};
	struct box b;

	reader_init(&in, &ops, "source");
	box_open(&b);
	assert_int_equal(-ERR_CHANGED, unpack(&b.env, &input, &b.format, &b.err));
	box_assert_error(&b, -ERR_CHANGED, "it was replaced");
	box_assert_absent(&b, "single");
	box_close(&b);
}

static void check_cpio(int (*set_format)(struct archive *))
{
	struct text cpio = {0};
	struct archive *a = archive_begin(&cpio, set_format);
	struct box b;

	archive_add(a, AE_IFDIR, "d", NULL, NULL);
	archive_add(a, AE_IFREG, "d/file", NULL, "content");
	archive_add(a, AE_IFLNK, "d/link", "file", NULL);
	archive_end(a);
	box_open(&b);
	b.slice_bytes = 64;
	unpack_as(&b, &cpio, "cpio");
	box_assert_content(&b, "d/file", "content");
	box_assert_link(&b, "d/link", "file");
	assert_int_equal(S_IFREG | 0640, box_stat(&b, "d/file").st_mode);
	assert_int_equal(BUILDER_MTIME, box_stat(&b, "d/file").st_mtim.tv_sec);
	box_close(&b);
	text_done(&cpio);
}

TEST(cpio_of_svr4_is_unpacked)
{
	check_cpio(archive_write_set_format_cpio_newc);
}

TEST(cpio_of_posix_is_unpacked)
{
	check_cpio(archive_write_set_format_cpio_odc);
}

TEST(cpio_of_the_pdp11_is_unpacked)
{
	check_cpio(archive_write_set_format_cpio_bin);
}

/* cpio stores the content with the last of the names. */
TEST(cpio_hard_links_share_the_content_that_comes_last)
{
	static const char make[] =
		"cd \"$(mktemp -d)\" && printf shared > a && ln a b && ln a c && "
		"printf 'a\\nb\\nc\\n' | cpio --quiet -o -H newc && "
		"rm a b c && rmdir \"$PWD\"";
	struct text cpio = {0};
	struct box b;

	run_tool(&cpio, make);
	box_open(&b);
	unpack_as(&b, &cpio, "cpio");
	box_assert_content(&b, "a", "shared");
	box_assert_content(&b, "c", "shared");
	assert_int_equal(3, box_stat(&b, "b").st_nlink);
	box_close(&b);
	text_done(&cpio);
}

TEST(cpio_that_is_cut_is_an_error)
{
	struct text cpio = {0};
	struct archive *a = archive_begin(&cpio, archive_write_set_format_cpio_newc);

	archive_add(a, AE_IFREG, "file", NULL, "some content");
	archive_end(a);
	/* What follows the trailer's name is padding. */
	cpio.len = (size_t)((char *)memmem(cpio.s, cpio.len, "TRAILER!!!", 10) + 10 - cpio.s);
	while (--cpio.len > 130) {
		struct box b;

		box_open(&b);
		assert_true(box_unpack(&b, &cpio) < 0);
		box_close(&b);
	}
	text_done(&cpio);
}

static void make_7z(struct text *to, const char *large)
{
	struct archive *a = archive_begin(to, archive_write_set_format_7zip);

	archive_add(a, AE_IFDIR, "d", NULL, NULL);
	archive_add(a, AE_IFREG, "d/file", NULL, "content");
	archive_add(a, AE_IFREG, "d/large", NULL, large);
	archive_add(a, AE_IFREG, "d/empty", NULL, NULL);
	archive_add(a, AE_IFLNK, "d/link", "file", NULL);
	archive_end(a);
}

/* Bytes that do not compress. */
static char *make_noise(size_t len)
{
	char *noise = zalloc(len + 1);
	unsigned x = 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1103515245 + 12345;
		noise[i] = (char)(1 + (x >> 16) % 255);
	}
	return noise;
}

static void check_7z(bool seekable, size_t slice_bytes)
{
	_free_ char *large = make_noise(300000);
	struct text archive = {0};
	struct box b;

	make_7z(&archive, large);
	box_open(&b);
	b.seekable = seekable;
	b.slice_bytes = slice_bytes;
	unpack_as(&b, &archive, "7z");
	box_assert_content(&b, "d/file", "content");
	box_assert_content(&b, "d/large", large);
	box_assert_content(&b, "d/empty", "");
	box_assert_link(&b, "d/link", "file");
	assert_int_equal(S_IFREG | 0640, box_stat(&b, "d/file").st_mode);
	assert_int_equal(S_IFDIR | 0750, box_stat(&b, "d").st_mode);
	box_close(&b);
	text_done(&archive);
}

TEST(sevenzip_is_unpacked_from_ranges)
{
	check_7z(true, 100);
	check_7z(true, 70000);
	check_7z(true, 1000000);
}

TEST(sevenzip_is_stored_first_when_there_are_no_ranges)
{
	log_setup(LOG_WARN, LOG_TEXT, 2); /* it is said, but not here */
	check_7z(false, 1000);
	log_setup(LOG_INFO, LOG_TEXT, 2);
}

TEST(sevenzip_that_is_cut_is_an_error)
{
	struct text archive = {0};

	make_7z(&archive, "large");
	while (--archive.len > 32) {
		struct box b;

		box_open(&b);
		assert_true(box_unpack(&b, &archive) < 0);
		box_close(&b);
	}
	text_done(&archive);
}

TEST(sevenzip_files_without_a_mode_are_not_for_everyone_to_write)
{
	static const char make[] =
		"cd \"$(mktemp -d)\" && printf x > f && chmod 666 f && "
		"7z a -bso0 -bsp0 -mtm=on t.7z f && cat t.7z && rm f t.7z && rmdir \"$PWD\"";
	struct text archive = {0};
	struct box b;

	run_tool(&archive, make);
	box_open(&b);
	unpack_as(&b, &archive, "7z");
	assert_int_equal(S_IFREG | 0644, box_stat(&b, "f").st_mode);
	box_close(&b);
	text_done(&archive);
}

static void check_7z_command(const char *options, int code, const char *message)
{
	_free_ char *command = text_format("cd \"$(mktemp -d)\" && seq 9000 > f && "
					   "7z a -bso0 -bsp0 %s t.7z f && cat t.7z && rm f t.7z && "
					   "rmdir \"$PWD\"",
		options);
	struct text archive = {0};
	struct box b;

	run_tool(&archive, command);
	box_open(&b);
	assert_int_equal(code, box_unpack(&b, &archive));
	box_assert_error(&b, code, message);
	box_close(&b);
	text_done(&archive);
}

TEST(unpack_says_what_of_a_7z_is_not_supported)
{
	check_7z_command("-pxyz", -ERR_UNSUPPORTED, "is encrypted");
	check_7z_command("-pxyz -mhe=on", -ERR_UNSUPPORTED, "is encrypted");
	check_7z_command("-m0=Deflate64", -ERR_UNSUPPORTED, "uses Deflate64");
	check_7z_command("-m0=Delta:2 -m1=BCJ -m2=LZMA", -ERR_UNSUPPORTED, "more than one filter");
}

TEST(unpack_names_a_7z_of_standard_input_after_the_archive)
{
	struct text archive = {0};
	struct box b;

	run_tool(&archive, "cd \"$(mktemp -d)\" && echo words | 7z a -bso0 -bsp0 -si t.7z && "
			   "cat t.7z && rm t.7z && rmdir \"$PWD\"");
	box_open(&b);
	b.file_name = "mine.7z";
	unpack_as(&b, &archive, "7z");
	box_assert_content(&b, "mine", "words\n");
	box_close(&b);
	text_done(&archive);
}

TEST(unpack_refuses_a_7z_that_is_cut_or_followed_by_anything_but_zeros)
{
	static const char zeros[2000];
	struct text archive = {0};
	struct box b;

	make_7z(&archive, "large");
	text_add_bytes(&archive, zeros, sizeof(zeros));
	box_open(&b);
	unpack_as(&b, &archive, "7z");
	box_close(&b);
	text_add(&archive, "x");
	for (int seekable = 0; seekable < 2; seekable++) {
		box_open(&b);
		b.seekable = seekable;
		assert_int_equal(-ERR_FORMAT, box_unpack(&b, &archive));
		box_assert_error(&b, -ERR_FORMAT, "what follows the end of the 7z archive");
		box_close(&b);
	}
	archive.len = 100;
	box_open(&b);
	assert_int_equal(-ERR_TRUNCATED, box_unpack(&b, &archive));
	box_close(&b);
	text_done(&archive);
}

TEST(unpack_reads_joined_cpios_and_refuses_what_else_follows_one)
{
	struct text cpio = {0};
	struct box b;

	run_tool(&cpio,
		"cd \"$(mktemp -d)\" && echo 1 > a && echo 2 > b && (echo a | cpio -oH newc; "
		"head -c 100 /dev/zero; echo b | cpio -oH crc) 2>/dev/null && rm a b && rmdir "
		"\"$PWD\"");
	box_open(&b);
	unpack_as(&b, &cpio, "cpio");
	box_assert_content(&b, "a", "1\n");
	box_assert_content(&b, "b", "2\n");
	box_close(&b);
	text_add(&cpio, "junk");
	box_open(&b);
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, &cpio));
	box_close(&b);
	text_done(&cpio);
}
