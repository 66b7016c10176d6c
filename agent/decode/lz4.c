/* SPDX-License-Identifier: MIT */
/* LZ4 frames, by liblz4, which verifies the checksums of header, blocks and content where a frame
 * has them, and its length. One thread at a time.
 *
 * Also legacy frames (lz4 -l, Linux kernels), which are a magic and blocks, each a length and an
 * LZ4 block of at most 8 MiB, up to the end of the file or another magic. They have neither a
 * checksum nor an end, so a truncation between two blocks cannot be detected. */
#include "codec.h"
#include "defer.h"
#include "text.h"
#include <errno.h>
#include <lz4.h>
#include <lz4frame.h>
#include <string.h>

#define PEEK 16 /* magic and the header of a skippable frame */

/* The frame descriptor follows the magic; its second byte has the code of the block size. */
#define BLOCK_SIZE_AT    5
#define BLOCK_SIZE_CODE  4 /* 64 KiB; each higher code is four times the previous one */
#define LZ4_LINKED_BYTES ((uint64_t)128 << 10)
#define FRAME_MEMORY_MAX (((uint64_t)8 << 20) + LZ4_LINKED_BYTES)

#define LZ4_MAGIC         "\x04\x22\x4d\x18"
#define LEGACY_MAGIC      "\x02\x21\x4c\x18"
#define LEGACY_BLOCK      ((size_t)8 << 20)
#define LEGACY_PACKED_MAX ((size_t)LZ4_COMPRESSBOUND(LEGACY_BLOCK))

/* The state of a legacy frame. */
struct legacy {
	uint8_t *packed; /* a compressed block, of which `have` of `want` bytes were read */
	size_t want, have;
	/* the decoded block, of which `returned` of `block_len` bytes were returned */
	uint8_t *block;
	size_t block_len, returned;
	uint8_t word[4]; /* if want is 0: a block's length, or the magic of another frame */
	size_t word_len;
};

struct lz4 {
	struct codec codec;
	LZ4F_dctx *dctx;
	bool is_legacy; /* the current frame is a legacy one */
	struct legacy legacy;
};

static bool lz4_matches(const uint8_t *first, size_t len)
{
	return codec_is_skippable(first, len) || codec_has_magic(first, len, LZ4_MAGIC, 4) ||
	       codec_has_magic(first, len, LEGACY_MAGIC, 4);
}

