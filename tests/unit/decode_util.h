/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_DECODE_UTIL_H
#define STAGERUN_TEST_DECODE_UTIL_H

#include "decode.h"
#include "test.h"
#include "text.h"

#define SMALLEST_BUDGET ((uint64_t)16 << 20)
#define USUAL_BUDGET    ((uint64_t)256 << 20)

/* Every format that can be decoded, with a way to make it. Checksums are on. */
struct format {
	const char *name;
	void (*compress)(struct text *to, const void *bytes, size_t len);
};

#define N_FORMATS 5
extern const struct format formats[N_FORMATS];

/* len bytes that compress, though not to nothing; the same ones each time. */
struct text sample(size_t len);

/* The frame of four bytes that decoders of zstd and lz4 pass over. */
void add_skippable(struct text *to);

/* bytes in slices of piece bytes (the last may be shorter). Then the end or, when fail is not 0,
 * that error. Bytes are the caller's and outlive it. */
struct reader *reader_in_pieces(const void *bytes, size_t len, size_t piece, int fail);

struct decoded {
	int code; /* 0, or what decode_open() or the reader failed with */
	struct error err;
	const char *format; /* the decoder's name; "none" */
	struct text bytes;  /* what came before the end or the failure */
};

/* Runs in (closed at the end) through decode_open() with two threads. Asserts that the budget is
 * whole again afterwards, that an error repeats, and that its code is the message's. */
struct decoded decode_reader(struct reader *in, uint64_t budget_bytes);
struct decoded decode_bytes(const struct text *compressed); /* usual budget, called "data" */
void decoded_done(struct decoded *d);

void assert_same_bytes(const struct text *want, const struct text *got);

/* From here to log_caught(), log lines are collected instead of printed. */
void log_catch(void);
char *log_caught(void); /* the caller's to free */

#endif
