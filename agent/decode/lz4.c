/* SPDX-License-Identifier: MIT */
/* LZ4 frames, through liblz4, which verifies the checksums of header, blocks and content where a
 * frame has them, and its length. One caller at a time. The older "legacy" framing is not read. */
#include "codec.h"
#include "defer.h"
#include "text.h"
#include <errno.h>
#include <lz4frame.h>

#define PEEK 16 /* magic and what there can be of a skippable frame */

/* The frame descriptor that follows the magic: the second byte gives the size of blocks. */
#define BLOCK_SIZE_AT    5
#define BLOCK_SIZE_CODE  4 /* 64 KiB; each code above is four times the one before */
#define LZ4_LINKED_BYTES ((uint64_t)128 << 10)

struct lz4 {
	struct codec codec;
	LZ4F_dctx *dctx;
};

/* A skippable frame could begin a stream of zstd as well; where the next frame is in sight, it says
 * which, and otherwise zstd, which comes first in the table, takes it. */
static bool lz4_matches(const uint8_t *first, size_t len)
{
	if (codec_is_skippable(first, len))
		return true;
	return codec_has_magic(first, len, CODEC_LZ4_MAGIC, 4);
}

/* What liblz4 allocates for a frame: one block as it comes and one as it goes, and what linked
 * blocks look back on. 0 when this is no (whole, sane) header of a frame with blocks: nothing is
 * allocated then. */
static uint64_t memory_for(const uint8_t *first, size_t len)
{
	unsigned code;

	if (len <= BLOCK_SIZE_AT || codec_is_skippable(first, len))
		return 0;
	code = first[BLOCK_SIZE_AT] >> 4 & 7;
	if (code < BLOCK_SIZE_CODE)
		return 0;
	return 2 * ((uint64_t)65536 << 2 * (code - BLOCK_SIZE_CODE)) + LZ4_LINKED_BYTES;
}

static int lz4_begin(struct codec *c, const uint8_t *first, size_t len, struct error *err)
{
	return codec_grow(c, memory_for(first, len), err);
}

static int lz4_step(struct codec *c, struct codec_io *io, struct error *err)
{
	struct lz4 *l = container_of(c, struct lz4, codec);
	size_t in = io->in_len, out = io->out_len;
	size_t code = LZ4F_decompress(l->dctx, io->out, &out, io->in, &in, NULL);

	(void)err;
	if (LZ4F_isError(code)) {
		io->why = LZ4F_getErrorName(code);
		return STEP_DAMAGED;
	}
	io->in_len -= in;
	io->out_len -= out;
	if (code == 0)
		return STEP_END;
	return io->in_len == 0 && io->out_len > 0 ? STEP_STARVED : STEP_ON;
}

static void lz4_free(struct codec *c)
{
	struct lz4 *l = container_of(c, struct lz4, codec);

	LZ4F_freeDecompressionContext(l->dctx);
	free(l);
}

static int lz4_open(
	struct reader *in, const struct decode_env *env, struct reader **ret, struct error *err)
{
	static const struct codec_ops ops = {
		.peek = PEEK, .begin = lz4_begin, .step = lz4_step, .free = lz4_free};
	struct lz4 *l;
	uint8_t first[PEEK];
	int len;

	len = reader_peek(in, first, sizeof(first), err);
	if (len < 0) {
		reader_close(in);
		return len;
	}
	l = zalloc(sizeof(*l));
	if (LZ4F_isError(LZ4F_createDecompressionContext(&l->dctx, LZ4F_VERSION)))
		abort(); /* a few hundred bytes */
	l->codec.decoder = &lz4_decoder;
	l->codec.ops = &ops;
	return codec_open(&l->codec, in, env, memory_for(first, (size_t)len), ret, err);
}

const struct decoder lz4_decoder = {
	.name = "lz4",
	.suffixes = ".lz4",
	.magic_bytes = 4,
	.matches = lz4_matches,
	.open = lz4_open,
};
