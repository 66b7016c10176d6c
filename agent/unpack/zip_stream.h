/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_STREAM_H
#define STAGERUN_ZIP_STREAM_H

#include "reader.h"
#include "zip.h"

/* The zip's bytes in order, with their position. The walking thread's. */
struct zip_stream {
	struct reader *in;
	uint64_t at;
	struct slice left;                                /* got from in and not yet passed on */
	int (*before_wait)(void *ctx, struct error *err); /* before in is asked for more */
	void *ctx;
	uint8_t *
		joined; /* a header's names and extra fields that lay in two slices; NULL: none yet */
};

void zip_stream_done(struct zip_stream *s);

/* Moves to the local header of e, checks that it agrees with e, and moves on to e's data. */
int zip_stream_enter(struct zip_stream *s, const struct zip_entry *e, struct error *err);

/* The next bytes of the data, at most max of them (> 0). */
int zip_stream_next(struct zip_stream *s, uint64_t max, struct slice *ret, struct error *err);

#endif
