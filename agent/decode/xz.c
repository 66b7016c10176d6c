/* SPDX-License-Identifier: MIT */
/* xz, by liblzma's threaded decoder, which decodes the blocks of a file in parallel if the file has
 * several and specifies their lengths, and in one thread otherwise. Integrity checks are verified.
 * liblzma blocks all signals in its threads. One thread at a time. */
#include "codec.h"
#include "defer.h"
#include "text.h"
#include <errno.h>
#include <lzma.h>

#define XZ_MAGIC "\xfd\x37\x7a\x58\x5a\x00"

/* How long one call may wait for liblzma's threads: they can take seconds for a large block, and a
 * cancellation is only noticed between calls. */
#define XZ_TIMEOUT_MS 100

/* Bytes that liblzma itself needs besides dictionaries and blocks. */
#define XZ_OVERHEAD ((uint64_t)1 << 20)

#define PEEK (LZMA_STREAM_HEADER_SIZE + LZMA_BLOCK_HEADER_SIZE_MAX)

_Static_assert(PEEK <= CODEC_PEEK_MAX, "begin() sees the whole header");

struct xz {
	struct codec codec;
	lzma_stream strm;
};

static bool xz_matches(const uint8_t *first, size_t len)
{
	return codec_has_magic(first, len, XZ_MAGIC, 6);
}

/* The memory for the first block, in bytes: its dictionary for one thread. If it specifies its
 * sizes, as blocks compressed by several threads do, also its compressed and decoded bytes for each
 * thread, and the decoded bytes once more for the block that is being returned. */
static uint64_t block_memory(const lzma_block *b, unsigned threads)
{
	uint64_t tables = lzma_raw_decoder_memusage(b->filters);
	uint64_t compressed;

	if (tables == UINT64_MAX)
		return 0; /* unknown filters, which are refused when decoded */
	if (threads < 2 || b->compressed_size == LZMA_VLI_UNKNOWN ||
		b->uncompressed_size == LZMA_VLI_UNKNOWN)
		return tables;
	if (b->uncompressed_size > UINT32_MAX || b->compressed_size > UINT32_MAX)
		return tables; /* hostile, or too large for threads */
	/* Blocks have the same number of decoded bytes, but some compress better than others. */
	compressed = b->uncompressed_size / 4;
	if (compressed < b->compressed_size)
		compressed = b->compressed_size;
	return threads * (tables + compressed) + (threads + 1) * b->uncompressed_size;
}

static uint64_t stream_memory(const uint8_t *first, size_t len, unsigned threads)
{
	lzma_filter filters[LZMA_FILTERS_MAX + 1];
	lzma_block b = {.filters = filters};
	lzma_stream_flags flags;
	uint64_t memory;

	if (len <= LZMA_STREAM_HEADER_SIZE || lzma_stream_header_decode(&flags, first) != LZMA_OK)
		return 0;
	first += LZMA_STREAM_HEADER_SIZE;
	len -= LZMA_STREAM_HEADER_SIZE;
	b.check = flags.check;
	b.header_size = lzma_block_header_size_decode(first[0]);
	if (first[0] == 0 || b.header_size > len ||
		lzma_block_header_decode(&b, NULL, first) != LZMA_OK)
		return 0;
	memory = block_memory(&b, threads);
	lzma_filters_free(filters, NULL);
	return memory;
}

/* liblzma may use the reserved memory: it refuses a later block whose dictionary needs more, and
 * only starts as many threads as fit. */
static int xz_begin(struct codec *c, const uint8_t *first, size_t len, struct error *err)
{
	struct xz *x = container_of(c, struct xz, codec);
	int code = codec_grow(c, stream_memory(first, len, 1) + XZ_OVERHEAD, err);
	lzma_mt mt;

	if (code < 0)
		return code;
	mt = (lzma_mt){
		.flags = LZMA_TELL_UNSUPPORTED_CHECK,
		.threads = c->env.threads,
		.timeout = XZ_TIMEOUT_MS,
		.memlimit_threading = c->memory,
		.memlimit_stop = c->memory,
	};
	if (lzma_stream_decoder_mt(&x->strm, &mt) != LZMA_OK)
		return error_set(err, -ENOMEM, "%s: no memory to decode xz", c->base.name);
	return 0;
}

