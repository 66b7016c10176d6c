/* SPDX-License-Identifier: MIT */
/* The entries of one part of the index, turned into jobs: what has no content is made at once, the rest is
 * put in the order of the stored bytes and cut into ranges. The walk's. */
#include "fetch_private.h"
#include "text.h"
#include <stdlib.h>
#include <string.h>

/* A request costs about as much as so many bytes that nobody wants: 20 ms at 12 MB/s. */
#define GAP_MAX ((uint64_t)256 << 10)
/* Decoded bytes of one piece of a large file. */
#define PIECE_MAX ((size_t)8 << 20)

/* --- what has no frames --- */

static int plan_reference(struct fetch_part *p, const struct fetch_item *item, struct error *err)
{
	uint64_t size = item->entry->size, pieces = (size + PIECE_MAX - 1) / PIECE_MAX;
	struct fetch_large *l = NULL;
	int r = 0;

	if (p->fetch->bucket == NULL)
		return error_set(err, -ERR_FORMAT,
			"'%.300s' is an S3 object, and the manifest does not name its bucket",
			item->entry->path);
	if (pieces > 1)
		l = fetch_large_new(item, pieces);
	for (uint64_t at = 0; (at < size || at == 0) && r == 0; at += PIECE_MAX) {
		struct fetch_job *job = fetch_job_new(p, FETCH_REFERENCE);

		fetch_job_of_large(job, l, at / PIECE_MAX);
		job->item = *item;
		job->offset = at;
		job->length = size - at < PIECE_MAX ? (size_t)(size - at) : PIECE_MAX;
		r = fetch_put(p->fetch, job, err);
	}
	fetch_large_unref(l);
	return r;
}

/* 1: an earlier run has written it. Names come once, so that no worker has it in hand. */
static int is_there(struct fetch *f, const struct fetch_item *item, struct error *err)
{
	const struct meta m = fetch_meta(f, item->entry);

	return writer_has(f->writer, item->name, &m, item->entry->size, err);
}

static int make_empty(struct fetch *f, const struct fetch_item *item, struct error *err)
{
	const struct meta m = fetch_meta(f, item->entry);
	const struct slice nothing = {0};

	return crew_file(f->crew, f->writer, item->name, &m, &nothing, err);
}

static void add_link(struct fetch_part *p, const struct fetch_item *item)
{
	if (p->links == NULL)
		p->links = zalloc(p->index.n_entries * sizeof(*p->links));
	p->links[p->n_links++] = *item;
}

static int plan_file(struct fetch_part *p, const struct fetch_item *item, struct error *err)
{
	int r = is_there(p->fetch, item, err);

	if (r != 0)
		return r < 0 ? r : 0;
	if (item->entry->size == 0)
		return make_empty(p->fetch, item, err);
	p->items[p->n_items++] = *item;
	return 0;
}

static int plan_entry(struct fetch_part *p, const struct fetch_item *item, struct error *err)
{
	const struct index_entry *e = item->entry;
	struct fetch *f = p->fetch;
	const struct meta m = fetch_meta(f, e);
	int r;

	switch (e->type) {
	case INDEX_DIR:
		return crew_dir(f->crew, f->writer, item->name, &m, err);
	case INDEX_SYMLINK:
		return crew_symlink(f->crew, f->writer, item->name, e->target, &m, err);
	case INDEX_REFERENCE:
		r = is_there(f, item, err);
		return r == 0 ? plan_reference(p, item, err) : r < 0 ? r : 0;
	case INDEX_HARDLINK:
		if (fetch_select_target(f, e) == NULL)
			return plan_file(p, item, err);
		add_link(p, item);
		return 0;
	case INDEX_FILE:
		return plan_file(p, item, err);
	}
	return 0;
}

/* --- what has --- */

static int by_place(const void *a, const void *b, void *frames)
{
	const struct index_entry *x = ((const struct fetch_item *)a)->entry;
	const struct index_entry *y = ((const struct fetch_item *)b)->entry;
	const struct index_frame *f = (const struct index_frame *)frames + x->frame;
	const struct index_frame *g = (const struct index_frame *)frames + y->frame;

	if (f->object != g->object)
		return f->object < g->object ? -1 : 1;
	if (f->offset != g->offset)
		return f->offset < g->offset ? -1 : 1;
	return x->skip < y->skip ? -1 : x->skip > y->skip;
}

/* What was packed by one creation lies in the order of the walk already. */
static void sort(struct fetch_part *p)
{
	size_t i = 1;

	while (i < p->n_items && by_place(&p->items[i - 1], &p->items[i], p->index.frames) <= 0)
		i++;
	if (i < p->n_items)
		qsort_r(p->items, p->n_items, sizeof(*p->items), by_place, p->index.frames);
}

/* A range of frames that follow each other, in numbers and in bytes. */
struct range {
	uint64_t begin, end;
	size_t raw_most, raw; /* decoded bytes of one, of all */
};

static bool add_frame(struct range *r, const struct index_frame *first, const struct index_frame *f)
{
	if (f != first && (f->object != first->object || f->offset != r->end))
		return false;
	if (f == first)
		*r = (struct range){.begin = f->offset};
	r->end = f->offset + f->length;
	r->raw += f->raw;
	if (f->raw > r->raw_most)
		r->raw_most = f->raw;
	return true;
}

