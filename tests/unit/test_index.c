/* SPDX-License-Identifier: MIT */
#include "defer.h"
#include "index_builder.h"
#include "test.h"
#include <string.h>
#include <zstd.h>

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEAD   "stagerun-index\t1\n"
#define FRAMES HEAD "p\tpacks/a\nk\t0\t0\t10\t100\nk\t0\t10\t10\t50\n"

static struct index_entry file(const char *path, uint64_t size, uint32_t skip)
{
	return (struct index_entry){.type = INDEX_FILE,
		.mode = 0644,
		.mtime = {.tv_sec = 1700000000, .tv_nsec = 5},
		.size = size,
		.path = path,
		.sha256 = size > 0 ? DIGEST : NULL,
		.skip = skip};
}

static void add(struct index_writer *w, const struct index_entry *e, const char *object,
	const struct index_frame *frames, size_t n)
{
	struct error err = {0};

	assert_int_equal(0, index_writer_add(w, e, object, frames, n, &err));
}

/* The only part of what was written. */
static void finish(struct index_writer *w, struct made_parts *made, struct index_part *ret)
{
	struct error err = {0};

	assert_int_equal(0, index_writer_finish(w, &err));
	assert_int_equal(1, made->n);
	assert_int_equal(0, index_part_decode(made->v[0].bytes, made->v[0].len, ret, &err));
}

static int decode_text(const char *text, size_t len, struct error *err)
{
	struct index_part part = {0};
	size_t packed_len;
	_free_ void *packed = index_text_compress(text, len, &packed_len);
	int r = index_part_decode(packed, packed_len, &part, err);

	index_part_done(&part);
	return r;
}

static void refused(const char *text, const char *why)
{
	struct error err = {0};

	assert_int_equal(-ERR_FORMAT, decode_text(text, strlen(text), &err));
	if (strstr(err.msg, why) == NULL)
		fail_msg("'%s' is not in '%s'", why, err.msg);
}

static void accepted(const char *text)
{
	struct error err = {0};

	if (decode_text(text, strlen(text), &err) != 0)
		fail_msg("%s", err.msg);
}

TEST(index_gives_back_every_type_of_entry)
{
	struct made_parts made = {0};
	struct index_writer *w = index_writer_new(made_parts_add, &made);
	const struct index_frame frame = {.offset = 7, .length = 30, .raw = 100};
	struct index_entry e = {.type = INDEX_DIR, .mode = 0750, .path = "."};
	struct index_part part;

	e.mtime = (struct timespec){.tv_sec = -2, .tv_nsec = 999999999};
	add(w, &e, NULL, NULL, 0);
	e = (struct index_entry){
		.type = INDEX_SYMLINK, .mode = 0777, .path = "l", .target = "../x y"};
	add(w, &e, NULL, NULL, 0);
	e = file("f", 60, 40);
	e.sparse = true;
	add(w, &e, "packs/aa/b.tar.zst", &frame, 1);
	e.type = INDEX_HARDLINK;
	e.path = "h";
	e.target = "f";
	add(w, &e, "packs/aa/b.tar.zst", &frame, 1);
	e = (struct index_entry){.type = INDEX_REFERENCE,
		.mode = 0644,
		.size = 1ull << 40,
		.path = "x",
		.target = "data/\tkey",
		.etag = "\"abc\""};
	add(w, &e, NULL, NULL, 0);
	finish(w, &made, &part);

	assert_int_equal(5, part.n_entries);
	assert_int_equal(INDEX_DIR, part.entries[0].type);
	assert_int_equal(0750, part.entries[0].mode);
	assert_int_equal(-2, part.entries[0].mtime.tv_sec);
	assert_int_equal(999999999, part.entries[0].mtime.tv_nsec);
	assert_string_equal(".", part.entries[0].path);
	assert_string_equal("../x y", part.entries[1].target);
	assert_int_equal(60, part.entries[2].size);
	assert_int_equal(40, part.entries[2].skip);
	assert_int_equal(0, part.entries[2].frame);
	assert_true(part.entries[2].sparse);
	assert_string_equal(DIGEST, part.entries[2].sha256);
	assert_int_equal(INDEX_HARDLINK, part.entries[3].type);
	assert_string_equal("f", part.entries[3].target);
	assert_int_equal(0, part.entries[3].frame);
	assert_true(part.entries[4].size == 1ull << 40);
	assert_string_equal("\"abc\"", part.entries[4].etag);
	assert_string_equal("data/\tkey", part.entries[4].target);
	assert_int_equal(1, part.n_frames);
	assert_int_equal(7, part.frames[0].offset);
	assert_int_equal(30, part.frames[0].length);
	assert_int_equal(100, part.frames[0].raw);
	assert_string_equal("packs/aa/b.tar.zst", part.objects[part.frames[0].object]);
	index_part_done(&part);
	index_writer_free(w);
	made_parts_done(&made);
}

