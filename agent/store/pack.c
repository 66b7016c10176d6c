/* SPDX-License-Identifier: MIT */
/* A pack: a tar of small files, compressed in memory, and sent when the store does not have it. A hand's. */
#include "defer.h"
#include "frames.h"
#include "pack_tar.h"
#include "sha256_hex.h"
#include <errno.h>
#include <string.h>

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

static void name_it(struct frames *f, struct create_object *o)
{
	char hex[65];

	sha256_finish_hex(&f->sha256, hex);
	snprintf(o->key, sizeof(o->key), "packs/%.2s/%s.tar.zst", hex, hex);
}

static int send(struct hand *h, struct create_object *o, struct error *err)
{
	struct frames *f = h->frames;
	struct sha256_ctx stored;
	int r = store_put(h->store, o->key, f->out, f->out_len, err);

	if (r < 0)
		return r;
	count(&h->creation->sent_bytes, f->out_len);
	sha256_init(&stored);
	sha256_update(&stored, f->out_len, f->out);
	sha256_finish_hex(&stored, o->sha256);
	o->bytes = f->out_len;
	o->frames = f->list;
	o->n_frames = f->n;
	f->list = NULL;
	f->n = f->cap = 0;
	return 0;
}

/* What is there may be the work of another compressor: its own table says where things are. One without a
 * table, or for other bytes, is no pack of ours and is replaced. */
static int use_what_is_there(struct hand *h, struct create_object *o, struct error *err)
{
	uint64_t raw = 0;
	int r = seek_table_read(h->store, o->key, o->bytes, &o->frames, &o->n_frames, err);

	if (r == -ERR_FORMAT)
		return send(h, o, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < o->n_frames; i++)
		raw += o->frames[i].raw;
	if (raw == h->frames->raw_total)
		return 0;
	free(o->frames);
	return send(h, o, err);
}

static int store_it(struct hand *h, struct create_object *o, struct error *err)
{
	int has = store_has(h->store, o->key, &o->bytes, err);

	if (has < 0)
		return has;
	return has > 0 ? use_what_is_there(h, o, err) : send(h, o, err);
}

int pack_make(struct hand *h, struct work *w, struct error *err)
{
	struct create_object *o;
	int r = build(h, w, err);

	if (r < 0)
		return r;
	o = zalloc(sizeof(*o));
	name_it(h->frames, o);
	o->raw = h->frames->raw_total;
	r = store_it(h, o, err);
	if (r < 0) {
		create_object_free(o);
		return r;
	}
	w->object = o;
	return 0;
}
