/* SPDX-License-Identifier: MIT */
/* The entries of one part of the index become jobs. The calling thread's, except for the reference
 * counts.
 *
 * First what jobs share: parts of the index and large files, which are freed with the last job that
 * refers to them. Any thread. */
#include "fetch_private.h"
#include "text.h"
#include <stdlib.h>
#include <string.h>

struct fetch_part *fetch_part_new(struct fetch *f, struct index_part *index)
{
	struct fetch_part *p = zalloc(sizeof(*p));

	p->fetch = f;
	p->index = *index;
	*index = (struct index_part){0};
	atomic_init(&p->refs, 1);
	p->items = zalloc(p->index.n_entries * sizeof(*p->items));
	pthread_mutex_lock(&f->pool.mutex);
	f->n_parts++;
	pthread_mutex_unlock(&f->pool.mutex);
	return p;
}

void fetch_part_unref(struct fetch_part *p)
{
	struct fetch *f = p->fetch;

	if (atomic_fetch_sub(&p->refs, 1) > 1)
		return;
	index_part_done(&p->index);
	free(p->items);
	free(p->links);
	free(p);
	pthread_mutex_lock(&f->pool.mutex);
	f->n_parts--;
	workers_wake_all(&f->changed);
	pthread_mutex_unlock(&f->pool.mutex);
}

static struct fetch_large *fetch_large_new(const struct fetch_item *item, uint64_t pieces)
{
	struct fetch_large *l = zalloc(sizeof(*l));

	l->item = *item;
	l->pieces = pieces;
	sha256_init(&l->sha256);
	atomic_init(&l->refs, 1);
	return l;
}

static void fetch_large_unref(struct fetch_large *l)
{
	if (l == NULL || atomic_fetch_sub(&l->refs, 1) > 1)
		return;
	writer_close(l->writer);
	free(l);
}

static struct fetch_job *fetch_job_new(struct fetch_part *p, enum fetch_kind kind)
{
	struct fetch_job *job = zalloc(sizeof(*job));

	atomic_fetch_add(&p->refs, 1);
	job->part = p;
	job->kind = kind;
	return job;
}

static void set_piece(struct fetch_job *job, struct fetch_large *l, uint64_t turn)
{
	if (l == NULL)
		return;
	atomic_fetch_add(&l->refs, 1);
	job->large = l;
	job->turn = turn;
}

void fetch_job_free(struct fetch_job *job)
{
	fetch_large_unref(job->large);
	fetch_part_unref(job->part);
	free(job);
}

const char *fetch_object_of(const struct fetch_part *p, uint32_t frame)
{
	return p->index.objects[p->index.frames[frame].object];
}

/* Directories that are not selected but contain something that is. They get the modes and times of
 * the index, and are read-only if everything is. A directory precedes its content in the index, so
 * that a stack of the directories around the current entry is enough. */

struct fetch_parent {
	char *path;
	struct meta meta;
};

static bool is_above(const char *directory, const char *path)
{
	size_t len = strlen(directory);

	return strcmp(directory, ".") == 0 ||
	       (strncmp(directory, path, len) == 0 && path[len] == '/');
}

static bool may_leave_out(const struct fetch *f)
{
	const struct selection *s = f->opts->selection;

	return s != NULL && (s->include != NULL || s->exclude != NULL);
}

static void pop_parents(struct fetch *f, const char *path)
{
	while (f->n_parents > 0 && !is_above(f->parents[f->n_parents - 1].path, path))
		free(f->parents[--f->n_parents].path);
}

static void push_parent(struct fetch *f, const struct index_entry *e)
{
	if (f->n_parents == f->parents_cap) {
		f->parents_cap = f->parents_cap > 0 ? 2 * f->parents_cap : 16;
		f->parents = realloc(f->parents, f->parents_cap * sizeof(*f->parents));
		if (f->parents == NULL)
			abort();
	}
	f->parents[f->n_parents++] =
		(struct fetch_parent){.path = text_copy(e->path), .meta = fetch_meta(f, e)};
}

