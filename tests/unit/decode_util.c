/* SPDX-License-Identifier: MIT */
/* Helpers for the tests of decoders: compression with the formats' own libraries, readers of
 * pieces, and a run through decode_open() that asserts what is true of every run. */
#include "decode_util.h"
#include "defer.h"
#include "log.h"
#include <bzlib.h>
#include <libdeflate.h>
#include <lz4frame.h>
#include <lzma.h>
#include <string.h>
#include <sys/mman.h>
#include <zstd.h>

static void gzip(struct text *to, const void *bytes, size_t len)
{
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
	size_t room = libdeflate_gzip_compress_bound(c, len);
	_free_ void *out = zalloc(room);

	text_add_bytes(to, out, libdeflate_gzip_compress(c, bytes, len, out, room));
	libdeflate_free_compressor(c);
}

static void zstd(struct text *to, const void *bytes, size_t len)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	size_t room = ZSTD_compressBound(len), n;
	_free_ void *out = zalloc(room);

	ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
	n = ZSTD_compress2(c, out, room, bytes, len);
	assert_false(ZSTD_isError(n));
	text_add_bytes(to, out, n);
	ZSTD_freeCCtx(c);
}

static void xz(struct text *to, const void *bytes, size_t len)
{
	size_t room = lzma_stream_buffer_bound(len), n = 0;
	_free_ void *out = zalloc(room);

	assert_int_equal(LZMA_OK,
		lzma_easy_buffer_encode(0, LZMA_CHECK_CRC64, NULL, bytes, len, out, &n, room));
	text_add_bytes(to, out, n);
}

static void lz4(struct text *to, const void *bytes, size_t len)
{
	LZ4F_preferences_t prefs = {
		.frameInfo = {.blockSizeID = LZ4F_max64KB,
			.contentChecksumFlag = LZ4F_contentChecksumEnabled},
	};
	size_t room = LZ4F_compressFrameBound(len, &prefs), n;
	_free_ void *out = zalloc(room);

	n = LZ4F_compressFrame(out, room, bytes, len, &prefs);
	assert_false(LZ4F_isError(n));
	text_add_bytes(to, out, n);
}

static void bzip2(struct text *to, const void *bytes, size_t len)
{
	unsigned room = (unsigned)(len + len / 100 + 600);
	_free_ char *out = zalloc(room);

	assert_int_equal(BZ_OK, BZ2_bzBuffToBuffCompress(out, &room, len > 0 ? (char *)bytes : "",
					(unsigned)len, 1, 0, 0));
	text_add_bytes(to, out, room);
}

const struct format formats[N_FORMATS] = {
	{"gzip", gzip},
	{"zstd", zstd},
	{"xz", xz},
	{"lz4", lz4},
	{"bzip2", bzip2},
};

void add_skippable(struct text *to)
{
	text_add_bytes(to, "\x53\x2a\x4d\x18\x04\0\0\0note", 12);
}

struct text sample(size_t len)
{
	struct text t = {0};
	uint32_t x = 12345;

	while (t.len < len) {
		x = x * 1664525 + 1013904223;
		text_addf(&t, "%u file-%u.txt\n", x >> 20, x >> 28);
	}
	t.len = len;
	return t;
}

struct pieces {
	struct reader base;
	const uint8_t *at;
	size_t left, piece;
	int fail;
};

static int pieces_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct pieces *p = container_of(r, struct pieces, base);
	size_t n = p->left < p->piece ? p->left : p->piece;

	if (n == 0)
		return p->fail == 0 ? 0 : error_set(err, p->fail, "the line is dead");
	*ret = (struct slice){.data = p->at, .len = n};
	p->at += n;
	p->left -= n;
	return 1;
}

static void pieces_close(struct reader *r)
{
	free(container_of(r, struct pieces, base));
}

struct reader *reader_in_pieces(const void *bytes, size_t len, size_t piece, int fail)
{
	static const struct reader_ops ops = {.next = pieces_next, .close = pieces_close};
	struct pieces *p = zalloc(sizeof(*p));

	reader_init(&p->base, &ops, "pieces");
	p->at = bytes;
	p->left = len;
	p->piece = piece;
	p->fail = fail;
	return &p->base;
}

static void read_all(struct reader *r, struct decoded *d)
{
	struct error again;
	struct slice s;

	while ((d->code = reader_next(r, &s, &d->err)) > 0) {
		assert_true(s.len > 0);
		text_add_bytes(&d->bytes, s.data, s.len);
		slice_drop(&s);
	}
	assert_int_equal(d->code, reader_next(r, &s, &again));
	reader_close(r);
}

struct decoded decode_reader(struct reader *in, uint64_t budget_bytes)
{
	struct budget *budget = budget_new(budget_bytes);
	struct decode_env env = {.budget = budget, .threads = 2};
	struct decoded d = {.format = "none"};
	const struct decoder *decoder;
	struct reader *r;

	d.code = decode_open(in, &env, &r, &decoder, &d.err);
	if (d.code == 0) {
		d.format = decoder != NULL ? decoder->name : "none";
		read_all(r, &d);
	}
	if (d.code < 0)
		assert_int_equal(d.code, d.err.code);
	assert_true(budget_try_reserve(budget, budget_stage_half(budget)));
	budget_release(budget, budget_stage_half(budget));
	budget_free(budget);
	return d;
}

struct decoded decode_bytes(const struct text *compressed)
{
	return decode_reader(
		reader_from_memory(compressed->s, compressed->len, "data"), USUAL_BUDGET);
}

void decoded_done(struct decoded *d)
{
	text_done(&d->bytes);
}

void assert_same_bytes(const struct text *want, const struct text *got)
{
	assert_int_equal(want->len, got->len);
	if (want->len > 0)
		assert_memory_equal(want->s, got->s, want->len);
}

static int log_fd = -1;

void log_catch(void)
{
	log_fd = memfd_create("log", MFD_CLOEXEC);
	assert_true(log_fd >= 0);
	log_setup(LOG_WARN, LOG_TEXT, log_fd);
}

char *log_caught(void)
{
	off_t len = lseek(log_fd, 0, SEEK_END);
	char *lines = zalloc((size_t)len + 1);

	assert_int_equal(len, pread(log_fd, lines, (size_t)len, 0));
	log_setup(LOG_WARN, LOG_TEXT, STDERR_FILENO);
	close(log_fd);
	log_fd = -1;
	return lines;
}
