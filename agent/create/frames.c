/* SPDX-License-Identifier: MIT */
/* Raw bytes into zstd frames. What hardly becomes smaller is found by a sample, and then costs almost no
 * time. */
#include "frames.h"
#include "defer.h"
#include <string.h>
#include <zstd.h>

enum { LEVEL = 3, QUICK_LEVEL = -5 };
enum { SAMPLES = 4, SAMPLE_BYTES = 32 << 10 };

static ZSTD_CCtx *compressor(int level)
{
	ZSTD_CCtx *z = ZSTD_createCCtx();

	if (z == NULL)
		abort();
	ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
	ZSTD_CCtx_setParameter(z, ZSTD_c_contentSizeFlag, 1);
	return z;
}

struct frames *frames_new(void)
{
	struct frames *f = zalloc(sizeof(*f));

	f->raw = malloc(FRAME_RAW);
	if (f->raw == NULL)
		abort();
	f->zstd = compressor(LEVEL);
	f->quick = compressor(QUICK_LEVEL);
	frames_begin(f);
	return f;
}

void frames_free(struct frames *f)
{
	if (f == NULL)
		return;
	ZSTD_freeCCtx(f->zstd);
	ZSTD_freeCCtx(f->quick);
	free(f->raw);
	free(f->out);
	free(f->list);
	free(f);
}

void frames_begin(struct frames *f)
{
	f->raw_len = f->out_len = f->n = 0;
	f->raw_total = 0;
	sha256_init(&f->sha256);
}

uint64_t frames_at(const struct frames *f)
{
	return f->raw_total + f->raw_len;
}

static void out_reserve(struct frames *f, size_t more)
{
	if (f->out_cap - f->out_len >= more)
		return;
	f->out_cap = f->out_len + more + (f->out_len + more) / 4;
	f->out = realloc(f->out, f->out_cap);
	if (f->out == NULL)
		abort();
}

static size_t sampled(struct frames *f, ZSTD_CCtx *z)
{
	size_t step = (f->raw_len - SAMPLE_BYTES) / (SAMPLES - 1), sum = 0;

	for (size_t i = 0; i < SAMPLES; i++) {
		size_t n = ZSTD_compress2(z, f->out + f->out_len, f->out_cap - f->out_len,
			f->raw + i * step, SAMPLE_BYTES);

		sum += ZSTD_isError(n) ? SAMPLE_BYTES : n;
	}
	return sum;
}

/* The slower way has to save a twentieth of what the quick one leaves. */
static ZSTD_CCtx *choose(struct frames *f)
{
	size_t quick;

	if (f->raw_len < 8 * (size_t)SAMPLES * SAMPLE_BYTES)
		return f->zstd;
	quick = sampled(f, f->quick);
	return sampled(f, f->zstd) >= quick - quick / 20 ? f->quick : f->zstd;
}

int frames_compress(struct frames *f, uint32_t *ret_len, struct error *err)
{
	size_t n;

	out_reserve(f, ZSTD_compressBound(f->raw_len));
	n = ZSTD_compress2(
		choose(f), f->out + f->out_len, f->out_cap - f->out_len, f->raw, f->raw_len);
	if (ZSTD_isError(n))
		return error_set(
			err, -EIO, "compress %zu bytes: %s", f->raw_len, ZSTD_getErrorName(n));
	f->out_len += n;
	*ret_len = (uint32_t)n;
	return 0;
}

int frames_cut(struct frames *f, struct error *err)
{
	struct index_frame frame = {.offset = f->out_len, .raw = (uint32_t)f->raw_len};
	int r;

	if (f->raw_len == 0)
		return 0;
	sha256_update(&f->sha256, f->raw_len, f->raw);
	if ((r = frames_compress(f, &frame.length, err)) < 0)
		return r;
	if (f->n == f->cap) {
		f->cap = f->cap * 2 + 16;
		f->list = realloc(f->list, f->cap * sizeof(*f->list));
		if (f->list == NULL)
			abort();
	}
	f->list[f->n++] = frame;
	f->raw_total += f->raw_len;
	f->raw_len = 0;
	return 0;
}

int frames_room(struct frames *f, uint8_t **ret, size_t *ret_len, struct error *err)
{
	int r = f->raw_len == FRAME_RAW ? frames_cut(f, err) : 0;

	*ret = f->raw + f->raw_len;
	*ret_len = FRAME_RAW - f->raw_len;
	return r;
}

void frames_written(struct frames *f, size_t len)
{
	f->raw_len += len;
}

/* bytes NULL: zeros. */
static int add(struct frames *f, const uint8_t *bytes, size_t len, struct error *err)
{
	uint8_t *to;
	size_t room;
	int r;

	while (len > 0) {
		if ((r = frames_room(f, &to, &room, err)) < 0)
			return r;
		if (room > len)
			room = len;
		if (bytes != NULL) {
			memcpy(to, bytes, room);
			bytes += room;
		} else {
			memset(to, 0, room);
		}
		frames_written(f, room);
		len -= room;
	}
	return 0;
}

int frames_put(struct frames *f, const void *bytes, size_t len, struct error *err)
{
	return add(f, bytes, len, err);
}

int frames_zeros(struct frames *f, size_t len, struct error *err)
{
	return add(f, NULL, len, err);
}

int frames_make_room(struct frames *f, uint64_t len, struct error *err)
{
	return f->raw_len > 0 && len > FRAME_RAW - f->raw_len ? frames_cut(f, err) : 0;
}

int frames_end(struct frames *f, struct error *err)
{
	int r = frames_cut(f, err);

	if (r < 0)
		return r;
	out_reserve(f, SEEK_TABLE_SIZE(f->n));
	seek_table_write(f->out + f->out_len, f->list, f->n);
	f->out_len += SEEK_TABLE_SIZE(f->n);
	return 0;
}

struct frame_range frames_locate(
	const struct index_frame *list, size_t n, uint64_t at, uint64_t size)
{
	struct frame_range r = {0};
	uint64_t begins = 0;
	size_t end;

	while (r.first < n && begins + list[r.first].raw <= at)
		begins += list[r.first++].raw;
	r.skip = (uint32_t)(at - begins);
	for (end = r.first; end < n && begins < at + size; end++)
		begins += list[end].raw;
	r.n = end - r.first;
	return r;
}
