/* SPDX-License-Identifier: MIT */
/* Files of many frames: pieces are fetched and decoded side by side, and written and digested in order, by
 * whichever worker has the piece whose turn it is. Workers. */
#include "fetch_private.h"
#include <string.h>

/* Whose turn it is, or who comes last, has the writer to itself. */
static int write_in_order(struct fetch *f, const struct fetch_job *job, const uint8_t *bytes,
	size_t len, struct error *err)
{
	struct fetch_large *l = job->large;
	const struct index_entry *e = l->item.entry;
	int r = 0;

	if (l->writer == NULL) {
		l->writer = writer_new(f->tree, f->name, f->opts->progress);
		r = fetch_open_file(f, l->writer, &l->item, err);
	}
	if (r < 0)
		return r;
	if (e->sha256 != NULL)
		sha256_update(&l->sha256, len, bytes);
	r = fetch_write_piece(l->writer, e, l->written, bytes, len, err);
	l->written += len;
	if (r == 0 && job->turn + 1 == l->pieces)
		r = fetch_close_file(l->writer, e, &l->sha256, err);
	return r;
}

int fetch_write_turn(struct fetch_worker *w, const struct fetch_job *job, const uint8_t *bytes,
	size_t len, struct error *err)
{
	int r = fetch_await_turn(w->fetch, job->large, job->turn, err);

	if (r == 0)
		r = write_in_order(w->fetch, job, bytes, len, err);
	if (r == 0)
		fetch_next_turn(w->fetch, job->large);
	return r;
}

static int decode_frames(
	struct fetch_worker *w, const struct fetch_job *job, size_t *ret_len, struct error *err)
{
	size_t at = 0;
	int r = fetch_begin_decoding(w->fetch, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < job->n && r == 0; i++) {
		uint32_t frame = (uint32_t)(job->first + i);

		r = fetch_decode(w, job, frame, w->kit->raw + at, err);
		at += job->part->index.frames[frame].raw;
	}
	fetch_end_decoding(w->fetch);
	*ret_len = at;
	return r;
}

static int decode_and_write(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	const struct index_entry *e = job->large->item.entry;
	const struct index_frame *frames = job->part->index.frames;
	uint64_t before = frames[job->first].raw_before - frames[e->frame].raw_before;
	size_t skip = before == 0 ? e->skip : 0, len = 0;
	uint64_t left = e->size - (before == 0 ? 0 : before - e->skip);
	int r = decode_frames(w, job, &len, err);

	if (r < 0)
		return r;
	len -= skip;
	if (len > left)
		len = (size_t)left;
	return fetch_write_turn(w, job, w->kit->raw + skip, len, err);
}

int fetch_piece(struct fetch_worker *w, const struct fetch_job *job, struct error *err)
{
	const char *path = job->large->item.entry->path;
	int r = fetch_range(w, job, path, err);

	if (r == 0)
		r = decode_and_write(w, job, err);
	if (r < 0 && strstr(err->msg, path) == NULL)
		error_prefix(err, "'%.300s'", path);
	return r;
}
