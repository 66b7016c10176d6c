/* SPDX-License-Identifier: MIT */
/* Objects made frame by frame: a large file, a tar with one member; a pack of what is streamed. Hands compress
 * side by side; what must be in order (digest, stored bytes) they do in turn. Whoever fills a part of a large
 * file sends it, while others go on. */
#include "defer.h"
#include "large_private.h"
#include "stored_pack.h"
#include <errno.h>
#include <string.h>

/* Parts over this are for files of hundreds of gigabytes, and are sent by whoever has the turn: others need no
 * such buffer. */
#define BIG_PART ((size_t)32 << 20)

static int send(struct hand *h, struct large *l, const struct part *p, struct error *err)
{
	int r = store_upload_part(h->store, l->upload, p->number, p->bytes, p->len, err);

	if (r == 0)
		count(&h->creation->sent_bytes, p->len);
	return r;
}

/* The full part of l: into p, to be sent once the turn is given on, or sent at once. */
static int take_part(struct hand *h, struct large *l, struct part *p, struct error *err)
{
	struct part full = {.bytes = l->part, .len = l->part_len, .number = ++l->parts};

	l->part_len = 0;
	if (l->head_room > 0 && full.number == 1 && full.len == l->part_size) {
		l->first_part = take_ptr(&l->part);
		return 0;
	}
	if (!l->is_pack && (p->len > 0 || l->part_size > BIG_PART))
		return send(h, l, &full, err);
	*p = full;
	l->part = l->part_size == STORE_PART_MIN ? take_ptr(&h->spare) : NULL;
	atomic_fetch_add(&l->unfinished, 1);
	return 0;
}

static int append(struct hand *h, struct large *l, const uint8_t *bytes, size_t len, struct part *p,
	struct error *err)
{
	int r = 0;

	while (len > 0 && r == 0) {
		size_t n = l->part_size - l->part_len < len ? l->part_size - l->part_len : len;

		if (l->part == NULL && (l->part = malloc(l->part_size)) == NULL)
			return error_set(
				err, -ENOMEM, "no memory for a part of %zu bytes", l->part_size);
		memcpy(l->part + l->part_len, bytes, n);
		l->part_len += n;
		bytes += n;
		len -= n;
		if (l->part_len == l->part_size)
			r = take_part(h, l, p, err);
	}
	return r;
}

static void add_to_list(struct large *l, struct index_frame frame)
{
	struct create_object *o = l->object;

	if (o->n_frames == l->frames_cap) {
		l->frames_cap = l->frames_cap * 2 + 16;
		o->frames = reallocarray(o->frames, l->frames_cap, sizeof(*o->frames));
		if (o->frames == NULL)
			abort();
	}
	frame.offset = o->bytes;
	o->frames[o->n_frames++] = frame;
	o->bytes += frame.length;
}

/* The header's frame, and behind it a skippable one that fills the room that was kept. */
static int put_head(struct hand *h, struct large *l, struct error *err)
{
	uint8_t *to = l->first_part != NULL ? l->first_part : l->part;
	struct part first = {.bytes = l->first_part, .len = l->part_size, .number = 1};
	uint32_t len;
	int r;

	frames_begin(h->frames);
	memcpy(h->frames->raw, l->header.s, l->header.len);
	h->frames->raw_len = l->header.len;
	if ((r = frames_compress(h->frames, &len, err)) < 0)
		return r;
	memcpy(to, h->frames->out, len);
	skippable_write(to + len, l->head_room - len);
	l->object->frames[0].raw = (uint32_t)l->header.len;
	return l->first_part != NULL ? send(h, l, &first, err) : 0;
}