static uint32_t little_endian_32(const uint8_t *bytes)
{
	return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

/* An upper bound: a block decodes to at most 255 times its length. */
static size_t legacy_decoded(size_t packed)
{
	return packed < LEGACY_BLOCK / 255 ? packed * 255 : LEGACY_BLOCK;
}

/* Bytes that liblz4 allocates for a frame: a compressed block, a decoded block, and the history
 * that linked blocks refer to; for a legacy frame, the bytes that this file allocates. 0 when the
 * bytes are not a complete and valid header of a frame with blocks: nothing is allocated then. */
static uint64_t frame_memory(const uint8_t *first, size_t len)
{
	unsigned code;

	if (len >= 8 && memcmp(first, LEGACY_MAGIC, 4) == 0) {
		uint32_t packed = little_endian_32(first + 4);

		return packed <= LEGACY_PACKED_MAX ? packed + legacy_decoded(packed) : 0;
	}
	if (len <= BLOCK_SIZE_AT || codec_is_skippable(first, len))
		return 0;
	code = first[BLOCK_SIZE_AT] >> 4 & 7;
	if (code < BLOCK_SIZE_CODE)
		return 0;
	return 2 * ((uint64_t)65536 << 2 * (code - BLOCK_SIZE_CODE)) + LZ4_LINKED_BYTES;
}

static void legacy_done(struct legacy *g)
{
	free(g->packed);
	free(g->block);
	*g = (struct legacy){0};
}

static int lz4_begin(struct codec *c, const uint8_t *first, size_t len, struct error *err)
{
	struct lz4 *l = container_of(c, struct lz4, codec);

	l->is_legacy = codec_has_magic(first, len, LEGACY_MAGIC, 4);
	return codec_grow(c, frame_memory(first, len), err);
}

/* Moves bytes from the front of in to the buffer until it has want of them; returns whether it
 * has. */
static bool gather(struct codec_io *io, uint8_t *to, size_t *have, size_t want)
{
	size_t n = want - *have < io->in_len ? want - *have : io->in_len;

	memcpy(to + *have, io->in, n);
	*have += n;
	io->in += n;
	io->in_len -= n;
	return *have == want;
}

static int frame_step(struct lz4 *l, struct codec_io *io)
{
	size_t in = io->in_len, out = io->out_len;
	size_t code = LZ4F_decompress(l->dctx, io->out, &out, io->in, &in, NULL);

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

static int legacy_block(struct lz4 *l, uint32_t packed, struct error *err)
{
	struct legacy *g = &l->legacy;
	int code = codec_grow(&l->codec, packed + legacy_decoded(packed), err);

	legacy_done(g);
	if (code < 0)
		return code;
	g->want = packed;
	g->packed = malloc(packed);
	g->block = malloc(legacy_decoded(packed));
	return g->packed != NULL && g->block != NULL
		       ? STEP_ON
		       : error_set(
				 err, -ENOMEM, "%s: no memory for lz4 blocks", l->codec.base.name);
}

/* Switches to a modern frame behind a legacy one. Its magic is already consumed, so it is passed to
 * liblz4 here. */
static int legacy_to_frame(struct lz4 *l, struct error *err)
{
	size_t in = sizeof(l->legacy.word), out = 0;
	int code = codec_grow(&l->codec, FRAME_MEMORY_MAX, err);

	l->is_legacy = false;
	if (code == 0)
		LZ4F_decompress(l->dctx, NULL, &out, l->legacy.word, &in, NULL);
	legacy_done(&l->legacy);
	return code;
}

/* Handles the four bytes between blocks: the length of the next block, a magic, or padding. */
static int legacy_word(struct lz4 *l, struct codec_io *io, struct error *err)
{
	struct legacy *g = &l->legacy;
	uint32_t value = little_endian_32(g->word);

	if (memcmp(g->word, LZ4_MAGIC, 4) == 0 || codec_is_skippable(g->word, 4))
		return legacy_to_frame(l, err);
	g->word_len = 0;
	if (value == 0)
		return STEP_END;
	if (memcmp(g->word, LEGACY_MAGIC, 4) == 0)
		return STEP_ON;
	if (value <= LEGACY_PACKED_MAX)
		return legacy_block(l, value, err);
	io->why = "invalid block length";
	return STEP_DAMAGED;
}

static int legacy_return(struct legacy *g, struct codec_io *io)
{
	size_t left = g->block_len - g->returned;
	size_t n = left < io->out_len ? left : io->out_len;

	memcpy(io->out, g->block + g->returned, n);
	io->out_len -= n;
	g->returned += n;
	if (g->returned == g->block_len)
		g->want = 0;
	return STEP_ON;
}

static int legacy_step(struct lz4 *l, struct codec_io *io, struct error *err)
{
	struct legacy *g = &l->legacy;
	int len;

	if (g->block_len > g->returned)
		return legacy_return(g, io);
	if (g->want == 0) {
		if (gather(io, g->word, &g->word_len, sizeof(g->word)))
			return legacy_word(l, io, err);
		/* Fewer than four zeros at the end of the file are padding as well. */
		return io->last && memcmp(g->word, "\0\0\0", g->word_len) == 0 ? STEP_END
									       : STEP_STARVED;
	}
	if (!gather(io, g->packed, &g->have, g->want))
		return STEP_STARVED;
	len = LZ4_decompress_safe((const char *)g->packed, (char *)g->block, (int)g->want,
		(int)legacy_decoded(g->want));
	if (len <= 0) {
		io->why = "invalid block";
		return STEP_DAMAGED;
	}
	g->block_len = (size_t)len;
	return STEP_ON;
}

static int lz4_step(struct codec *c, struct codec_io *io, struct error *err)
{
	struct lz4 *l = container_of(c, struct lz4, codec);

	return l->is_legacy ? legacy_step(l, io, err) : frame_step(l, io);
}

static void lz4_free(struct codec *c)
{
	struct lz4 *l = container_of(c, struct lz4, codec);

	LZ4F_freeDecompressionContext(l->dctx);
	legacy_done(&l->legacy);
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
	return codec_open(&l->codec, in, env, frame_memory(first, (size_t)len), ret, err);
}

const struct decoder lz4_decoder = {
	.name = "lz4",
	.suffixes = ".lz4",
	.magic_bytes = 4,
	.matches = lz4_matches,
	.open = lz4_open,
};