TEST(index_keeps_every_byte_of_a_name)
{
	char name[256], *to = name;
	struct made_parts made = {0};
	struct index_writer *w = index_writer_new(made_parts_add, &made);
	struct index_part part;
	struct index_entry e;

	for (int c = 1; c < 256; c++)
		if (c != '/')
			*to++ = (char)c;
	*to = '\0';
	e = file(name, 0, 0);
	add(w, &e, NULL, NULL, 0);
	e.type = INDEX_SYMLINK;
	e.target = name;
	e.path = "link";
	add(w, &e, NULL, NULL, 0);
	finish(w, &made, &part);
	assert_string_equal(name, part.entries[0].path);
	assert_string_equal(name, part.entries[1].target);
	assert_string_equal(name, made.v[0].first);
	assert_string_equal("link", made.v[0].last);
	index_part_done(&part);
	index_writer_free(w);
	made_parts_done(&made);
}

TEST(index_parts_are_cut_by_entries_and_each_stands_alone)
{
	struct made_parts made = {0};
	struct index_writer *w = index_writer_new(made_parts_add, &made);
	const struct index_frame frame = {.offset = 0, .length = 3, .raw = 100};
	struct error err = {0};
	uint64_t entries = 0;

	for (unsigned i = 0; i < 40000; i++) {
		char name[32];
		struct index_entry e;

		snprintf(name, sizeof(name), "%08u", i);
		e = file(name, 10, i % 90);
		add(w, &e, "packs/x", &frame, 1);
	}
	assert_int_equal(0, index_writer_finish(w, &err));
	assert_int_equal(3, made.n);
	for (size_t i = 0; i < made.n; i++) {
		struct index_part part;

		assert_int_equal(0, index_part_decode(made.v[i].bytes, made.v[i].len, &part, &err));
		assert_int_equal(made.v[i].entries, part.n_entries);
		assert_string_equal(made.v[i].first, part.entries[0].path);
		assert_string_equal(made.v[i].last, part.entries[part.n_entries - 1].path);
		assert_int_equal(1, part.n_frames);
		entries += part.n_entries;
		index_part_done(&part);
	}
	assert_int_equal(40000, entries);
	index_writer_free(w);
	made_parts_done(&made);
}

TEST(index_of_nothing_has_no_part)
{
	struct made_parts made = {0};
	struct index_writer *w = index_writer_new(made_parts_add, &made);
	struct error err = {0};

	assert_int_equal(0, index_writer_finish(w, &err));
	assert_int_equal(0, made.n);
	index_writer_free(w);
}

