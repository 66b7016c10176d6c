/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DECODE_H
#define STAGERUN_DECODE_H

#include "budget.h"
#include "cancel.h"
#include "progress.h"
#include "reader.h"

/* Decompression, chosen by the first bytes, never by a name. Each compression is one file in
 * agent/decode with a struct decoder, and one line in the table in decode.c.
 *
 * Checksums in the stream are verified. A stream that ends early is -ERR_TRUNCATED, a damaged one
 * is -ERR_FORMAT. Concatenated members (gzip, bzip2), streams (xz) and frames (zstd, lz4) are one
 * stream. Bytes after the last member that are no member: a warning, and then the end, as gzip and
 * tar do (zero padding: silently). */

struct decode_env {
	struct budget *budget;
	struct cancel *cancel;
	struct progress *progress; /* may be NULL */
	unsigned threads;          /* at most this many decode at once (xz); >= 1 */
};

/* So many decoded slices can be with their holders at once; the next call sleeps until one comes
 * back. Whoever collects slices (read-ahead, writers) must be content with fewer. */
#define DECODE_SLICES 8

struct decoder {
	const char *name;     /* "gzip" */
	const char *suffixes; /* what a single file loses from its name: ".gz .gzip"; first match;
				 "tgz=tar" style is not needed: archives are unpacked */
	unsigned magic_bytes; /* so many bytes are enough to tell */
	/* Whether a stream that begins with first (16 bytes, unless it is shorter) is this
	 * decoder's, as far as these bytes go: a part of the magic at the end of the bytes matches.
	 */
	bool (*matches)(const uint8_t *first, size_t len);
	/* Wraps in, which it owns from here on, also when it fails. */
	int (*open)(struct reader *in, const struct decode_env *env, struct reader **ret,
		struct error *err);
};

/* Looks at the first bytes of in and wraps it in the decoder they ask for. Consumes in, also on
 * failure. *ret_decoder: the row that matched; NULL when the bytes are not compressed, and then
 * *ret is in itself. Only one layer: the result is not looked at again (a bomb of nested layers
 * stays shut). The decoded slices come from a pool charged to the budget, released at close. */
int decode_open(struct reader *in, const struct decode_env *env, struct reader **ret,
	const struct decoder **ret_decoder, struct error *err);

/* A file name without the suffix of its compression ("x.csv.gz" -> "x.csv"); unchanged when it has
 * none or nothing would be left. Heap string. */
char *decode_strip_suffix(const struct decoder *d, const char *name);

/* Runs in on a thread of its own, up to slices ahead of the caller, so that decoding overlaps with
 * what is done with the result. Consumes in. Time asleep is counted in progress->decode_ns
 * (progress may be NULL). Over a decoder, slices is less than DECODE_SLICES by at least what the
 * caller holds and one that is being filled. Without a thread to be had, the result is in itself.
 *
 * Closing waits for the thread: cancel wakes it wherever it sleeps; otherwise it comes back with
 * its next slice, or at once when it waits for the caller to take one. */
struct reader *reader_ahead(
	struct reader *in, unsigned slices, struct cancel *cancel, struct progress *progress);

/* Passes bytes through and computes their SHA-256. At the end of the stream, a digest that differs
 * from want_hex (64 hex digits; NULL: just compute) is -ERR_DIGEST. Consumes in. */
struct reader *reader_sha256(struct reader *in, const char *want_hex);
/* After the end of the stream (a call of reader_next() that returned 0 or -ERR_DIGEST): 64 hex
 * digits and a NUL. */
void reader_sha256_hex(struct reader *r, char ret_hex[static 65]);

#endif
