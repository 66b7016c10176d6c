/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_READER_H
#define STAGERUN_READER_H

#include "block.h"
#include "error.h"

/* A stream of bytes that is pulled, one slice at a time. Sources, digests, decoders and read-ahead
 * are all readers over readers. One thread at a time uses a reader; calls may sleep.
 *
 * An error is sticky: after a failure every further call returns the same code. */

/* A size that is not known before the end is read. */
#define SIZE_UNKNOWN UINT64_MAX

struct reader;

struct reader_ops {
	/* 1: *ret has at least one byte, and a reference that the caller owns. 0: end of the
	 * stream. Negative: an error; *ret is untouched. */
	int (*next)(struct reader *r, struct slice *ret, struct error *err);
	/* Skips up to n bytes, more cheaply than by reading them. Returns the number of skipped
	 * bytes (may be 0), or a negative code. NULL: not supported. */
	int64_t (*skip)(struct reader *r, uint64_t n, struct error *err);
	void (*close)(struct reader *r);
};

/* Embedded as a member in every kind of reader; initialized by reader_init(). */
struct reader {
	const struct reader_ops *ops;
	const char *name;  /* for messages (a source's display name); borrowed */
	struct slice back; /* put back by reader_peek(), delivered before ops->next() */
	int failed;        /* the sticky code; 0: none */
	struct error why;
};

void reader_init(struct reader *r, const struct reader_ops *ops, const char *name);

/* The only caller of ops->next(), and with the same results. */
int reader_next(struct reader *r, struct slice *ret, struct error *err);

/* Copies up to n (<= 4096) bytes from the front into buf without consuming them. Returns their
 * number (less than n only at the end of the stream), or a negative code. */
int reader_peek(struct reader *r, void *buf, size_t n, struct error *err);

/* Returns the bytes that were read last to the front. Consumes s; its bytes are copied if others
 * have been put back already. */
void reader_put_back(struct reader *r, struct slice s);

/* Skips exactly n bytes; -ERR_TRUNCATED: the stream ends before. */
int reader_skip(struct reader *r, uint64_t n, struct error *err);

/* Reads exactly n bytes into buf; -ERR_TRUNCATED: the stream ends before. */
int reader_read(struct reader *r, void *buf, size_t n, struct error *err);

/* Reads to the end and discards the bytes; returns 0 or a negative code. */
int reader_drain(struct reader *r, struct error *err);

/* Accepts NULL. */
void reader_close(struct reader *r);

/* A reader that delivers len borrowed bytes once (tests, inline data). */
struct reader *reader_from_memory(const void *bytes, size_t len, const char *name);

#endif
