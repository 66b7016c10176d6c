/* SPDX-License-Identifier: MIT */
/* A pack: a tar of small files, compressed in memory. A hand's. */
#include "defer.h"
#include "frames.h"
#include "pack_tar.h"
#include "stored_pack.h"
#include <errno.h>

/* Reads i's content behind what is in f; its digest is found on the way. */
static int add_bytes(struct frames *f, struct content *from, struct item *i, struct error *err)
{
	struct sha256_ctx sha256;
	uint64_t done = 0;
	int r;

	sha256_init(&sha256);
	while (done < i->size) {
		size_t room;
		uint8_t *to;

		if ((r = frames_room(f, &to, &room, err)) < 0)
			return r;
		if (room > i->size - done)
			room = (size_t)(i->size - done);
		if ((r = from->hand->creation->contents->read(from, done, to, room, err)) < 0)
			return r;
		sha256_update(&sha256, room, to);
		frames_written(f, room);
		done += room;
	}
	sha256_digest(&sha256, sizeof(i->sha256), i->sha256);
	return 0;
}

static int add_content(struct hand *h, struct item *i, struct error *err)
{
	const struct contents *contents = h->creation->contents;
	struct content from;
	int r;

	if ((r = contents->open(h, i, &from, err)) < 0)
		return r;
	i->at = frames_at(h->frames);
	r = add_bytes(h->frames, &from, i, err);
	if (r == 0)
		r = contents->check(&from, err);
	contents->close(&from);
	return r < 0 ? r : frames_zeros(h->frames, tar_padding(i->size), err);
}

static int add_member(struct hand *h, struct text *header, struct item *i, struct error *err)
{
	int r;

	header->len = 0;
	tar_header(header, i);
	if ((r = frames_make_room(h->frames,
		     header->len + (item_has_content(i) ? i->size + tar_padding(i->size) : 0),
		     err)) < 0 ||
		(r = frames_put(h->frames, header->s, header->len, err)) < 0)
		return r;
	if (!item_has_content(i))
		return 0;
	if ((r = add_content(h, i, err)) < 0)
		return r;
	count(&h->creation->opts->progress->received, i->size);
	return 0;
}

static int build(struct hand *h, struct work *w, struct error *err)
{
	struct text header = {0};
	int r = 0;

	frames_begin(h->frames);
	for (size_t n = 0; n < w->n && r == 0; n++)
		r = cancel_requested(h->creation->opts->cancel)
			    ? error_set(err, -ECANCELED, "cancelled")
			    : add_member(h, &header, w->items[n], err);
	text_done(&header);
	if (r == 0)
		r = frames_zeros(h->frames, TAR_END, err);
	return r < 0 ? r : frames_end(h->frames, err);
}

int pack_make(struct hand *h, struct work *w, struct error *err)
{
	struct frames *f = h->frames;
	int r = build(h, w, err);
	struct pack_bytes p = {.sha256 = &f->sha256,
		.bytes = f->out,
		.len = f->out_len,
		.raw = f->raw_total,
		.list = &f->list,
		.n = f->n};

	if (r == 0)
		r = pack_store(h, &p, &w->object, err);
	if (f->list == NULL)
		f->n = f->cap = 0;
	return r;
}
