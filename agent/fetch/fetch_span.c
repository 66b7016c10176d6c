/* SPDX-License-Identifier: MIT */
/* One range of one object, and the files in it: fetched with one request, then frame after frame decoded and
 * written. Workers. */
#include "fetch_private.h"
#include <errno.h>
#include <string.h>
#include <zstd.h>

static int read_range(
	struct fetch_worker *w, const char *key, const struct fetch_job *job, struct error *err)
{
	const struct fetch_options *opts = w->fetch->opts;
	int r = 0;

	if (w->hand == NULL)
		r = store_hand_open(opts->store, opts->cancel, &w->hand, err);
	if (r == 0)
		r = store_get(w->hand, key, job->offset, w->kit->packed, job->length, err);
	if (r == -ENOENT)
		error_set(err, r,
			"%s is not in the store: the version was deleted, or the store is damaged",
			key);
	return r;
}

int fetch_range(
	struct fetch_worker *w, const struct fetch_job *job, const char *name, struct error *err)
{
	uint32_t frame = job->kind == FETCH_SPAN ? job->part->items[job->first].entry->frame
						 : (uint32_t)job->first;
	const char *key = fetch_object_of(job->part, frame);
	struct progress *progress = w->fetch->opts->progress;
	int r = read_range(w, key, job, err);

	if (r < 0) {
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

int fetch_decode(struct fetch_worker *w, const struct fetch_job *job, uint32_t frame, uint8_t *raw,
	struct error *err)
{
	const struct index_frame *f = &job->part->index.frames[frame];
	size_t n = ZSTD_decompressDCtx(w->kit->decoder, raw, f->raw,
		w->kit->packed + (f->offset - job->offset), f->length);

	if (!ZSTD_isError(n) && n == f->raw)
		return 0;
	return error_set(err, -ERR_FORMAT, "the frame at byte %llu of %s is damaged: %s",
		(unsigned long long)f->offset, fetch_object_of(job->part, frame),
		ZSTD_isError(n) ? ZSTD_getErrorName(n) : "it is shorter than the index says");
}

/* The frame that lies decoded in the kit. */
struct decoded {
	const struct index_frame *frame; /* NULL: none */
};

static int need_frame(struct fetch_worker *w, const struct fetch_job *job, uint32_t number,
	struct decoded *d, struct error *err)
{
	const struct index_frame *f = &job->part->index.frames[number];
	int r;

	if (d->frame != NULL && d->frame->offset == f->offset && d->frame->raw == f->raw)
		return 0;
	d->frame = NULL;
	r = fetch_decode(w, job, number, w->kit->raw, err);
	if (r == 0)
		d->frame = f;
	return r;
}

/* A file that goes on in further frames. */
static int write_across(struct fetch_worker *w, const struct fetch_job *job,
	const struct fetch_item *item, struct decoded *d, struct error *err)
{
	const struct index_entry *e = item->entry;
	struct sha256_ctx sha256;
	uint64_t at = 0;
	int r = fetch_open_file(w->fetch, w->writer, item, err);

	sha256_init(&sha256);
	for (uint32_t i = e->frame; at < e->size && r == 0; i++) {
		size_t skip = at == 0 ? e->skip : 0, len;

		r = need_frame(w, job, i, d, err);
		if (r < 0)
			break;
		len = job->part->index.frames[i].raw - skip;
		if (len > e->size - at)
			len = (size_t)(e->size - at);
		sha256_update(&sha256, len, w->kit->raw + skip);
		r = fetch_write_piece(w->writer, e, at, w->kit->raw + skip, len, err);
		at += len;
	}
	return r < 0 ? r : fetch_close_file(w->writer, e, &sha256, err);
}

static int write_item(struct fetch_worker *w, const struct fetch_job *job,
	const struct fetch_item *item, struct decoded *d, struct error *err)
{
	const struct index_entry *e = item->entry;
	int r = need_frame(w, job, e->frame, d, err);

	if (r == 0 && e->size > job->part->index.frames[e->frame].raw - e->skip)
		r = write_across(w, job, item, d, err);
	else if (r == 0)
		r = fetch_write_file(w->fetch, w->writer, item, w->kit->raw + e->skip, err);
	if (r < 0 && r != -ECANCELED && strstr(err->msg, e->path) == NULL)
		error_prefix(err, "'%.300s'", e->path);
	return r;
}

static int write_items(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	struct decoded d = {0};
	int r = 0;

	for (size_t i = 0; i < job->n && r == 0; i++)
		r = write_item(w, job, &job->part->items[job->first + i], &d, err);
	return r;
}

int fetch_span(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	int r = fetch_range(w, job, job->part->items[job->first].entry->path, err);

	if (r == 0)
		r = fetch_begin_decoding(w->fetch, err);
	if (r < 0)
		return r;
	r = write_items(w, job, err);
	fetch_end_decoding(w->fetch);
	return r;
}