static int damaged(struct codec_io *io, const char *why)
{
	io->why = why;
	return STEP_DAMAGED;
}

static int handle_code(struct xz *x, lzma_ret code, struct codec_io *io, struct error *err)
{
	const char *name = x->codec.base.name;

	switch (code) {
	case LZMA_OK:
		return io->in_len == 0 && io->out_len > 0 && !io->last ? STEP_STARVED : STEP_ON;
	case LZMA_BUF_ERROR:
		return io->in_len == 0 ? STEP_STARVED : damaged(io, "no progress");
	case LZMA_STREAM_END:
		return STEP_END;
	case LZMA_MEMLIMIT_ERROR:
		return error_set(err, -ERR_LIMIT,
			"%s: an xz block needs a much larger dictionary than the first; raise memory_budget, or compress it anew",
			name);
	case LZMA_MEM_ERROR:
		return error_set(err, -ENOMEM, "%s: no memory to decode xz", name);
	case LZMA_OPTIONS_ERROR:
		return error_set(err, -ERR_UNSUPPORTED,
			"%s: xz data uses a filter or option that liblzma %s does not know", name,
			lzma_version_string());
	case LZMA_UNSUPPORTED_CHECK:
		return error_set(err, -ERR_UNSUPPORTED,
			"%s: xz data has an integrity check that liblzma %s cannot verify", name,
			lzma_version_string());
	default:
		return damaged(io, "invalid data or check mismatch");
	}
}

static int xz_step(struct codec *c, struct codec_io *io, struct error *err)
{
	struct xz *x = container_of(c, struct xz, codec);
	lzma_ret code;

	x->strm.next_in = io->in;
	x->strm.avail_in = io->in_len;
	x->strm.next_out = io->out;
	x->strm.avail_out = io->out_len;
	code = lzma_code(&x->strm, io->last ? LZMA_FINISH : LZMA_RUN);
	io->in_len = x->strm.avail_in;
	io->out_len = x->strm.avail_out;
	return handle_code(x, code, io, err);
}

static void xz_free(struct codec *c)
{
	struct xz *x = container_of(c, struct xz, codec);

	lzma_end(&x->strm);
	free(x);
}

/* Threads beyond the first only improve speed: the decoded slices, and other stages, take
 * precedence. */
static uint64_t memory_to_reserve(const uint8_t *first, size_t len, const struct decode_env *env)
{
	uint64_t one = stream_memory(first, len, 1);
	uint64_t all = stream_memory(first, len, env->threads);
	uint64_t share = budget_stage_half(env->budget) / 4 * 3 - XZ_OVERHEAD;

	if (all > share)
		all = share;
	return (all > one ? all : one) + XZ_OVERHEAD;
}

static int xz_open(
	struct reader *in, const struct decode_env *env, struct reader **ret, struct error *err)
{
	static const struct codec_ops ops = {
		.peek = PEEK, .begin = xz_begin, .step = xz_step, .free = xz_free};
	struct xz *x;
	uint8_t first[PEEK];
	int len;

	len = reader_peek(in, first, sizeof(first), err);
	if (len < 0) {
		reader_close(in);
		return len;
	}
	x = zalloc(sizeof(*x));
	x->strm = (lzma_stream)LZMA_STREAM_INIT;
	x->codec.decoder = &xz_decoder;
	x->codec.ops = &ops;
	return codec_open(&x->codec, in, env, memory_to_reserve(first, (size_t)len, env), ret, err);
}

const struct decoder xz_decoder = {
	.name = "xz",
	.suffixes = ".xz",
	.magic_bytes = 6,
	.matches = xz_matches,
	.open = xz_open,
};
