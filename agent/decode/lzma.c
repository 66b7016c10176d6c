/* SPDX-License-Identifier: MIT */
/* LZMA as in zip (method 14), by liblzma: a header with a version, the length of the properties,
 * and the properties; then the bare stream, which ends at the size that the zip specifies or at an
 * end marker. It has no checksum of its own. One thread at a time. */
#include "codec.h"
#include "defer.h"
#include "text.h"
#include <errno.h>
#include <lzma.h>

#define HEADER_BYTES     9
#define PROPERTIES_BYTES 5
#define DICTIONARY_MIN   4096

struct lzma {
	struct codec codec;
	lzma_stream strm;
	bool has_end;  /* an end marker follows the stream */
	size_t header; /* bytes of the header that are still to be skipped */
};

static bool lzma_matches(const uint8_t *first, size_t len)
{
	(void)first;
	return len > 0;
}

/* Parses the header. The dictionary is limited to the number of bytes that it can refer to. */
static int read_header(
	struct lzma *l, const uint8_t *first, size_t len, lzma_options_lzma *ret, struct error *err)
{
	const uint64_t size = l->codec.env.size;
	const unsigned length = len < HEADER_BYTES ? 0 : first[2] | (unsigned)first[3] << 8;
	unsigned bits;

	if (length != PROPERTIES_BYTES || first[4] >= 9 * 5 * 5)
		return codec_damaged(&l->codec, "no LZMA header", err);
	bits = first[4];
	*ret = (lzma_options_lzma){
		.dict_size = first[5] | (uint32_t)first[6] << 8 | (uint32_t)first[7] << 16 |
			     (uint32_t)first[8] << 24,
		.lc = bits % 9,
		.lp = bits / 9 % 5,
		.pb = bits / 45,
		.ext_flags = l->has_end ? LZMA_LZMA1EXT_ALLOW_EOPM : 0,
	};
	lzma_set_ext_size(*ret, l->has_end ? UINT64_MAX : size);
	if (ret->lc + ret->lp > LZMA_LCLP_MAX)
		return error_set(err, -ERR_UNSUPPORTED,
			"%s: LZMA data with lc + lp = %u, of which liblzma knows 4 at most",
			l->codec.base.name, (unsigned)(ret->lc + ret->lp));
	if (ret->dict_size > size)
		ret->dict_size = (uint32_t)size;
	if (ret->dict_size < DICTIONARY_MIN)
		ret->dict_size = DICTIONARY_MIN;
	return 0;
}

static int lzma_begin(struct codec *c, const uint8_t *first, size_t len, struct error *err)
{
	struct lzma *l = container_of(c, struct lzma, codec);
	lzma_options_lzma options;
	const lzma_filter filters[] = {
		{.id = LZMA_FILTER_LZMA1EXT, .options = &options}, {.id = LZMA_VLI_UNKNOWN}};
	int code = read_header(l, first, len, &options, err);
	uint64_t memory;

	if (code < 0)
		return code;
	memory = lzma_raw_decoder_memusage(filters);
	if (memory == UINT64_MAX)
		return codec_damaged(c, "its properties are nonsense", err);
	code = codec_grow(c, memory, err);
	if (code < 0)
		return code;
	if (lzma_raw_decoder(&l->strm, filters) != LZMA_OK)
		return error_set(err, -ENOMEM, "%s: no memory to decode LZMA", c->base.name);
	l->header = HEADER_BYTES;
	return 0;
}

static void skip_header(struct lzma *l, struct codec_io *io)
{
	size_t n = l->header < io->in_len ? l->header : io->in_len;

	l->header -= n;
	io->in_len -= n;
	l->strm.next_in = io->in + n;
}

static int lzma_step(struct codec *c, struct codec_io *io, struct error *err)
{
	struct lzma *l = container_of(c, struct lzma, codec);
	lzma_ret code;

	skip_header(l, io);
	l->strm.avail_in = io->in_len;
	l->strm.next_out = io->out;
	l->strm.avail_out = io->out_len;
	code = lzma_code(&l->strm, LZMA_RUN);
	io->in_len = l->strm.avail_in;
	io->out_len = l->strm.avail_out;
	switch (code) {
	case LZMA_OK:
		return io->in_len == 0 && io->out_len > 0 ? STEP_STARVED : STEP_ON;
	case LZMA_BUF_ERROR:
		if (io->in_len == 0)
			return STEP_STARVED;
		io->why = "no progress";
		return STEP_DAMAGED;
	case LZMA_STREAM_END:
		return STEP_END;
	case LZMA_MEM_ERROR:
		return error_set(err, -ENOMEM, "%s: no memory to decode LZMA", c->base.name);
	default:
		io->why = "invalid data";
		return STEP_DAMAGED;
	}
}

static void lzma_free(struct codec *c)
{
	struct lzma *l = container_of(c, struct lzma, codec);

	lzma_end(&l->strm);
	free(l);
}

static int open_decoder(const struct decoder *decoder, struct reader *in,
	const struct decode_env *env, struct reader **ret, struct error *err)
{
	static const struct codec_ops ops = {
		.peek = HEADER_BYTES, .begin = lzma_begin, .step = lzma_step, .free = lzma_free};
	struct lzma *l = zalloc(sizeof(*l));

	l->strm = (lzma_stream)LZMA_STREAM_INIT;
	l->has_end = decoder == &lzma_with_end_decoder;
	l->codec.decoder = decoder;
	l->codec.ops = &ops;
	return codec_open(&l->codec, in, env, 0, ret, err);
}

static int lzma_open(
	struct reader *in, const struct decode_env *env, struct reader **ret, struct error *err)
{
	return open_decoder(&lzma_decoder, in, env, ret, err);
}

static int lzma_with_end_open(
	struct reader *in, const struct decode_env *env, struct reader **ret, struct error *err)
{
	return open_decoder(&lzma_with_end_decoder, in, env, ret, err);
}

const struct decoder lzma_decoder = {
	.name = "LZMA",
	.suffixes = "",
	.bare = true,
	.matches = lzma_matches,
	.open = lzma_open,
};

const struct decoder lzma_with_end_decoder = {
	.name = "LZMA",
	.suffixes = "",
	.bare = true,
	.matches = lzma_matches,
	.open = lzma_with_end_open,
};
