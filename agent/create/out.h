/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_OUT_H
#define STAGERUN_CREATE_OUT_H

#include "director.h"

/* An object whose raw bytes are given one after another; full frames go to the hands. One thread at a time. */

struct out {
	struct hands *hands;
	struct work *owner; /* WORK_OBJECT; its items' */
	uint8_t *raw;
	size_t raw_len, frames;
	uint64_t total;
};

/* first: what is in the object; without one nobody would free it. */
void out_begin(struct out *o, struct hands *hands, struct large *l, struct item *first);
void out_add_item(struct out *o, struct item *i);
void out_done(struct out *o); /* accepts a zeroed one */

/* bytes NULL: zeros. */
int out_put(struct out *o, const void *bytes, uint64_t len, struct error *err);
/* Begins another frame when len bytes do not fit into this one. */
int out_make_room(struct out *o, uint64_t len, struct error *err);
/* The end of the tar, and of the object; o is as zeroed then. */
int out_end(struct out *o, struct error *err);

#endif
