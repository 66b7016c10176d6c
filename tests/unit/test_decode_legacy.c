/* SPDX-License-Identifier: MIT */
/* The legacy frames of lz4: no checksum, no end. */
#include "decode_util.h"
#include "defer.h"
#include <lz4.h>
#include <string.h>

#define LEGACY_BLOCK ((size_t)8 << 20)

static void add_legacy(struct text *to, const struct text *in)
{
	text_add_bytes(to, "\x02\x21\x4c\x18", 4);
	for (size_t at = 0; at < in->len; at += LEGACY_BLOCK) {
		size_t len = in->len - at < LEGACY_BLOCK ? in->len - at : LEGACY_BLOCK;
		int room = LZ4_compressBound((int)len);
		_free_ char *out = zalloc((size_t)room);
		uint32_t n = (uint32_t)LZ4_compress_default(in->s + at, out, (int)len, room);

		text_add_bytes(to, &n, 4); /* on a machine that is little endian, too */
		text_add_bytes(to, out, n);
	}
}

static void assert_decodes(const struct text *z, size_t piece, const struct text *want)
{
	struct decoded d = decode_reader(reader_in_pieces(z->s, z->len, piece, 0), USUAL_BUDGET);

	if (d.code != 0)
		fail_msg("%s", d.err.msg);
	assert_string_equal("lz4", d.format);
	assert_same_bytes(want, &d.bytes);
	decoded_done(&d);
}

TEST(lz4_legacy_frames_are_decoded_however_they_arrive)
{
	struct text in = sample(3000), z = {0};

	add_legacy(&z, &in);
	for (size_t piece = 1; piece < 40; piece++)
		assert_decodes(&z, piece, &in);
	text_done(&in);
	text_done(&z);
}

TEST(lz4_legacy_frames_of_several_blocks_are_decoded)
{
	struct text in = sample(2 * LEGACY_BLOCK + 5), z = {0};

	add_legacy(&z, &in);
	assert_decodes(&z, 100000, &in);
	text_done(&in);
	text_done(&z);
}

TEST(lz4_legacy_frame_may_be_empty_padded_and_followed_by_any_frame_of_lz4)
{
	struct text in = sample(1000), z = {0}, want = {0}, nothing = {0};

	add_legacy(&z, &nothing);
	assert_decodes(&z, 1, &nothing);
	add_legacy(&z, &in);
	add_skippable(&z);
	formats[3].compress(&z, in.s, in.len);
	add_legacy(&z, &in);
	text_add_bytes(&z, "\0\0\0\0\0\0", 6);
	add_legacy(&z, &in);
	formats[3].compress(&z, in.s, in.len);
	add_legacy(&z, &in);
	text_add_bytes(&z, "\0\0\0", 3);
	for (int i = 0; i < 6; i++)
		text_add_bytes(&want, in.s, in.len);
	for (size_t piece = 1; piece < 20; piece++)
		assert_decodes(&z, piece, &want);
	text_done(&in);
	text_done(&z);
	text_done(&want);
}

/* Between two blocks nothing tells a cut from the end. */
TEST(lz4_legacy_frame_that_is_cut_in_a_block_or_a_length_is_an_error)
{
	struct text in = sample(400), z = {0};

	add_legacy(&z, &in);
	for (size_t cut = 5; cut < z.len; cut++) {
		struct decoded d =
			decode_reader(reader_from_memory(z.s, cut, "data"), USUAL_BUDGET);

		if (d.code != -ERR_TRUNCATED)
			fail_msg("cut to %zu: %d", cut, d.code);
		decoded_done(&d);
	}
	text_done(&in);
	text_done(&z);
}

TEST(lz4_legacy_frame_followed_by_something_else_is_an_error)
{
	struct text in = sample(400), z = {0};
	struct decoded d;

	add_legacy(&z, &in);
	text_add(&z, "junk!");
	d = decode_bytes(&z);
	assert_int_equal(-ERR_FORMAT, d.code);
	decoded_done(&d);
	text_done(&in);
	text_done(&z);
}

TEST(lz4_legacy_blocks_that_exceed_the_budget_are_refused_with_its_name)
{
	struct text in = sample(LEGACY_BLOCK), z = {0};
	struct decoded d;

	add_legacy(&z, &in);
	d = decode_reader(reader_from_memory(z.s, z.len, "data"), SMALLEST_BUDGET);
	assert_int_equal(-ERR_LIMIT, d.code);
	assert_non_null(strstr(d.err.msg, "memory_budget"));
	text_done(&in);
	text_done(&z);
}
