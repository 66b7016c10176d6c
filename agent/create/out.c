/* SPDX-License-Identifier: MIT */
/* Raw bytes that come in order, cut into frames that hands compress side by side. */
#include "out.h"
#include "defer.h"
#include "pack_tar.h"
#include <errno.h>
#include <string.h>

void out_begin(struct out *o, struct hands *hands, struct large *l, struct item *first)
{
	*o = (struct out){.hands = hands, .owner = work_new(WORK_OBJECT)};
	o->owner->large = l;
	out_add_item(o, first);
}

void out_add_item(struct out *o, struct item *i)
{
	work_add(o->owner, i, 0);
	i->work = o->owner;
}

void out_done(struct out *o)
{
	free(o->raw);
	*o = (struct out){0};
}

static int give_frame(struct out *o, bool is_last, struct error *err)
{
	struct work *w = work_new(WORK_FRAME);
	int r;

	w->owner = o->owner;
	w->bytes = take_ptr(&o->raw);
	w->len = o->raw_len;
	w->number = o->frames++;
	w->is_last = is_last;
	o->raw_len = 0;
	r = makers_give(o->hands, w, err);
	if (r < 0)
		work_free(w);
	return r;
}

int out_make_room(struct out *o, uint64_t len, struct error *err)
{
	return o->raw_len > 0 && len > FRAME_RAW - o->raw_len ? give_frame(o, false, err) : 0;
}

/* A frame that is full is given once there is more, as the last one has to be given as that. */
int out_put(struct out *o, const void *bytes, uint64_t len, struct error *err)
{
	const uint8_t *from = bytes;
	int r;

	while (len > 0) {
		size_t n;

		if (o->raw_len == FRAME_RAW && (r = give_frame(o, false, err)) < 0)
			return r;
		if (o->raw == NULL && (o->raw = malloc(FRAME_RAW)) == NULL)
			return error_set(err, -ENOMEM, "no memory for a frame");
		n = len < FRAME_RAW - o->raw_len ? (size_t)len : FRAME_RAW - o->raw_len;
		if (from != NULL) {
			memcpy(o->raw + o->raw_len, from, n);
			from += n;
		} else {
			memset(o->raw + o->raw_len, 0, n);
		}
		o->raw_len += n;
		o->total += n;
		len -= n;
	}
	return 0;
}

int out_end(struct out *o, struct error *err)
{
	int r = out_put(o, NULL, TAR_END, err);

	if (r == 0)
		r = give_frame(o, true, err);
	out_done(o);
	return r;
}
