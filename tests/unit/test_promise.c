/* SPDX-License-Identifier: MIT */
/* What a name promises, and what is said when the content does not keep it. */
#include "../../agent/unpack/unpack_private.h"
#include "defer.h"
#include "test.h"
#include "unpack_fixture.h"
#include "zip_builder.h"
#include <stdio.h>
#include <string.h>

static struct promise of(const char *name)
{
	struct promise p = {0};

	promise_add_name(&p, name);
	return p;
}

TEST(promise_of_an_archive_is_made_by_all_endings_that_tools_use)
{
	static const char *const names[] = {"x.tar", "x.tar.gz", "x.tar.xz", "x.tar.zst",
		"x.tar.bz2", "x.tar.lz4", "x.tar.Z", "x.tar.lzma", "x.tar.lz", "x.tgz", "x.tbz",
		"x.tbz2", "x.txz", "x.tzst", "x.tlz4", "x.zip", "x.7z", "x.cpio", "x.cpio.gz",
		"x.rar", "X.ZIP", "x.Tar.GZ"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct promise p = of(names[i]);

		assert_int_equal(PROMISE_ARCHIVE, p.kind);
		assert_false(p.is_part);
	}
}

TEST(promise_of_a_compression_is_made_by_its_ending)
{
	static const char *const names[] = {"x.csv.gz", "x.gz", "x.gzip", "x.xz", "x.zst", "x.bz2",
		"x.lz4", "x.lzma", "x.Z", "x.lz", "x.zip.gz"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(PROMISE_COMPRESSION, of(names[i]).kind);
}

TEST(promise_is_not_made_by_other_endings)
{
	static const char *const names[] = {"x", "x.csv", "x.jar", "x.whl", "x.npz", "x.docx",
		"zip", ".zip", "tar.gz.md5", "x.tar.gz.asc", "x.tar.sha256", "x.zip.txt", "x.z",
		"x.targz", "part.001", "x.aa", "x.gz.json", "x.tar.md"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(PROMISE_NOTHING, of(names[i]).kind);
}

TEST(promise_of_a_part_is_known_by_what_splitters_append)
{
	static const char *const names[] = {"x.tar.gz.aa", "x.tar.gz.part-ab", "x.tar.partaa",
		"x.zip.001", "x.7z.002", "x.z01", "x.tar.gz.part1", "x.tgz.part_03", "x.tar-aa",
		"x.csv.gz.00", "x.r00", "x.tar.gz.aab"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct promise p = of(names[i]);

		assert_int_not_equal(PROMISE_NOTHING, p.kind);
		assert_true(p.is_part);
	}
}

static struct promise of_input(const char *url, const char *disposition, const char *media_type)
{
	struct said said = {0};
	const struct unpack_input input = {.url = url, .said = &said};

	snprintf(said.disposition, sizeof(said.disposition), "%s", disposition);
	snprintf(said.media_type, sizeof(said.media_type), "%s", media_type);
	return promise_of(&input);
}

TEST(promise_may_be_made_by_a_parameter_or_by_the_server)
{
	assert_int_equal(PROMISE_ARCHIVE, of_input("https://h/get?file=train.tar.gz", "", "").kind);
	assert_int_equal(
		PROMISE_ARCHIVE, of_input("https://h/get.php?a=1&f=a%2Fb.zip", "", "").kind);
	assert_int_equal(PROMISE_NOTHING, of_input("https://h/x.csv?from=b.zip", "", "").kind);
	assert_int_equal(PROMISE_ARCHIVE,
		of_input("https://h/1", "attachment; filename=\"x.zip\"", "").kind);
	assert_int_equal(PROMISE_ARCHIVE,
		of_input("https://h/1", "attachment; filename*=UTF-8''x%20y.tgz", "").kind);
	assert_int_equal(
		PROMISE_COMPRESSION, of_input("https://h/1", "inline;filename=x.csv.gz", "").kind);
	assert_int_equal(PROMISE_NOTHING, of_input("https://h/1", "attachment", "").kind);
	assert_int_equal(PROMISE_ARCHIVE, of_input("/data/x.zip", "", "").kind);
	assert_int_equal(PROMISE_ARCHIVE, of_input("https://h/x.zip?X-Amz-Date=1#f", "", "").kind);
}

struct broken {
	const char *url, *content, *message;
	size_t len; /* 0: a string's */
};

static void check_broken(const struct broken *x)
{
	struct text content = {0};
	struct box b;

	text_add_bytes(&content, x->content, x->len > 0 ? x->len : strlen(x->content));
	box_open(&b);
	b.url = x->url;
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, &content));
	box_assert_error(&b, -ERR_FORMAT, x->message);
	box_assert_error(&b, -ERR_FORMAT, "--no-extract");
	box_assert_absent(&b, "single");
	box_close(&b);
	text_done(&content);
}

