/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_LARGE_PRIVATE_H
#define STAGERUN_CREATE_LARGE_PRIVATE_H

#include "frames.h"

/* An object that is made frame by frame: hands compress side by side, and do in turn what must be in order. */

struct large {
	/* Set at creation. */
	struct item *item; /* of a file that is read; NULL: frames are given */
	bool is_pack;      /* one PUT, named by its digest; else sent in parts */
	struct text header;
	uint64_t raw;    /* of the tar; 0 while it is not known */
	size_t n_frames; /* SIZE_MAX while it is not known */
	size_t part_size;
	size_t head_room; /* stored bytes at the start that are kept for the header; 0: it comes first */

	size_t turn; /* makers_await_turn(): the frame that is next */

	/* Whoever has the turn. */
	struct create_object *object;
	size_t frames_cap;
	struct sha256_ctx sha256; /* of the file; of a pack's raw bytes */
	uint8_t *part;
	size_t part_len;
	unsigned parts;      /* that are full */
	uint8_t *first_part; /* kept until the header is there */
	struct store_upload *upload;

	atomic_uint unfinished; /* parts that are being sent, and one for those to come */
	bool complete;
};

/* A full part on its way. */
struct part {
	uint8_t *bytes;
	size_t len;
	unsigned number;
};

/* Compresses the hand's raw bytes, the object's frame of that number; content: what of them large.sha256 is
 * about. Whoever ends last completes owner's object: *ret_done is owner then, and else NULL. */
struct frame_of {
	struct work *owner;
	size_t number;
	bool is_last;
	struct slice content;
};
int large_add(
	struct hand *h, const struct frame_of *frame, struct work **ret_done, struct error *err);

#endif