/* The end of the object: the table, and the part that is not full. */
static int finish(struct hand *h, struct large *l, struct part *p, struct error *err)
{
	struct create_object *o = l->object;
	size_t len = SEEK_TABLE_SIZE(o->n_frames);
	_free_ uint8_t *table = zalloc(len);
	int r;

	if (l->head_room > 0 && (r = put_head(h, l, err)) < 0)
		return r;
	o->raw = 0;
	for (size_t i = 0; i < o->n_frames; i++)
		o->raw += o->frames[i].raw;
	seek_table_write(table, o->frames, o->n_frames);
	o->bytes += len;
	if ((r = append(h, l, table, len, p, err)) < 0)
		return r;
	if (l->item != NULL)
		sha256_digest(&l->sha256, sizeof(l->item->sha256), l->item->sha256);
	return l->part_len > 0 ? take_part(h, l, p, err) : 0;
}

/* Before the first frame. */
static int begin(struct hand *h, struct large *l, struct part *p, struct error *err)
{
	_free_ uint8_t *room = zalloc(l->head_room + 1);
	int r = l->is_pack ? 0 : store_upload_begin(h->store, l->object->key, &l->upload, err);

	if (r < 0 || l->head_room == 0)
		return r;
	add_to_list(l, (struct index_frame){.length = (uint32_t)l->head_room});
	return append(h, l, room, l->head_room, p, err);
}

/* What is done in turn. */
static int add_in_turn(struct hand *h, struct large *l, const struct frame_of *frame,
	struct part *p, struct error *err)
{
	struct frames *f = h->frames;
	int r = 0;

	if (frame->number == 0 && (r = begin(h, l, p, err)) < 0)
		return r;
	if (frame->content.len > 0)
		sha256_update(&l->sha256, frame->content.len, frame->content.data);
	add_to_list(l,
		(struct index_frame){.length = (uint32_t)f->out_len, .raw = (uint32_t)f->raw_len});
	r = append(h, l, f->out, f->out_len, p, err);
	return r == 0 && frame->is_last ? finish(h, l, p, err) : r;
}

/* Sends what the hand has taken; the buffer is its spare one then, for other large files with parts of this
 * size. */
static int send_taken(struct hand *h, struct large *l, const struct part *p, struct error *err)
{
	int r = send(h, l, p, err);

	if (h->spare == NULL && l->part_size == STORE_PART_MIN)
		h->spare = p->bytes;
	else
		free(p->bytes);
	return r;
}

static int store_whole(struct hand *h, struct work *owner, struct part *p, struct error *err)
{
	struct large *l = owner->large;
	const struct pack_bytes pack = {.sha256 = &l->sha256,
		.bytes = p->bytes,
		.len = p->len,
		.raw = l->object->raw,
		.list = &l->object->frames,
		.n = l->object->n_frames};
	int r = pack_store(h, &pack, &owner->object, err);

	free(p->bytes);
	return r;
}

/* Whoever ends last completes the object; after that it is not this hand's to look at. */
static int end_one(struct hand *h, struct work *owner, struct work **ret_done, struct error *err)
{
	struct large *l = owner->large;
	int r;

	if (atomic_fetch_sub(&l->unfinished, 1) > 1)
		return 0;
	if (!l->is_pack) {
		if ((r = store_upload_complete(h->store, l->upload, err)) < 0)
			return r;
		l->complete = true;
		owner->object = take_ptr(&l->object);
	}
	*ret_done = owner;
	return 0;
}

int large_add(
	struct hand *h, const struct frame_of *frame, struct work **ret_done, struct error *err)
{
	struct large *l = frame->owner->large;
	struct part taken = {0};
	bool is_last = frame->is_last;
	uint32_t len;
	int r;

	*ret_done = NULL;
	if ((r = frames_compress(h->frames, &len, err)) < 0)
		return r;
	if (!makers_await_turn(h->hands, &l->turn, frame->number))
		return error_set(err, -ECANCELED, "cancelled");
	r = add_in_turn(h, l, frame, &taken, err);
	if (r == 0)
		makers_next_turn(h->hands, &l->turn);
	if (r < 0 || taken.len == 0) {
		free(taken.bytes);
	} else {
		r = l->is_pack ? store_whole(h, frame->owner, &taken, err)
			       : send_taken(h, l, &taken, err);
		if (r == 0)
			r = end_one(h, frame->owner, ret_done, err);
	}
	return r == 0 && is_last ? end_one(h, frame->owner, ret_done, err) : r;
}
