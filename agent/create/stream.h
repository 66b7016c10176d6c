/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_STREAM_H
#define STAGERUN_CREATE_STREAM_H

#include "out.h"
#include "tree.h"

/* Entries of an archive, in its order and from several threads, on their way into packs. Where their content is
 * in memory or under way, what is known of them is kept; when all are there, they are brought into the index's
 * order. */

struct stream {
	/* Set at creation. */
	struct director *director;

	/* Under lock. */
	pthread_mutex_t mutex;
	struct out pack;
	struct item **items; /* in the order they came */
	size_t n, cap;
};

void stream_init(struct stream *s, struct director *d);
void stream_done(struct stream *s); /* frees the items that the index did not get */

/* A tree's sink, whose context is the stream. */
extern const struct tree_sink stream_sink;

/* Any thread. The hands, hired when the first entry is there: by then, who reads has reserved what it needs. */
int stream_hands(struct stream *s, struct hands **ret, struct error *err);
/* An item of its own: its content, whose digest it has, is all of bytes. Takes i, also when it fails. */
int stream_add_member(struct stream *s, struct item *i, const void *bytes, struct error *err);
/* One that has its place already. Takes i. */
void stream_drop(struct stream *s, struct item *i);
void stream_keep(struct stream *s, struct item *i);

/* stream_file.c: the sink's functions for files. */
int stream_file_open(void *ctx, const struct tree_sink_file *file, void **ret, struct error *err);
int stream_file_write(
	void *file, uint64_t offset, const void *bytes, size_t len, struct error *err);
int stream_file_close(void *file, struct error *err);
void stream_file_abandon(void *file);

/* stream_order.c. After the last entry: all of them into the index. */
int stream_finish(struct stream *s, struct error *err);

#endif