/* How many frames hold the entry. */
static size_t frames_of(const struct fetch_part *p, const struct index_entry *e)
{
	const struct index_frame *first = &p->index.frames[e->frame], *f = first;
	uint64_t end = first->raw_before + e->skip + e->size;

	while (f->raw_before + f->raw < end)
		f++;
	return (size_t)(f - first) + 1;
}

/* Whether one request, but no large one, brings all of it. */
static bool fits_in_span(const struct fetch_part *p, const struct index_entry *e, struct range *ret)
{
	const struct index_frame *first = &p->index.frames[e->frame];
	size_t n = frames_of(p, e);

	*ret = (struct range){0};
	for (size_t i = 0; i < n; i++) {
		if (!add_frame(ret, first, first + i))
			return false;
		if (i > 0 && ret->end - ret->begin > p->fetch->span_max)
			return false;
	}
	return true;
}

static bool extend(const struct fetch_part *p, struct range *span, const struct range *more)
{
	if (more->begin > span->end + GAP_MAX ||
		(more->end > span->end && more->end - span->begin > p->fetch->span_max))
		return false;
	if (more->end > span->end)
		span->end = more->end;
	if (more->raw_most > span->raw_most)
		span->raw_most = more->raw_most;
	return true;
}

/* The items from first on that one request brings; returns how many. */
static size_t gather(const struct fetch_part *p, size_t first, struct range *span)
{
	const struct index_frame *frames = p->index.frames;
	uint32_t object = frames[p->items[first].entry->frame].object;
	size_t n = 1;

	for (; first + n < p->n_items; n++) {
		const struct index_entry *e = p->items[first + n].entry;
		struct range more = {0};

		if (frames[e->frame].object != object || !fits_in_span(p, e, &more) ||
			!extend(p, span, &more))
			break;
	}
	return n;
}

static int plan_span(struct fetch_part *p, size_t *first, struct range *span, struct error *err)
{
	struct fetch_job *job = fetch_job_new(p, FETCH_SPAN);

	job->first = *first;
	job->n = gather(p, *first, span);
	job->offset = span->begin;
	job->length = (size_t)(span->end - span->begin);
	job->decoded = span->raw_most;
	*first += job->n;
	return fetch_put(p->fetch, job, err);
}

/* The frames from first on, fewer than n, that make one piece; returns how many. */
static size_t cut_piece(const struct fetch_part *p, size_t first, size_t n, struct range *ret)
{
	const struct index_frame *frames = &p->index.frames[first];
	size_t i = 0;

	while (i < n) {
		struct range more = *ret;

		if (!add_frame(&more, frames, &frames[i]))
			break;
		if (i > 0 && (more.raw > PIECE_MAX || more.end - more.begin > p->fetch->span_max))
			break;
		*ret = more;
		i++;
	}
	return i;
}

static uint64_t count_pieces(const struct fetch_part *p, const struct index_entry *e)
{
	size_t n = frames_of(p, e), pieces = 0;
	struct range piece = {0};

	for (size_t at = 0; at < n; pieces++)
		at += cut_piece(p, e->frame + at, n - at, &piece);
	return pieces;
}

static int plan_large(struct fetch_part *p, const struct fetch_item *item, struct error *err)
{
	const struct index_entry *e = item->entry;
	struct fetch_large *l = fetch_large_new(item, count_pieces(p, e));
	size_t n = frames_of(p, e), at = 0;
	int r = 0;

	for (uint64_t turn = 0; at < n && r == 0; turn++) {
		struct fetch_job *job = fetch_job_new(p, FETCH_PIECE);
		struct range piece = {0};

		fetch_job_of_large(job, l, turn);
		job->first = e->frame + at;
		job->n = cut_piece(p, job->first, n - at, &piece);
		job->offset = piece.begin;
		job->length = (size_t)(piece.end - piece.begin);
		job->decoded = piece.raw;
		at += job->n;
		r = fetch_put(p->fetch, job, err);
	}
	fetch_large_unref(l);
	return r;
}

static int plan_items(struct fetch_part *p, struct error *err)
{
	int r = 0;

	sort(p);
	for (size_t i = 0; i < p->n_items && r == 0;) {
		struct range span;

		if (fits_in_span(p, p->items[i].entry, &span))
			r = plan_span(p, &i, &span, err);
		else
			r = plan_large(p, &p->items[i++], err);
	}
	return r;
}

int fetch_plan_part(struct fetch_part *p, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < p->index.n_entries && r == 0; i++) {
		const struct index_entry *e = &p->index.entries[i];
		const struct fetch_item item = {.entry = e, .name = fetch_select(p->fetch, e)};

		fetch_parents_pass(p->fetch, e, item.name != NULL);
		if (item.name != NULL)
			r = fetch_parents_make(p->fetch, e, err);
		if (item.name != NULL && r == 0)
			r = plan_entry(p, &item, err);
	}
	return r < 0 ? r : plan_items(p, err);
}
