/* SPDX-License-Identifier: MIT */
/* Writes content into the tree. The digest of a whole file is checked before the file is created,
 * while its bytes are still in the processor's cache. Workers. */
#include "digest.h"
#include "fetch_private.h"
#include "s3.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>

/* Zeros of this length become a hole: a page of the file. */
enum { HOLE_BYTES = 4096 };

struct meta fetch_meta(const struct fetch *f, const struct index_entry *e)
{
	struct meta m = {.mode = e->mode, .mtime = e->mtime, .uid = f->uid, .gid = f->gid};

	if (f->opts->read_only)
		m.mode &= (mode_t) ~(S_IWUSR | S_IWGRP | S_IWOTH);
	return m;
}

static int wrong_digest(const struct index_entry *e, const char *got, struct error *err)
{
	return error_set(err, -ERR_DIGEST,
		"'%.300s' is damaged in the store: its SHA-256 is %s, and %s was stored", e->path,
		got, e->sha256);
}

static int check_digest(const struct index_entry *e, const uint8_t *bytes, struct error *err)
{
	char got[65];

	if (e->sha256 == NULL)
		return 0;
	digest_hex(bytes, (size_t)e->size, got);
	return strcmp(got, e->sha256) == 0 ? 0 : wrong_digest(e, got, err);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return len > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* Returns how many bytes from offset on are only pages of zeros (*ret_zero), or only other
 * pages. */
static size_t run_length(uint64_t offset, const uint8_t *bytes, size_t len, bool *ret_zero)
{
	size_t n = 0;

	while (n < len) {
		size_t page = HOLE_BYTES - (size_t)((offset + n) % HOLE_BYTES);
		bool zero;

		if (page > len - n)
			page = len - n;
		zero = is_zero(bytes + n, page);
		if (n == 0)
			*ret_zero = zero;
		else if (zero != *ret_zero)
			break;
		n += page;
	}
	return n;
}

static int write_with_holes(
	struct writer *w, uint64_t offset, const uint8_t *bytes, size_t len, struct error *err)
{
	int code = 0;

	while (len > 0 && code == 0) {
		bool zero = false;
		size_t n = run_length(offset, bytes, len, &zero);

		if (!zero)
			code = writer_file_write(w, offset, bytes, n, err);
		offset += n;
		bytes += n;
		len -= n;
	}
	return code;
}

static int fetch_open_file(
	const struct fetch *f, struct writer *w, const struct fetch_item *item, struct error *err)
{
	const struct meta m = fetch_meta(f, item->entry);
	int code = crew_await(f->crew, item->name, err);

	return code < 0 ? code : writer_file_open(w, item->name, &m, item->entry->size, false, err);
}

static int fetch_write_piece(struct writer *w, const struct index_entry *e, uint64_t offset,
	const uint8_t *bytes, size_t len, struct error *err)
{
	if (e->sparse)
		return write_with_holes(w, offset, bytes, len, err);
	return writer_file_write(w, offset, bytes, len, err);
}

/* A file in pieces, in the order of their offsets. fetch_close_file() checks the digest. */
static int fetch_close_file(
	struct writer *w, const struct index_entry *e, struct sha256_ctx *sha256, struct error *err)
{
	char got[65];

	digest_finish(sha256, got);
	if (e->sha256 != NULL && strcmp(got, e->sha256) != 0)
		return wrong_digest(e, got, err);
	return writer_file_close(w, err);
}

static int write_sparse(const struct fetch *f, struct writer *w, const struct fetch_item *item,
	const uint8_t *bytes, struct error *err)
{
	int code = fetch_open_file(f, w, item, err);

	if (code == 0)
		code = write_with_holes(w, 0, bytes, (size_t)item->entry->size, err);
	return code < 0 ? code : writer_file_close(w, err);
}

/* Writes a whole file, after its digest is checked. */
static int fetch_write_file(const struct fetch *f, struct writer *w, const struct fetch_item *item,
	const uint8_t *bytes, struct error *err)
{
	const struct index_entry *e = item->entry;
	const struct slice content = {.data = bytes, .len = (size_t)e->size};
	const struct meta m = fetch_meta(f, e);
	int code = check_digest(e, bytes, err);

	if (code < 0)
		return code;
	if (e->sparse)
		return write_sparse(f, w, item, bytes, err);
	return crew_file(f->crew, w, item->name, &m, &content, err);
}

/* What the workers do with a job: fetch a range, decode its frames and write the files in it.
 *
 * A range with whole files: it is fetched with one request, and then decoded and written frame by
 * frame. */

static int read_range(
	struct fetch_worker *w, const char *key, const struct fetch_job *job, struct error *err)
{
	const struct fetch_options *opts = w->fetch->opts;
	int code = 0;

	if (w->store == NULL)
		code = store_conn_open(opts->store, opts->cancel, &w->store, err);
	if (code == 0)
		code = store_get(w->store, key, job->offset, w->buffers->packed, job->length, err);
	if (code == -ENOENT)
		error_set(err, code,
			"%s is not in the store: the version was deleted, or the store is damaged",
			key);
	return code;
}

static int fetch_job_range(
	struct fetch_worker *w, const struct fetch_job *job, const char *name, struct error *err)
{
	uint32_t frame = job->kind == FETCH_SPAN ? job->part->items[job->first].entry->frame
						 : (uint32_t)job->first;
	const char *key = fetch_object_of(job->part, frame);
	struct progress *progress = w->fetch->opts->progress;
	int code = read_range(w, key, job, err);

	if (code < 0) {
		if (strstr(err->msg, key) == NULL)
			error_prefix(err, "%s", key);
		return error_prefix(err, "'%.300s'", name);
	}
	if (progress != NULL) {
		count(&progress->received, job->length);
		count(&progress->consumed, job->length);
	}
	return 0;
}

/* Decodes one frame of the job's range, which is in the buffers, into raw. */
static int decode_frame(struct fetch_worker *w, const struct fetch_job *job, uint32_t frame,
	uint8_t *raw, struct error *err)
{
	const struct index_frame *f = &job->part->index.frames[frame];
	size_t n = ZSTD_decompressDCtx(w->buffers->decoder, raw, f->raw,
		w->buffers->packed + (f->offset - job->offset), f->length);

	if (!ZSTD_isError(n) && n == f->raw)
		return 0;
	return error_set(err, -ERR_FORMAT, "the frame at byte %llu of %s is damaged: %s",
		(unsigned long long)f->offset, fetch_object_of(job->part, frame),
		ZSTD_isError(n) ? ZSTD_getErrorName(n) : "it is shorter than the index says");
}

/* The frame that is decoded in buffers->raw. */
struct decoded_frame {
	const struct index_frame *frame; /* NULL: none */
};

static int load_frame(struct fetch_worker *w, const struct fetch_job *job, uint32_t number,
	struct decoded_frame *d, struct error *err)
{
	const struct index_frame *f = &job->part->index.frames[number];
	int code;

	if (d->frame != NULL && d->frame->offset == f->offset && d->frame->raw == f->raw)
		return 0;
	d->frame = NULL;
	code = decode_frame(w, job, number, w->buffers->raw, err);
	if (code == 0)
		d->frame = f;
	return code;
}

/* Writes a file that spans several frames. */
static int write_across(struct fetch_worker *w, const struct fetch_job *job,
	const struct fetch_item *item, struct decoded_frame *d, struct error *err)
{
	const struct index_entry *e = item->entry;
	struct sha256_ctx sha256;
	uint64_t at = 0;
	int code = fetch_open_file(w->fetch, w->writer, item, err);

	sha256_init(&sha256);
	for (uint32_t i = e->frame; at < e->size && code == 0; i++) {
		size_t skip = at == 0 ? e->skip : 0, len;

		code = load_frame(w, job, i, d, err);
		if (code < 0)
			break;
		len = job->part->index.frames[i].raw - skip;
		if (len > e->size - at)
			len = (size_t)(e->size - at);
		sha256_update(&sha256, len, w->buffers->raw + skip);
		code = fetch_write_piece(w->writer, e, at, w->buffers->raw + skip, len, err);
		at += len;
	}
	return code < 0 ? code : fetch_close_file(w->writer, e, &sha256, err);
}

static int write_item(struct fetch_worker *w, const struct fetch_job *job,
	const struct fetch_item *item, struct decoded_frame *d, struct error *err)
{
	const struct index_entry *e = item->entry;
	int code = load_frame(w, job, e->frame, d, err);

	if (code == 0 && e->size > job->part->index.frames[e->frame].raw - e->skip)
		code = write_across(w, job, item, d, err);
	else if (code == 0)
		code = fetch_write_file(w->fetch, w->writer, item, w->buffers->raw + e->skip, err);
	if (code < 0 && code != -ECANCELED && strstr(err->msg, e->path) == NULL)
		error_prefix(err, "'%.300s'", e->path);
	return code;
}

static int write_items(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	struct decoded_frame d = {0};
	int code = 0;

	for (size_t i = 0; i < job->n && code == 0; i++)
		code = write_item(w, job, &job->part->items[job->first + i], &d, err);
	return code;
}

int fetch_span(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	int code = fetch_job_range(w, job, job->part->items[job->first].entry->path, err);

	if (code == 0)
		code = fetch_begin_decoding(w->fetch, err);
	if (code < 0)
		return code;
	code = write_items(w, job, err);
	fetch_end_decoding(w->fetch);
	return code;
}

/* Large files: pieces are fetched and decoded at the same time by several workers. Each worker
 * writes and digests its piece in its turn. */

/* The worker whose turn it is has the writer to itself. */
static int write_in_order(struct fetch *f, const struct fetch_job *job, const uint8_t *bytes,
	size_t len, struct error *err)
{
	struct fetch_large *l = job->large;
	const struct index_entry *e = l->item.entry;
	int code = 0;

	if (l->writer == NULL) {
		l->writer = writer_new(f->tree, f->name, f->opts->progress);
		code = fetch_open_file(f, l->writer, &l->item, err);
	}
	if (code < 0)
		return code;
	if (e->sha256 != NULL)
		sha256_update(&l->sha256, len, bytes);
	code = fetch_write_piece(l->writer, e, l->written, bytes, len, err);
	l->written += len;
	if (code == 0 && job->turn + 1 == l->pieces)
		code = fetch_close_file(l->writer, e, &l->sha256, err);
	return code;
}

/* Waits for the turn of the job's piece, and writes it. */
static int write_in_turn(struct fetch_worker *w, const struct fetch_job *job, const uint8_t *bytes,
	size_t len, struct error *err)
{
	struct fetch *f = w->fetch;
	int code = workers_await_turn(&f->pool, &f->changed, &job->large->turn, job->turn, err);

	if (code == 0)
		code = write_in_order(f, job, bytes, len, err);
	if (code == 0)
		workers_next_turn(&f->pool, &f->changed, &job->large->turn);
	return code;
}

static int decode_frames(
	struct fetch_worker *w, const struct fetch_job *job, size_t *ret_len, struct error *err)
{
	size_t at = 0;
	int code = fetch_begin_decoding(w->fetch, err);

	if (code < 0)
		return code;
	for (size_t i = 0; i < job->n && code == 0; i++) {
		uint32_t frame = (uint32_t)(job->first + i);

		code = decode_frame(w, job, frame, w->buffers->raw + at, err);
		at += job->part->index.frames[frame].raw;
	}
	fetch_end_decoding(w->fetch);
	*ret_len = at;
	return code;
}

static int decode_and_write(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	const struct index_entry *e = job->large->item.entry;
	const struct index_frame *frames = job->part->index.frames;
	uint64_t before = frames[job->first].raw_before - frames[e->frame].raw_before;
	size_t skip = before == 0 ? e->skip : 0, len = 0;
	uint64_t left = e->size - (before == 0 ? 0 : before - e->skip);
	int code = decode_frames(w, job, &len, err);

	if (code < 0)
		return code;
	len -= skip;
	if (len > left)
		len = (size_t)left;
	return write_in_turn(w, job, w->buffers->raw + skip, len, err);
}

int fetch_piece(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	const char *path = job->large->item.entry->path;
	int code = fetch_job_range(w, job, path, err);

	if (code == 0)
		code = decode_and_write(w, job, err);
	if (code < 0 && strstr(err->msg, path) == NULL)
		error_prefix(err, "'%.300s'", path);
	return code;
}

/* References: S3 objects that are not ours, so that only their ETag identifies their content. */

static int reference_changed(const struct fetch *f, const struct index_entry *e, struct error *err)
{
	return error_set(err, -ERR_REFUSED,
		"'%.300s' is no longer what version %u of %s refers to: s3://%s/%.300s was changed; create a new version",
		e->path, f->manifest->version, f->manifest->name, f->bucket, e->target);
}

/* Each range must belong to the version of the object that the index names. */
static int get_range(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	const struct fetch *f = w->fetch;
	const struct index_entry *e = job->item.entry;
	struct s3_object indexed = {.size = e->size}, got;
	size_t len = 0;
	int code;

	snprintf(indexed.etag, sizeof(indexed.etag), "%s", e->etag != NULL ? e->etag : "");
	if (job->length == 0) { /* an empty object has no range */
		code = s3_head(w->s3, f->bucket, e->target, &got, err);
		return code == 0 && s3_object_differs(&got, &indexed) ? -ERR_CHANGED : code;
	}
	code = s3_get(w->s3, f->bucket, e->target, job->offset, w->buffers->packed, job->length,
		&indexed, &len, NULL, err);
	return code == 0 && len < job->length ? -ERR_CHANGED : code;
}

static int get_reference(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	const struct fetch *f = w->fetch;
	const struct index_entry *e = job->item.entry;
	int code = 0;

	if (w->s3 == NULL && f->opts->s3 == NULL)
		return error_set(
			err, -ERR_CONFIG, "'%.300s' is in S3, which is not set up", e->path);
	if (w->s3 == NULL)
		code = s3_client_new(f->opts->s3, f->opts->cancel, &w->s3, err);
	if (code == 0)
		code = get_range(w, job, err);
	return code == -ERR_CHANGED || code == -ENOENT ? reference_changed(f, e, err) : code;
}

int fetch_reference(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	struct progress *progress = w->fetch->opts->progress;
	int code = get_reference(w, job, err);

	if (code == 0 && progress != NULL) {
		count(&progress->received, job->length);
		count(&progress->consumed, job->length);
	}
	if (code == 0 && job->large != NULL)
		code = write_in_turn(w, job, w->buffers->packed, job->length, err);
	else if (code == 0)
		code = fetch_write_file(w->fetch, w->writer, &job->item, w->buffers->packed, err);
	if (code < 0 && strstr(err->msg, job->item.entry->path) == NULL)
		error_prefix(err, "'%.300s'", job->item.entry->path);
	return code;
}
