/* SPDX-License-Identifier: MIT */
/* The stored form of objects.
 *
 * First the table of frames at the end of each object, in the format of zstd's
 * contrib/seekable_format. A pack is named by the digest of its raw bytes, which does not depend on
 * the compressor. So a creation that finds the pack in the store reads the table of the stored
 * object, and need not compress in exactly the same way. */
#include "create_private.h"
#include "defer.h"
#include <errno.h>
#include <string.h>
#include <zstd.h>

#define SKIPPABLE_MAGIC 0x184D2A5Eu /* one of the sixteen magic numbers */
#define SEEKABLE_MAGIC  0x8F92EAB1u

static uint8_t *put32(uint8_t *to, uint32_t n)
{
	for (int i = 0; i < 4; i++)
		*to++ = (uint8_t)(n >> 8 * i);
	return to;
}

static uint32_t get32(const uint8_t *from)
{
	return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

void frames_write_seek_table(uint8_t *out, const struct index_frame *list, size_t n)
{
	out = put32(out, SKIPPABLE_MAGIC);
	out = put32(out, (uint32_t)(SEEK_TABLE_SIZE(n) - 8));
	for (size_t i = 0; i < n; i++) {
		out = put32(out, list[i].length);
		out = put32(out, list[i].raw);
	}
	out = put32(out, (uint32_t)n);
	*out++ = 0; /* no checksums in the table: each frame has its own */
	put32(out, SEEKABLE_MAGIC);
}

void frames_write_skippable(uint8_t *out, size_t len)
{
	put32(put32(out, SKIPPABLE_MAGIC + 1), (uint32_t)(len - 8));
	memset(out + 8, 0, len - 8);
}

/* Whether this is a valid table of n frames which, together with the frames, has size bytes. */
static bool parse_seek_table(const uint8_t *table, size_t n, uint64_t size, struct index_frame *ret)
{
	uint64_t at = 0;

	if (get32(table) != SKIPPABLE_MAGIC || get32(table + 4) != SEEK_TABLE_SIZE(n) - 8)
		return false;
	table += 8;
	for (size_t i = 0; i < n; i++, table += 8) {
		ret[i] = (struct index_frame){
			.offset = at, .length = get32(table), .raw = get32(table + 4)};
		at += ret[i].length;
	}
	return at + SEEK_TABLE_SIZE(n) == size;
}

int frames_read_seek_table(struct store_conn *store, const char *key, uint64_t size,
	struct index_frame **ret, size_t *ret_n, struct error *err)
{
	uint8_t footer[9];
	_free_ uint8_t *table = NULL;
	_free_ struct index_frame *list = NULL;
	size_t n;
	int code;

	if (size < SEEK_TABLE_SIZE(0))
		return error_set(err, -ERR_FORMAT, "%s is too short to be a pack", key);
	code = store_get(store, key, size - sizeof(footer), footer, sizeof(footer), err);
	if (code < 0)
		return code;
	n = get32(footer);
	if (get32(footer + 5) != SEEKABLE_MAGIC || footer[4] != 0 || SEEK_TABLE_SIZE(n) > size)
		return error_set(err, -ERR_FORMAT, "%s has no table of its frames", key);
	table = zalloc(SEEK_TABLE_SIZE(n));
	list = zalloc((n + 1) * sizeof(*list));
	code = store_get(store, key, size - SEEK_TABLE_SIZE(n), table, SEEK_TABLE_SIZE(n), err);
	if (code < 0)
		return code;
	if (!parse_seek_table(table, n, size, list))
		return error_set(err, -ERR_FORMAT, "the table of frames of %s is damaged", key);
	*ret = take_ptr(&list);
	*ret_n = n;
	return 0;
}

/* Compression of raw bytes. A sample shows whether a frame hardly compresses; such a frame is
 * compressed with the fast level, which costs almost no time. */

enum { LEVEL = 3, QUICK_LEVEL = -5 };
enum { SAMPLES = 4, SAMPLE_BYTES = 32 << 10 };

static ZSTD_CCtx *new_compressor(int level)
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
	f->zstd = new_compressor(LEVEL);
	f->quick = new_compressor(QUICK_LEVEL);
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

static size_t compressed_sample_size(struct frames *f, ZSTD_CCtx *z)
{
	size_t step = (f->raw_len - SAMPLE_BYTES) / (SAMPLES - 1), sum = 0;

	for (size_t i = 0; i < SAMPLES; i++) {
		size_t n = ZSTD_compress2(z, f->out + f->out_len, f->out_cap - f->out_len,
			f->raw + i * step, SAMPLE_BYTES);

		sum += ZSTD_isError(n) ? SAMPLE_BYTES : n;
	}
	return sum;
}

/* The slower level must save at least 5 % of what the fast one leaves. */
static ZSTD_CCtx *choose_compressor(struct frames *f)
{
	size_t quick;

	if (f->raw_len < 8 * (size_t)SAMPLES * SAMPLE_BYTES)
		return f->zstd;
	quick = compressed_sample_size(f, f->quick);
	return compressed_sample_size(f, f->zstd) >= quick - quick / 20 ? f->quick : f->zstd;
}

int frames_compress(struct frames *f, uint32_t *ret_len, struct error *err)
{
	size_t n;

	out_reserve(f, ZSTD_compressBound(f->raw_len));
	n = ZSTD_compress2(choose_compressor(f), f->out + f->out_len, f->out_cap - f->out_len,
		f->raw, f->raw_len);
	if (ZSTD_isError(n))
		return error_set(
			err, -EIO, "compress %zu bytes: %s", f->raw_len, ZSTD_getErrorName(n));
	f->out_len += n;
	*ret_len = (uint32_t)n;
	return 0;
}

static int cut_frame(struct frames *f, struct error *err)
{
	struct index_frame frame = {.offset = f->out_len, .raw = (uint32_t)f->raw_len};
	int code;

	if (f->raw_len == 0)
		return 0;
	sha256_update(&f->sha256, f->raw_len, f->raw);
	code = frames_compress(f, &frame.length, err);
	if (code < 0)
		return code;
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
	int code = f->raw_len == FRAME_RAW ? cut_frame(f, err) : 0;

	*ret = f->raw + f->raw_len;
	*ret_len = FRAME_RAW - f->raw_len;
	return code;
}

void frames_written(struct frames *f, size_t len)
{
	f->raw_len += len;
}

/* bytes NULL: zeros. */
static int append_raw(struct frames *f, const uint8_t *bytes, size_t len, struct error *err)
{
	uint8_t *to;
	size_t room;

	while (len > 0) {
		int code = frames_room(f, &to, &room, err);

		if (code < 0)
			return code;
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
	return append_raw(f, bytes, len, err);
}

int frames_zeros(struct frames *f, size_t len, struct error *err)
{
	return append_raw(f, NULL, len, err);
}

int frames_make_room(struct frames *f, uint64_t len, struct error *err)
{
	return f->raw_len > 0 && len > FRAME_RAW - f->raw_len ? cut_frame(f, err) : 0;
}

int frames_end(struct frames *f, struct error *err)
{
	int code = cut_frame(f, err);

	if (code < 0)
		return code;
	out_reserve(f, SEEK_TABLE_SIZE(f->n));
	frames_write_seek_table(f->out + f->out_len, f->list, f->n);
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

/* The frame writer: raw bytes that arrive in order are cut into frames, which several workers
 * compress at the same time. */

void frame_writer_begin(struct frame_writer *writer, struct create_workers *workers,
	struct create_large *l, struct create_item *first)
{
	*writer = (struct frame_writer){
		.workers = workers, .owner = create_job_new(JOB_STREAMED_OBJECT)};
	writer->owner->large = l;
	frame_writer_add_item(writer, first);
}

void frame_writer_add_item(struct frame_writer *writer, struct create_item *i)
{
	create_job_add(writer->owner, i, 0);
	i->job = writer->owner;
}

void frame_writer_done(struct frame_writer *writer)
{
	free(writer->raw);
	*writer = (struct frame_writer){0};
}

static int submit_frame(struct frame_writer *writer, bool is_last, struct error *err)
{
	struct create_job *job = create_job_new(JOB_STREAMED_FRAME);
	int code;

	job->owner = writer->owner;
	job->bytes = take_ptr(&writer->raw);
	job->len = writer->raw_len;
	job->number = writer->n_frames++;
	job->is_last = is_last;
	writer->raw_len = 0;
	code = create_workers_submit(writer->workers, job, err);
	if (code < 0)
		create_job_free(job);
	return code;
}

int frame_writer_make_room(struct frame_writer *writer, uint64_t len, struct error *err)
{
	return writer->raw_len > 0 && len > FRAME_RAW - writer->raw_len
		       ? submit_frame(writer, false, err)
		       : 0;
}

/* A full frame is submitted only when more bytes arrive, as the last one must be marked as such. */
int frame_writer_put(
	struct frame_writer *writer, const void *bytes, uint64_t len, struct error *err)
{
	const uint8_t *from = bytes;

	while (len > 0) {
		int code = writer->raw_len == FRAME_RAW ? submit_frame(writer, false, err) : 0;
		size_t n;

		if (code < 0)
			return code;
		if (writer->raw == NULL && (writer->raw = malloc(FRAME_RAW)) == NULL)
			return error_set(err, -ENOMEM, "no memory for a frame");
		n = len < FRAME_RAW - writer->raw_len ? (size_t)len : FRAME_RAW - writer->raw_len;
		if (from != NULL) {
			memcpy(writer->raw + writer->raw_len, from, n);
			from += n;
		} else {
			memset(writer->raw + writer->raw_len, 0, n);
		}
		writer->raw_len += n;
		writer->total += n;
		len -= n;
	}
	return 0;
}

int frame_writer_end(struct frame_writer *writer, struct error *err)
{
	int code = frame_writer_put(writer, NULL, TAR_END, err);

	if (code == 0)
		code = submit_frame(writer, true, err);
	frame_writer_done(writer);
	return code;
}