/* To be called for each entry, in order. Pushes a directory that is not selected. */
static void update_parents(struct fetch *f, const struct index_entry *e, bool is_selected)
{
	if (!may_leave_out(f))
		return;
	pop_parents(f, e->path);
	if (e->type == INDEX_DIR && !is_selected)
		push_parent(f, e);
}

static int make_parent(struct fetch *f, const struct fetch_parent *p, struct error *err)
{
	const struct selection strip = {.strip_components = f->opts->selection->strip_components};
	const char *name = select_apply(&strip, p->path);

	return name != NULL ? crew_dir(f->crew, f->writer, name, &p->meta, err) : 0;
}

static int make_parents(struct fetch *f, const struct index_entry *e, struct error *err)
{
	size_t n = 0;
	int code = 0;

	for (; n < f->n_parents && is_above(f->parents[n].path, e->path) && code == 0; n++) {
		code = make_parent(f, &f->parents[n], err);
		free(f->parents[n].path);
	}
	if (n == 0)
		return code;
	f->n_parents -= n; /* each is made once */
	memmove(f->parents, f->parents + n, f->n_parents * sizeof(*f->parents));
	return code;
}

void fetch_parents_done(struct fetch *f)
{
	while (f->n_parents > 0)
		free(f->parents[--f->n_parents].path);
	free(f->parents);
}

/* Planning. An entry without content is made at once. The others are sorted in the order of their
 * stored bytes and cut into ranges. */

/* A request takes about as long as fetching this many bytes in vain: 20 ms at 12 MB/s. */
#define GAP_MAX ((uint64_t)256 << 10)
/* Decoded bytes of one piece of a large file. */
#define PIECE_MAX ((size_t)8 << 20)

/* --- entries without frames --- */

static int plan_reference(struct fetch_part *p, const struct fetch_item *item, struct error *err)
{
	uint64_t size = item->entry->size, pieces = (size + PIECE_MAX - 1) / PIECE_MAX;
	struct fetch_large *l = NULL;
	int code = 0;

	if (p->fetch->bucket == NULL)
		return error_set(err, -ERR_FORMAT,
			"'%.300s' is an S3 object, and the manifest does not name its bucket",
			item->entry->path);
	if (pieces > 1)
		l = fetch_large_new(item, pieces);
	for (uint64_t at = 0; (at < size || at == 0) && code == 0; at += PIECE_MAX) {
		struct fetch_job *job = fetch_job_new(p, FETCH_REFERENCE);

		set_piece(job, l, at / PIECE_MAX);
		job->item = *item;
		job->offset = at;
		job->length = size - at < PIECE_MAX ? (size_t)(size - at) : PIECE_MAX;
		code = fetch_put(p->fetch, job, err);
	}
	fetch_large_unref(l);
	return code;
}