TEST(index_frames_of_an_entry_follow_each_other_whatever_was_named_before)
{
	struct made_parts made = {0};
	struct index_writer *w = index_writer_new(made_parts_add, &made);
	const struct index_frame a = {.offset = 0, .length = 5, .raw = 100},
				 b = {.offset = 5, .length = 5, .raw = 100},
				 c = {.offset = 10, .length = 5, .raw = 100};
	struct index_part part;
	struct index_entry e = file("1", 10, 0);

	add(w, &e, "p", (struct index_frame[]){a}, 1);
	add(w, &e, "p", (struct index_frame[]){c}, 1);
	add(w, &e, "q", (struct index_frame[]){a}, 1);
	e = file("2", 250, 50);
	add(w, &e, "p", (struct index_frame[]){a, b, c}, 3);
	add(w, &e, "p", (struct index_frame[]){a, b, c}, 3);
	finish(w, &made, &part);
	for (size_t i = 3; i < 5; i++) {
		const struct index_entry *got = &part.entries[i];

		for (size_t k = 0; k < 3; k++) {
			assert_int_equal(5 * k, part.frames[got->frame + k].offset);
			assert_string_equal("p", part.objects[part.frames[got->frame + k].object]);
		}
	}
	assert_int_equal(6, part.n_frames);
	assert_string_equal("q", part.objects[part.frames[part.entries[2].frame].object]);
	index_part_done(&part);
	index_writer_free(w);
	made_parts_done(&made);
}

TEST(index_writer_refuses_what_no_reader_would_take)
{
	struct made_parts made = {0};
	struct index_writer *w = index_writer_new(made_parts_add, &made);
	const struct index_frame frame = {.offset = 0, .length = 5, .raw = 100};
	struct index_entry e = file("../x", 0, 0);
	struct error err = {0};

	assert_int_equal(-ERR_UNSUPPORTED, index_writer_add(w, &e, NULL, NULL, 0, &err));
	e = file("x", 100, 1);
	assert_int_equal(-ERR_FORMAT, index_writer_add(w, &e, "p", &frame, 1, &err));
	e = (struct index_entry){.type = INDEX_SYMLINK, .path = "l"};
	assert_int_equal(-ERR_UNSUPPORTED, index_writer_add(w, &e, NULL, NULL, 0, &err));
	index_writer_free(w);
}

TEST(index_takes_well_formed_lines)
{
	accepted(HEAD);
	accepted(HEAD "d\t755\t-5.000000001\t.\nd\t0\t0.000000000\ta/b\n");
	accepted(FRAMES "f\t644\t0.000000000\t150\t" DIGEST "\t0\t0\t-\ta\n");
	accepted(FRAMES "f\t644\t0.000000000\t50\t-\t1\t0\ts\t...\n");
	accepted(HEAD "x\t644\t0.000000000\t50\t-\ta\t/key\n");
}

TEST(index_refuses_paths_that_leave_the_tree)
{
	static const char *const paths[] = {"/etc", "..", "../a", "a/..", "a/../b", "a//b", "a/",
		"./a", "", "a/.", "a\\x", "a\\"};

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		_free_ char *text = text_format(HEAD "d\t755\t0.000000000\t%s\n", paths[i]);
		_free_ char *link =
			text_format(HEAD "h\t755\t0.000000000\t0\t-\t-\t0\t-\ta\t%s\n", paths[i]);

		refused(text, "path");
		refused(link, "hard link");
	}
	refused(HEAD "h\t755\t0.000000000\t0\t-\t-\t0\t-\ta\t.\n", "hard link");
	refused(HEAD "f\t755\t0.000000000\t0\t-\t-\t0\t-\t.\n", "root");
	refused(HEAD "p\t../x\n", "key");
	refused(HEAD "p\ta b\n", "key");
}

TEST(index_refuses_names_longer_than_any_file_system_takes)
{
	struct text t = {0};
	char name[257];

	memset(name, 'n', 256);
	name[256] = '\0';
	text_addf(&t, HEAD "d\t755\t0.000000000\t%s\n", name);
	refused(t.s, "path");
	text_done(&t);
	text_add(&t, HEAD "d\t755\t0.000000000\ta");
	for (int i = 0; i < 2100; i++)
		text_add(&t, "/a");
	text_add(&t, "\n");
	refused(t.s, "path");
	text_done(&t);
}

