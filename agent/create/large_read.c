/* SPDX-License-Identifier: MIT */
/* Where frames come from: a file that hands read side by side, or whoever streams. */
#include "large_private.h"
#include <errno.h>
#include <string.h>

/* Bytes of [at, at + len) of the tar that are in [begin, end): where they are in the frame, and how many. */
static size_t overlap(uint64_t at, size_t len, uint64_t begin, uint64_t end, size_t *ret_where)
{
	uint64_t from = begin > at ? begin : at, to = end < at + len ? end : at + len;

	*ret_where = (size_t)(from - at);
	return from < to ? (size_t)(to - from) : 0;
}

static int read_content(struct hand *h, const struct item *i, uint64_t offset, void *to, size_t len,
	struct error *err)
{
	const struct contents *contents = h->creation->contents;
	struct content from;
	int r;

	if ((r = contents->open(h, i, &from, err)) < 0)
		return r;
	r = contents->read(&from, offset, to, len, err);
	if (r == 0)
		r = contents->check(&from, err);
	contents->close(&from);
	if (r == 0)
		count(&h->creation->opts->progress->received, len);
	return r;
}

/* A frame of the tar into the hand's raw bytes; *ret_content: where the file's are, and how many. */
static int fill(
	struct hand *h, struct large *l, size_t frame, struct slice *ret_content, struct error *err)
{
	struct frames *f = h->frames;
	uint64_t at = (uint64_t)frame * FRAME_RAW, begin = l->header.len,
		 end = begin + l->item->size;
	size_t len = l->raw - at < FRAME_RAW ? (size_t)(l->raw - at) : FRAME_RAW, where, n;
	int r = 0;

	frames_begin(f);
	f->raw_len = len;
	if ((n = overlap(at, len, 0, begin, &where)) > 0)
		memcpy(f->raw + where, l->header.s + at, n);
	if ((n = overlap(at, len, end, l->raw, &where)) > 0)
		memset(f->raw + where, 0, n);
	n = overlap(at, len, begin, end, &where);
	*ret_content = (struct slice){.data = f->raw + where, .len = n};
	if (n > 0)
		r = read_content(h, l->item, at + where - begin, f->raw + where, n, err);
	return r;
}

int large_make_frame(
	struct hand *h, struct work *w, size_t number, struct work **ret_done, struct error *err)
{
	struct frame_of frame = {
		.owner = w, .number = number, .is_last = number == w->large->n_frames - 1};
	int r = fill(h, w->large, number, &frame.content, err);

	return r < 0 ? r : large_add(h, &frame, ret_done, err);
}

/* The bytes change places with the hand's own. */
int streamed_make_frame(struct hand *h, struct work *w, struct work **ret_done, struct error *err)
{
	struct frame_of frame = {.owner = w->owner, .number = w->number, .is_last = w->is_last};
	struct frames *f = h->frames;
	uint8_t *own = f->raw;
	int r;

	frames_begin(f);
	f->raw = w->bytes;
	f->raw_len = w->len;
	w->bytes = own;
	if (w->owner->large->is_pack)
		frame.content = (struct slice){.data = f->raw, .len = f->raw_len};
	work_free(w);
	r = large_add(h, &frame, ret_done, err);
	return r;
}
