/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_READER_H
#define STAGERUN_READER_H

#include "block.h"
#include "error.h"

/* A stream of bytes that is pulled, a slice at a time. Sources, digests, decoders and read-ahead are
 * all readers over readers. One thread uses a reader at a time; it may sleep.
 *
 * An error is sticky: after a failure every further call returns the same code. */

/* The size of something whose end is found by reading it. */
#define SIZE_UNKNOWN UINT64_MAX

struct reader;

struct reader_ops {
	/* 1: *ret holds at least one byte and a reference that is now the caller's. 0: the stream has
	 * ended. Negative: the error; *ret is untouched. */
	int (*next)(struct reader *r, struct slice *ret, struct error *err);
	/* Passes over up to n bytes without delivering them, cheaper than reading them; returns how
	 * many were passed over (0 is a fine answer), or a negative code. NULL: cannot. */
	int64_t (*skip)(struct reader *r, uint64_t n, struct error *err);
	void (*close)(struct reader *r);
};

/* Embedded as a member by every kind of reader; made with reader_init(). */
struct reader {
	const struct reader_ops *ops;
	const char *name;  /* what messages call this stream (a source's display name); borrowed */
	struct slice back; /* put back by reader_peek(), delivered before ops->next() */
	int failed;        /* the sticky code, 0 while all is well */
	struct error why;
};

void reader_init(struct reader *r, const struct reader_ops *ops, const char *name);

/* The only way to call ops->next(): 1 / 0 / negative as there. */
int reader_next(struct reader *r, struct slice *ret, struct error *err);

/* Copies up to n (<= 4096) bytes from the front into buf without consuming them. Returns how many
 * there are (fewer than n only at the end of the stream), or a negative code. */
int reader_peek(struct reader *r, void *buf, size_t n, struct error *err);

/* Passes over exactly n bytes; -ERR_TRUNCATED when the stream ends before. */
int reader_skip(struct reader *r, uint64_t n, struct error *err);

/* Reads exactly n bytes into buf; -ERR_TRUNCATED when the stream ends before. */
int reader_read(struct reader *r, void *buf, size_t n, struct error *err);

/* Reads to the end and throws the bytes away; returns 0 or a negative code. */
int reader_drain(struct reader *r, struct error *err);

/* Accepts NULL. */
void reader_close(struct reader *r);

/* Bytes held by the caller, delivered once, as a reader (tests, inline data). */
struct reader *reader_from_memory(const void *bytes, size_t len, const char *name);

#endif
