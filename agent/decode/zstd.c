/* SPDX-License-Identifier: MIT */
/* zstd, by libzstd, which verifies the frames' checksums. One thread at a time, one frame after
 * another. Windows may be as large as the budget allows; frames that need a dictionary are
 * refused. */
/* Declares ZSTD_frameHeader and ZSTD_estimateDStreamSize(). */
#define ZSTD_STATIC_LINKING_ONLY
#include "codec.h"
#include "defer.h"
#include "text.h"
#include <zstd.h>
#include <zstd_errors.h>

#define PEEK       ZSTD_FRAMEHEADERSIZE_MAX
#define ZSTD_MAGIC "\x28\xb5\x2f\xfd"

/* The largest window of the levels up to 19, which every decoder is expected to support. */
#define USUAL_WINDOW ((size_t)8 << 20)

struct zstd {
	struct codec codec;
	ZSTD_DCtx *dctx;
};

static bool zstd_matches(const uint8_t *first, size_t len)
{
	return codec_is_skippable(first, len) || codec_has_magic(first, len, ZSTD_MAGIC, 4);
}

/* Bytes that libzstd allocates for a frame: its window, but at most as much as the frame has
 * content. 0 when this is not a complete and valid header of a frame with content. */
static uint64_t frame_memory(const ZSTD_frameHeader *h)
{
	uint64_t window = h->windowSize;

	if (h->frameType != ZSTD_frame)
		return 0;
	if (h->frameContentSize != ZSTD_CONTENTSIZE_UNKNOWN && h->frameContentSize < window)
		window = h->frameContentSize;
	return ZSTD_estimateDStreamSize((size_t)window);
}

static int zstd_begin(struct codec *c, const uint8_t *first, size_t len, struct error *err)
{
	ZSTD_frameHeader h = {0};
	size_t code = ZSTD_getFrameHeader(&h, first, len);

	if (ZSTD_isError(code))
		return codec_damaged(c, ZSTD_getErrorName(code), err);
	if (code > 0)
		return 0; /* truncated in the header, which the first step will detect */
	if (h.frameType == ZSTD_frame && h.dictID != 0)
		return error_set(err, -ERR_UNSUPPORTED,
			"%s: zstd data was compressed with dictionary %u, which is not at hand; compress it without a dictionary",
			c->base.name, h.dictID);
	return codec_grow(c, frame_memory(&h), err);
}

static int zstd_step(struct codec *c, struct codec_io *io, struct error *err)
{
	struct zstd *z = container_of(c, struct zstd, codec);
	ZSTD_inBuffer in = {.src = io->in, .size = io->in_len};
	ZSTD_outBuffer out = {.dst = io->out, .size = io->out_len};
	size_t code = ZSTD_decompressStream(z->dctx, &out, &in);

	io->in_len -= in.pos;
	io->out_len -= out.pos;
	if (code == 0)
		return STEP_END;
	if (!ZSTD_isError(code))
		return io->in_len == 0 && io->out_len > 0 ? STEP_STARVED : STEP_ON;
	if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation)
		return error_set(err, -ENOMEM, "%s: no memory for zstd's window", c->base.name);
	io->why = ZSTD_getErrorName(code);
	return STEP_DAMAGED;
}

static void zstd_free(struct codec *c)
{
	struct zstd *z = container_of(c, struct zstd, codec);

	ZSTD_freeDCtx(z->dctx);
	free(z);
}

/* The memory to reserve: at least what usual frames need, if that is a small part of the budget,
 * since later frames may have larger windows than the first and must not wait for memory then. */
static uint64_t memory_to_reserve(const uint8_t *first, size_t len, const struct budget *budget)
{
	uint64_t usual = ZSTD_estimateDStreamSize(USUAL_WINDOW);
	uint64_t share = budget_stage_half(budget) / 4;
	uint64_t least = usual < share ? usual : share;
	ZSTD_frameHeader h = {0};
	uint64_t need = 0;

	if (ZSTD_getFrameHeader(&h, first, len) == 0)
		need = frame_memory(&h);
	return need > least ? need : least;
}

static int zstd_open(
	struct reader *in, const struct decode_env *env, struct reader **ret, struct error *err)
{
	static const struct codec_ops ops = {
		.peek = PEEK, .begin = zstd_begin, .step = zstd_step, .free = zstd_free};
	struct zstd *z;
	uint8_t first[PEEK];
	int len;

	len = reader_peek(in, first, sizeof(first), err);
	if (len < 0) {
		reader_close(in);
		return len;
	}
	z = zalloc(sizeof(*z));
	z->codec.decoder = &zstd_decoder;
	z->codec.ops = &ops;
	z->dctx = ZSTD_createDCtx();
	if (z->dctx == NULL)
		abort(); /* a few hundred kilobytes, without any window */
	/* The budget is the limit: begin() reserves the memory of each frame. */
	ZSTD_DCtx_setMaxWindowSize(z->dctx, (size_t)1 << ZSTD_WINDOWLOG_MAX);
	return codec_open(
		&z->codec, in, env, memory_to_reserve(first, (size_t)len, env->budget), ret, err);
}

const struct decoder zstd_decoder = {
	.name = "zstd",
	.suffixes = ".zst .zstd",
	.magic_bytes = 4,
	.matches = zstd_matches,
	.open = zstd_open,
};