TEST(index_refuses_frames_and_content_out_of_range)
{
	refused(HEAD "k\t0\t0\t10\t100\n", "object");
	refused(HEAD "p\ta\nk\t0\t0\t0\t100\n", "cannot be");
	refused(HEAD "p\ta\nk\t0\t0\t10\t0\n", "cannot be");
	refused(HEAD "p\ta\nk\t0\t0\t10\t67108865\n", "cannot be");
	refused(HEAD "p\ta\nk\t0\t9223372036854775807\t10\t10\n", "cannot be");
	refused(FRAMES "f\t644\t0.000000000\t1\t-\t2\t0\t-\ta\n", "frame");
	refused(FRAMES "f\t644\t0.000000000\t1\t-\t0\t100\t-\ta\n", "beyond");
	refused(HEAD "p\ta\nk\t0\t0\t10\t5\nf\t644\t0.000000000\t1\t-\t0\t9\t-\ta\n", "beyond");
	refused(FRAMES "f\t644\t0.000000000\t151\t-\t0\t0\t-\ta\n", "beyond");
	refused(FRAMES "f\t644\t0.000000000\t51\t-\t1\t0\t-\ta\n", "beyond");
	refused(FRAMES "f\t644\t0.000000000\t9223372036854775807\t-\t0\t1\t-\ta\n", "beyond");
	refused(FRAMES "f\t644\t0.000000000\t0\t-\t0\t0\t-\ta\n", "empty");
}

TEST(index_refuses_fields_that_are_not_as_they_should_be)
{
	refused("", "empty");
	refused("stagerun-index\t2\n", "no index of format 1");
	refused(HEAD "d\t755\t0.000000000\ta", "no end");
	refused(HEAD "d\t755\t0.000000000\n", "fields");
	refused(HEAD "d\t755\t0.000000000\ta\tb\n", "fields");
	refused(HEAD "d\t758\t0.000000000\ta\n", "mode");
	refused(HEAD "d\t10000\t0.000000000\ta\n", "mode");
	refused(HEAD "d\t\t0.000000000\ta\n", "mode");
	refused(HEAD "d\t755\t0\ta\n", "time");
	refused(HEAD "d\t755\t0.5\ta\n", "time");
	refused(HEAD "d\t755\t-.000000000\ta\n", "time");
	refused(HEAD "d\t755\t9223372036854775808.000000000\ta\n", "time");
	refused(HEAD "f\t644\t0.000000000\t-1\t-\t-\t0\t-\ta\n", "size");
	refused(HEAD "f\t644\t0.000000000\t0\tABC\t-\t0\t-\ta\n", "digest");
	refused(HEAD "f\t644\t0.000000000\t0\t-\t-\t0\tq\ta\n", "flags");
	refused(HEAD "l\t777\t0.000000000\ta\t\n", "link");
	refused(HEAD "z\n", "later format");
	refused(HEAD "dd\t755\t0.000000000\ta\n", "type");
	refused(HEAD "\n", "type");
}

TEST(index_refuses_a_nul_and_more_entries_than_a_part_has)
{
	static const char nul[] = HEAD "d\t755\t0.000000000\ta\0b\n";
	struct error err = {0};
	struct text t = {0};

	assert_int_equal(-ERR_FORMAT, decode_text(nul, sizeof(nul) - 1, &err));
	text_add(&t, HEAD);
	for (size_t i = 0; i <= INDEX_PART_ENTRIES; i++)
		text_add(&t, "d\t755\t0.000000000\ta\n");
	refused(t.s, "more entries");
	text_done(&t);
}

TEST(index_refuses_bytes_that_are_no_whole_frame_and_bombs)
{
	size_t len, big = INDEX_TEXT_MAX + 1;
	_free_ char *zeros = zalloc(big);
	_free_ void *packed = index_text_compress(HEAD, strlen(HEAD), &len);
	_free_ void *bomb = NULL;
	struct index_part part;
	struct error err = {0};

	assert_int_equal(-ERR_FORMAT, index_part_decode("garbage", 7, &part, &err));
	assert_int_equal(-ERR_FORMAT, index_part_decode(packed, len - 1, &part, &err));
	assert_int_equal(-ERR_FORMAT, index_part_decode(packed, 0, &part, &err));
	bomb = index_text_compress(zeros, big, &len);
	assert_int_equal(-ERR_FORMAT, index_part_decode(bomb, len, &part, &err));
	assert_non_null(strstr(err.msg, "limit"));
}
