/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_DECODE_UTIL_H
#define STAGERUN_TEST_DECODE_UTIL_H

#include "decode.h"
#include "test.h"
#include "text.h"

#define SMALLEST_BUDGET ((uint64_t)16 << 20)
#define USUAL_BUDGET    ((uint64_t)256 << 20)

/* Each format that can be decoded, and a function that compresses to it, with checksums. */
struct format {
	const char *name;
	void (*compress)(struct text *to, const void *bytes, size_t len);
};

#define N_FORMATS 5
extern const struct format formats[N_FORMATS];

/* len bytes that are moderately compressible; the same ones each time. */
struct text sample(size_t len);

/* Appends a skippable frame with four bytes, which decoders of zstd and lz4 ignore. */
void add_skippable(struct text *to);

/* A reader of bytes in slices of piece bytes (the last may be shorter). After them, it returns
 * the end or, if fail is not 0, this error code. bytes is borrowed, and must outlive the reader. */
struct reader *reader_in_pieces(const void *bytes, size_t len, size_t piece, int fail);

struct decoded {
	int code; /* 0, or the error of decode_open() or of the reader */
	struct error err;
	const char *format; /* the decoder's name; "none" */
	struct text bytes;  /* the output before the end or the failure */
};

/* Decodes in (which is closed at the end) through decode_open() with two threads. Asserts that
 * the budget is complete again afterwards, that an error repeats, and that the returned code is
 * that of the struct error. */
struct decoded decode_reader(struct reader *in, uint64_t budget_bytes);
struct decoded decode_bytes(const struct text *compressed); /* usual budget, named "data" */
void decoded_done(struct decoded *d);

void assert_same_bytes(const struct text *want, const struct text *got);

/* Redirects the log to memory, until log_caught() returns the lines. */
void log_catch(void);
char *log_caught(void); /* heap */

#endif
