/* SPDX-License-Identifier: MIT */
/* Memory: what the budget allows is decoded, the rest is refused with what it needs and what to
 * set. */
#include "decode_util.h"
#include "defer.h"
#include <lz4frame.h>
#include <lzma.h>
#include <string.h>
#include <zstd.h>

/* A frame that asks for a window of 1 << window_log bytes, whatever is in it. */
static void add_zstd_window(struct text *to, const struct text *in, int window_log)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t room = ZSTD_compressBound(in->len);
	_free_ char *out = zalloc(room);
	ZSTD_inBuffer from = {.src = in->s, .size = in->len};
	ZSTD_outBuffer into = {.dst = out, .size = room};

	ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, window_log);
	ZSTD_CCtx_setParameter(c, ZSTD_c_enableLongDistanceMatching, 1);
	/* In two calls, so that the frame's size is not known when its header is written. */
	assert_false(ZSTD_isError(ZSTD_compressStream2(c, &into, &from, ZSTD_e_flush)));
	assert_int_equal(0, ZSTD_compressStream2(c, &into, &from, ZSTD_e_end));
	text_add_bytes(to, out, into.pos);
	ZSTD_freeCCtx(c);
}

static void add_xz(struct text *to, const struct text *in, uint32_t dict_bytes, size_t block_bytes)
{
	lzma_stream strm = LZMA_STREAM_INIT;
	lzma_options_lzma options;
	lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &options}, {LZMA_VLI_UNKNOWN, NULL}};
	lzma_mt mt = {.threads = 1,
		.block_size = block_bytes,
		.filters = filters,
		.check = LZMA_CHECK_CRC32};
	size_t room = in->len + 100000;
	_free_ uint8_t *out = zalloc(room);

	lzma_lzma_preset(&options, 0);
	options.dict_size = dict_bytes;
	assert_int_equal(LZMA_OK, block_bytes > 0
					  ? lzma_stream_encoder_mt(&strm, &mt)
					  : lzma_stream_encoder(&strm, filters, LZMA_CHECK_CRC32));
	strm.next_in = (uint8_t *)in->s;
	strm.avail_in = in->len;
	strm.next_out = out;
	strm.avail_out = room;
	assert_int_equal(LZMA_STREAM_END, lzma_code(&strm, LZMA_FINISH));
	text_add_bytes(to, out, room - strm.avail_out);
	lzma_end(&strm);
}

/* Consumes z. */
static void assert_fits(struct text z, const struct text *in, uint64_t budget)
{
	struct decoded d = decode_reader(reader_from_memory(z.s, z.len, "data"), budget);

	if (d.code != 0)
		fail_msg("%s", d.err.msg);
	assert_same_bytes(in, &d.bytes);
	decoded_done(&d);
	text_done(&z);
}

/* Consumes z. need: how the message says what it needs. */
static void assert_refused(struct text z, uint64_t budget, const char *need)
{
	struct decoded d = decode_reader(reader_from_memory(z.s, z.len, "data"), budget);

	assert_int_equal(-ERR_LIMIT, d.code);
	if (strstr(d.err.msg, need) == NULL || strstr(d.err.msg, "memory_budget") == NULL)
		fail_msg("%s", d.err.msg);
	decoded_done(&d);
	text_done(&z);
}

#define MIB ((uint64_t)1 << 20)

TEST(zstd_windows_are_limited_by_the_budget)
{
	struct text in = sample(100000), small = {0}, large = {0}, again = {0};

	add_zstd_window(&small, &in, 22);
	assert_fits(small, &in, 16 * MIB);
	add_zstd_window(&large, &in, 27);
	assert_refused(large, 256 * MIB, "data: zstd decoder: needs 139 MB");
	add_zstd_window(&again, &in, 27);
	assert_fits(again, &in, 320 * MIB);
	text_done(&in);
}

TEST(zstd_windows_over_libzstds_own_limit_are_decoded_when_the_budget_has_them)
{
	struct text in = sample(100000), z = {0};

	add_zstd_window(&z, &in, 28);
	assert_fits(z, &in, 1024 * MIB);
	text_done(&in);
}

TEST(zstd_frames_after_the_first_can_have_larger_windows)
{
	struct text in = sample(100000), z = {0}, both = {0};

	text_add_bytes(&both, in.s, in.len);
	text_add_bytes(&both, in.s, in.len);
	add_zstd_window(&z, &in, 17);
	add_zstd_window(&z, &in, 25);
	assert_fits(z, &both, 128 * MIB);
	text_done(&in);
	text_done(&both);
}

