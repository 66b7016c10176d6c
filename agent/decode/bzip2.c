/* SPDX-License-Identifier: MIT */
/* bzip2, by libbz2, which verifies the CRC of each block and of the whole stream. One thread at a
 * time; blocks are not decoded in parallel. */
#include "codec.h"
#include "defer.h"
#include "text.h"
#include <bzlib.h>
#include <errno.h>

/* Bytes that libbz2 allocates for its largest block size: 100 kB, and four for each of 900,000. */
#define BZIP2_MEMORY 3700000

#define PEEK 10 /* magic, block size, and the magic of a block or of the end */

struct bzip2 {
	struct codec codec;
	bz_stream bz;
	bool is_open; /* bz is initialized and must be freed */
};

/* "BZh", the block size, and then the first block or, if there is none, the end. */
static bool bzip2_matches(const uint8_t *first, size_t len)
{
	if (!codec_has_magic(first, len, "BZh", 3))
		return false;
	if (len > 3 && (first[3] < '1' || first[3] > '9'))
		return false;
	return len <= 4 || codec_has_magic(first + 4, len - 4, "\x31\x41\x59\x26\x53\x59", 6) ||
	       codec_has_magic(first + 4, len - 4, "\x17\x72\x45\x38\x50\x90", 6);
}

static void bzip2_end(struct bzip2 *b)
{
	if (b->is_open)
		BZ2_bzDecompressEnd(&b->bz);
	b->is_open = false;
}

static int no_memory(const struct codec *c, struct error *err)
{
	return error_set(err, -ENOMEM, "%s: no memory to decode bzip2", c->base.name);
}

static int bzip2_begin(struct codec *c, const uint8_t *first, size_t len, struct error *err)
{
	struct bzip2 *b = container_of(c, struct bzip2, codec);

	(void)first;
	(void)len;
	bzip2_end(b);
	b->bz = (bz_stream){0};
	if (BZ2_bzDecompressInit(&b->bz, 0, 0) != BZ_OK)
		return no_memory(c, err);
	b->is_open = true;
	return 0;
}

static int bzip2_step(struct codec *c, struct codec_io *io, struct error *err)
{
	struct bzip2 *b = container_of(c, struct bzip2, codec);
	unsigned in_len = io->in_len < INT32_MAX ? (unsigned)io->in_len : INT32_MAX;
	int code;

	b->bz.next_in = (char *)io->in; /* not written to */
	b->bz.avail_in = in_len;
	b->bz.next_out = (char *)io->out;
	b->bz.avail_out = (unsigned)io->out_len;
	code = BZ2_bzDecompress(&b->bz);
	io->in_len -= in_len - b->bz.avail_in;
	io->out_len = b->bz.avail_out;
	switch (code) {
	case BZ_OK:
		return io->in_len == 0 && io->out_len > 0 ? STEP_STARVED : STEP_ON;
	case BZ_STREAM_END:
		return STEP_END;
	case BZ_MEM_ERROR:
		return no_memory(c, err);
	/* libbz2 returns the same code for both */
	default:
		io->why = "invalid block or CRC mismatch";
		return STEP_DAMAGED;
	}
}

static void bzip2_free(struct codec *c)
{
	struct bzip2 *b = container_of(c, struct bzip2, codec);

	bzip2_end(b);
	free(b);
}

static int bzip2_open(
	struct reader *in, const struct decode_env *env, struct reader **ret, struct error *err)
{
	static const struct codec_ops ops = {
		.peek = PEEK, .begin = bzip2_begin, .step = bzip2_step, .free = bzip2_free};
	struct bzip2 *b = zalloc(sizeof(*b));

	b->codec.decoder = &bzip2_decoder;
	b->codec.ops = &ops;
	return codec_open(&b->codec, in, env, BZIP2_MEMORY, ret, err);
}

const struct decoder bzip2_decoder = {
	.name = "bzip2",
	.suffixes = ".bz2 .bzip2",
	.magic_bytes = 4,
	.matches = bzip2_matches,
	.open = bzip2_open,
};