/* 1: an earlier run has written the file. Names are unique, so that no worker is writing it now. */
static int is_written(struct fetch *f, const struct fetch_item *item, struct error *err)
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
	int written = is_written(p->fetch, item, err);

	if (written != 0)
		return written < 0 ? written : 0;
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
	int written;

	switch (e->type) {
	case INDEX_DIR:
		return crew_dir(f->crew, f->writer, item->name, &m, err);
	case INDEX_SYMLINK:
		return crew_symlink(f->crew, f->writer, item->name, e->target, &m, err);
	case INDEX_REFERENCE:
		written = is_written(f, item, err);
		return written == 0 ? plan_reference(p, item, err) : written < 0 ? written : 0;
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

/* --- entries with frames --- */

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

/* What one creation packed lies in the order of the index already, and need not be sorted. */
static void sort_items(struct fetch_part *p)
{
	size_t i = 1;

	while (i < p->n_items && by_place(&p->items[i - 1], &p->items[i], p->index.frames) <= 0)
		i++;
	if (i < p->n_items)
		qsort_r(p->items, p->n_items, sizeof(*p->items), by_place, p->index.frames);
}

/* A range of frames that are consecutive in the index and in the bytes of the object. */
struct fetch_range {
	uint64_t begin, end;
	size_t raw_most, raw; /* decoded bytes: of the largest frame, of all */
};

static bool add_frame(
	struct fetch_range *r, const struct index_frame *first, const struct index_frame *f)
{
	if (f != first && (f->object != first->object || f->offset != r->end))
		return false;
	if (f == first)
		*r = (struct fetch_range){.begin = f->offset};
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

/* Whether one request of at most span_max (or of one frame) fetches the whole entry. */
static bool fits_in_span(
	const struct fetch_part *p, const struct index_entry *e, struct fetch_range *ret)
{
	const struct index_frame *first = &p->index.frames[e->frame];
	size_t n = frames_of(p, e);

	*ret = (struct fetch_range){0};
	for (size_t i = 0; i < n; i++) {
		if (!add_frame(ret, first, first + i))
			return false;
		if (i > 0 && ret->end - ret->begin > p->fetch->span_max)
			return false;
	}
	return true;
}

static bool extend_span(
	const struct fetch_part *p, struct fetch_range *span, const struct fetch_range *more)
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

/* Extends the span to the items after first that the same request can fetch. Returns the number of
 * items. */
static size_t gather_span(const struct fetch_part *p, size_t first, struct fetch_range *span)
{
	const struct index_frame *frames = p->index.frames;
	uint32_t object = frames[p->items[first].entry->frame].object;
	size_t n = 1;

	for (; first + n < p->n_items; n++) {
		const struct index_entry *e = p->items[first + n].entry;
		struct fetch_range more = {0};

		if (frames[e->frame].object != object || !fits_in_span(p, e, &more) ||
			!extend_span(p, span, &more))
			break;
	}
	return n;
}

static int plan_span(
	struct fetch_part *p, size_t *first, struct fetch_range *span, struct error *err)
{
	struct fetch_job *job = fetch_job_new(p, FETCH_SPAN);

	job->first = *first;
	job->n = gather_span(p, *first, span);
	job->offset = span->begin;
	job->length = (size_t)(span->end - span->begin);
	job->decoded = span->raw_most;
	*first += job->n;
	return fetch_put(p->fetch, job, err);
}

/* Returns how many of the n frames from first on make up one piece. */
static size_t cut_piece(const struct fetch_part *p, size_t first, size_t n, struct fetch_range *ret)
{
	const struct index_frame *frames = &p->index.frames[first];
	size_t i = 0;

	while (i < n) {
		struct fetch_range more = *ret;

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
	struct fetch_range piece = {0};

	for (size_t at = 0; at < n; pieces++)
		at += cut_piece(p, e->frame + at, n - at, &piece);
	return pieces;
}

static int plan_large(struct fetch_part *p, const struct fetch_item *item, struct error *err)
{
	const struct index_entry *e = item->entry;
	struct fetch_large *l = fetch_large_new(item, count_pieces(p, e));
	size_t n = frames_of(p, e), at = 0;
	int code = 0;

	for (uint64_t turn = 0; at < n && code == 0; turn++) {
		struct fetch_job *job = fetch_job_new(p, FETCH_PIECE);
		struct fetch_range piece = {0};

		set_piece(job, l, turn);
		job->first = e->frame + at;
		job->n = cut_piece(p, job->first, n - at, &piece);
		job->offset = piece.begin;
		job->length = (size_t)(piece.end - piece.begin);
		job->decoded = piece.raw;
		at += job->n;
		code = fetch_put(p->fetch, job, err);
	}
	fetch_large_unref(l);
	return code;
}

static int plan_items(struct fetch_part *p, struct error *err)
{
	int code = 0;

	sort_items(p);
	for (size_t i = 0; i < p->n_items && code == 0;) {
		struct fetch_range span;

		if (fits_in_span(p, p->items[i].entry, &span))
			code = plan_span(p, &i, &span, err);
		else
			code = plan_large(p, &p->items[i++], err);
	}
	return code;
}

int fetch_plan_part(struct fetch_part *p, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < p->index.n_entries && code == 0; i++) {
		const struct index_entry *e = &p->index.entries[i];
		const struct fetch_item item = {.entry = e, .name = fetch_select(p->fetch, e)};

		update_parents(p->fetch, e, item.name != NULL);
		if (item.name != NULL)
			code = make_parents(p->fetch, e, err);
		if (item.name != NULL && code == 0)
			code = plan_entry(p, &item, err);
	}
	return code < 0 ? code : plan_items(p, err);
}
