/* SPDX-License-Identifier: MIT */
/* gzip, by ISA-L, which inflates several times faster than zlib. ISA-L verifies the CRC, the size
 * and, if there is one, the CRC of the header. One thread at a time. */
#include "codec.h"
#include "defer.h"
#include "text.h"
#include <isa-l/igzip_lib.h>

#define PEEK           4 /* magic, method, flags */
#define FLAGS_AT       3
#define FLAGS_RESERVED 0xe0

struct gzip {
	struct codec codec;
	struct inflate_state state;
	/* Kept across the calls that read a header: if isal_inflate() read headers itself, it would
	 * forget which fields are still missing when a slice ends inside one. */
	struct isal_gzip_header header;
	bool header_done;
};

static bool gzip_matches(const uint8_t *first, size_t len)
{
	return codec_has_magic(first, len, "\x1f\x8b\x08", 3);
}

static int gzip_begin(struct codec *c, const uint8_t *first, size_t len, struct error *err)
{
	struct gzip *g = container_of(c, struct gzip, codec);

	if (len > FLAGS_AT && (first[FLAGS_AT] & FLAGS_RESERVED) != 0)
		return codec_damaged(c, "unknown header flags", err);
	isal_inflate_reset(&g->state);
	g->state.crc_flag = ISAL_GZIP_NO_HDR_VER;
	isal_gzip_header_init(&g->header);
	g->header_done = false;
	return 0;
}

static const char *error_text(int code)
{
	switch (code) {
	case ISAL_INCORRECT_CHECKSUM:
		return "CRC or length mismatch";
	case ISAL_INVALID_LOOKBACK:
		return "a match reaches back before the beginning";
	case ISAL_INVALID_SYMBOL:
		return "invalid symbol";
	case ISAL_INVALID_BLOCK:
		return "invalid block";
	default:
		return "invalid header";
	}
}

/* Returns ISAL_DECOMP_OK, ISAL_END_INPUT (header only), or a negative code of ISA-L. */
static int inflate_more(struct gzip *g)
{
	if (!g->header_done) {
		int code = isal_read_gzip_header(&g->state, &g->header);

		if (code != ISAL_DECOMP_OK)
			return code;
		g->header_done = true;
	}
	return isal_inflate(&g->state);
}

static int gzip_step(struct codec *c, struct codec_io *io, struct error *err)
{
	struct gzip *g = container_of(c, struct gzip, codec);
	uint32_t in_len = io->in_len < INT32_MAX ? (uint32_t)io->in_len : INT32_MAX;
	int code;

	(void)err;
	g->state.next_in = (uint8_t *)io->in; /* not written to */
	g->state.avail_in = in_len;
	g->state.next_out = io->out;
	g->state.avail_out = (uint32_t)io->out_len;
	code = inflate_more(g);
	io->in_len -= in_len - g->state.avail_in;
	io->out_len = g->state.avail_out;
	if (code < 0) {
		io->why = error_text(code);
		return STEP_DAMAGED;
	}
	if (g->state.block_state == ISAL_BLOCK_FINISH)
		return STEP_END;
	return io->in_len == 0 && io->out_len > 0 ? STEP_STARVED : STEP_ON;
}

static void gzip_free(struct codec *c)
{
	free(container_of(c, struct gzip, codec));
}

static int gzip_open(
	struct reader *in, const struct decode_env *env, struct reader **ret, struct error *err)
{
	static const struct codec_ops ops = {
		.peek = PEEK, .begin = gzip_begin, .step = gzip_step, .free = gzip_free};
	struct gzip *g = zalloc(sizeof(*g));

	g->codec.decoder = &gzip_decoder;
	g->codec.ops = &ops;
	isal_inflate_init(&g->state);
	return codec_open(&g->codec, in, env, sizeof(*g), ret, err);
}

const struct decoder gzip_decoder = {
	.name = "gzip",
	.suffixes = ".gz .gzip",
	.magic_bytes = 3,
	.matches = gzip_matches,
	.open = gzip_open,
};