TEST(promise_that_is_broken_says_what_the_content_is)
{
	static const struct broken cases[] = {
		{"https://h/x.zip", "<!DOCTYPE html>\n<html><head>\n<title>\n Sign  in\n</title>",
			"an HTML page ('Sign in')", 0},
		{"https://h/x.tar.gz",
			"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Access "
			"Denied</Message></Error>",
			"an XML error (AccessDenied: Access Denied)", 0},
		{"https://h/x.tgz", "{\"error\": {\"code\": 404, \"message\": \"No \\\"x\\\"\"}}",
			"JSON ('No \\\"x\\\"')", 0},
		{"https://h/x.7z", "{\"error\":\"gone\"}", "JSON ('gone')", 0},
		{"https://h/x.tar", "Not Found\nat all", "text that begins with 'Not Found'", 0},
		{"https://h/x.cpio", "%PDF-1.7\n", "a PDF document", 0},
		{"https://h/x.zip", "\x89PNG\r\n\x1a\n", "a PNG image", 0},
		{"https://h/x.zip", "Rar!\x1a\x07\x01", "a RAR archive", 0},
		{"https://h/x.rar", "Rar!\x1a\x07\x01", "a RAR archive", 0},
		{"https://h/x.tar.Z", "\x1f\x9d\x90", "compress (.Z)", 0},
		{"https://h/x.tar.lz", "LZIP\1\x0c", "lzip", 0},
		{"https://h/x.csv.lzma", "\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff", ".lzma",
			13},
		{"https://h/x.csv.gz", "a,b\n1,2\n", "decompressed it already", 0},
		{"https://h/x.zip", "\1\2\3\0\1\2\3\0", "of a kind that is not known", 8},
		{"https://h/x.tar.gz.ab", "\1\2\3\0\1\2\3\0", "one part of a split file", 8},
		{"https://h/x.z02", "\1\2\3\0\1\2\3\0", "one part of a split file", 8},
		{"https://h/x.csv",
			"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize "
			"123456789\n",
			"a Git LFS pointer, not the file of 123 MB", 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		check_broken(&cases[i]);
}

TEST(promise_of_an_archive_is_broken_by_nothing_at_all)
{
	struct text nothing = {0};
	struct box b;

	text_add_bytes(&nothing, "", 0);
	box_open(&b);
	b.url = "https://h/x.tar.gz";
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, &nothing));
	box_assert_error(&b, -ERR_FORMAT, "is empty");
	box_close(&b);
	text_done(&nothing);
}

TEST(promise_of_an_archive_is_broken_by_a_compressed_page)
{
	struct text page = {0};
	struct box b;

	text_add(&page, "<html><title>Oops</title>");
	box_open(&b);
	b.url = "https://h/x.tar.gz";
	b.compression = "gzip";
	assert_int_equal(-ERR_FORMAT, box_unpack(&b, &page));
	box_assert_error(&b, -ERR_FORMAT, "what is compressed in it is an HTML page ('Oops')");
	box_close(&b);
	text_done(&page);
}

/* The content is stored as one file. */
static void check_stored(struct box *b, const char *bytes)
{
	struct text content = {0};

	text_add(&content, bytes);
	assert_int_equal(0, box_unpack(b, &content));
	box_assert_content(b, "single", bytes);
	box_close(b);
	text_done(&content);
}

TEST(promise_does_not_matter_without_extraction)
{
	struct box b;

	box_open(&b);
	b.url = "https://h/x.zip";
	b.extract = false;
	check_stored(&b, "<html>");
}

TEST(promise_of_a_compression_is_kept_by_what_was_compressed)
{
	struct box b;

	box_open(&b);
	b.url = "https://h/x.csv.gz";
	b.compression = "zstd";
	check_stored(&b, "a,b\n");
}

TEST(promise_of_another_archive_is_kept_by_any)
{
	struct zip z = {0};
	struct text zip;
	struct box b;

	zip_add(&z, &(struct zip_item){.name = "a", .content = "content"});
	zip = zip_build(&z, NULL);
	box_open(&b);
	b.url = "https://h/x.tar.gz";
	assert_int_equal(0, box_unpack(&b, &zip));
	box_assert_content(&b, "a", "content");
	box_close(&b);
	text_done(&zip);
}

TEST(promise_of_a_tar_is_kept_by_an_end_marker_alone)
{
	struct text zeros = {.s = zalloc(1024), .len = 1024};
	struct box b;

	box_open(&b);
	b.url = "https://h/x.tgz";
	b.compression = "gzip";
	b.has_object = false;
	assert_int_equal(0, box_unpack(&b, &zeros));
	assert_string_equal("tar", b.format);
	box_assert_absent(&b, "single");
	box_close(&b);
	text_done(&zeros);
}

TEST(promise_of_a_part_that_is_cut_says_so)
{
	struct text cut = {0};
	struct box b;

	text_add_bytes(&cut, "PK\3\4\24\0\0\0", 8);
	box_open(&b);
	b.url = "https://h/x.zip.001";
	assert_int_equal(-ERR_TRUNCATED, box_unpack(&b, &cut));
	box_assert_error(
		&b, -ERR_TRUNCATED, "name all parts in their order, as a list with join: true");
	box_close(&b);
	text_done(&cut);
}

TEST(single_file_that_the_selection_leaves_out_is_an_error)
{
	static const char *const include[] = {"*.csv", NULL}, *const exclude[] = {"sing*", NULL};
	static const struct selection none[] = {
		{.include = include}, {.exclude = exclude}, {.strip_components = 1}};

	for (size_t i = 0; i < ARRAY_LEN(none); i++) {
		struct text content = {0};
		struct box b;

		text_add(&content, "content");
		box_open(&b);
		b.selection = none[i];
		assert_int_equal(-ERR_CONFIG, box_unpack(&b, &content));
		box_assert_error(&b, -ERR_CONFIG, "it is one file, 'single'");
		box_assert_absent(&b, "single");
		box_close(&b);
		text_done(&content);
	}
}