TEST(zstd_frames_after_the_first_are_limited_by_the_budget)
{
	struct text in = sample(100000), z = {0};

	add_zstd_window(&z, &in, 17);
	add_zstd_window(&z, &in, 24);
	assert_refused(z, 16 * MIB, "the zstd data at byte ");
	text_done(&in);
}

TEST(zstd_frames_that_need_a_dictionary_are_refused)
{
	/* A header that names dictionary 7, then an empty last block. */
	static const uint8_t z[] = {0x28, 0xb5, 0x2f, 0xfd, 0x21, 0x07, 0x00, 0x01, 0x00, 0x00};
	struct decoded d = decode_reader(reader_from_memory(z, sizeof(z), "data"), USUAL_BUDGET);

	assert_int_equal(-ERR_UNSUPPORTED, d.code);
	assert_non_null(strstr(d.err.msg, "dictionary 7"));
}

TEST(zstd_passes_over_skippable_frames)
{
	struct text in = sample(1000), z = {0}, both = {0};

	text_add_bytes(&both, in.s, in.len);
	text_add_bytes(&both, in.s, in.len);
	add_skippable(&z);
	add_zstd_window(&z, &in, 17);
	add_skippable(&z);
	add_skippable(&z);
	add_zstd_window(&z, &in, 17);
	add_skippable(&z);
	assert_fits(z, &both, 16 * MIB);
	text_done(&in);
	text_done(&both);
}

TEST(xz_dictionaries_are_limited_by_the_budget)
{
	struct text in = sample(100000), z = {0}, again = {0};

	add_xz(&z, &in, 64 << 20, 0);
	assert_refused(z, 64 * MIB, "data: xz decoder: needs 7");
	add_xz(&again, &in, 64 << 20, 0);
	assert_fits(again, &in, 256 * MIB);
	text_done(&in);
}

TEST(xz_streams_after_the_first_can_have_larger_dictionaries_as_far_as_the_budget_goes)
{
	struct text in = sample(100000), both = {0}, z = {0}, again = {0};

	text_add_bytes(&both, in.s, in.len);
	text_add_bytes(&both, in.s, in.len);
	add_xz(&z, &in, 1 << 20, 0);
	add_xz(&z, &in, 32 << 20, 0);
	text_add_bytes(&again, z.s, z.len);
	assert_fits(z, &both, 256 * MIB);
	assert_refused(again, 32 * MIB, "the xz data at byte ");
	text_done(&in);
	text_done(&both);
}

TEST(xz_blocks_are_decoded_in_order_by_several_threads)
{
	struct text in = sample(2000000), z = {0};

	add_xz(&z, &in, 1 << 20, 100000);
	assert_fits(z, &in, 256 * MIB);
	text_done(&in);
}

TEST(xz_blocks_too_large_to_be_decoded_side_by_side_are_decoded_one_after_another)
{
	struct text in = sample(9000000), z = {0};

	add_xz(&z, &in, 1 << 20, 4000000);
	assert_fits(z, &in, 16 * MIB);
	text_done(&in);
}

static void add_lz4_block(struct text *to, const struct text *in, LZ4F_blockSizeID_t block)
{
	LZ4F_preferences_t prefs = {.frameInfo = {.blockSizeID = block}};
	size_t room = LZ4F_compressFrameBound(in->len, &prefs);
	_free_ char *out = zalloc(room);

	text_add_bytes(to, out, LZ4F_compressFrame(out, room, in->s, in->len, &prefs));
}

TEST(lz4_blocks_are_limited_by_the_budget)
{
	struct text in = sample(4500000), small = {0}, large = {0}, again = {0};

	add_lz4_block(&small, &in, LZ4F_max1MB);
	assert_fits(small, &in, 16 * MIB);
	add_lz4_block(&large, &in, LZ4F_max4MB);
	assert_refused(large, 16 * MIB, "data: lz4 decoder: needs 1");
	add_lz4_block(&again, &in, LZ4F_max4MB);
	assert_fits(again, &in, 32 * MIB);
	text_done(&in);
}

TEST(lz4_frames_after_the_first_are_limited_by_the_budget)
{
	struct text in = sample(1100000), both = {0}, z = {0}, again = {0};

	text_add_bytes(&both, in.s, in.len);
	text_add_bytes(&both, in.s, in.len);
	add_lz4_block(&z, &in, LZ4F_max64KB);
	add_lz4_block(&z, &in, LZ4F_max4MB);
	text_add_bytes(&again, z.s, z.len);
	assert_fits(z, &both, 32 * MIB);
	assert_refused(again, 16 * MIB, "the lz4 data at byte ");
	text_done(&in);
	text_done(&both);
}
