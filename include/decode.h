/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DECODE_H
#define STAGERUN_DECODE_H

#include "budget.h"
#include "cancel.h"
#include "progress.h"
#include "reader.h"

/* Decompression, chosen by the first bytes of a stream, never by a name. Each compression is one
 * file in agent/decode that defines a struct decoder, and one line in the table in decode.c.
 *
 * Checksums in the stream are verified. A stream that ends early is -ERR_TRUNCATED, a damaged one
 * is -ERR_FORMAT. Concatenated members (gzip, bzip2), streams (xz) and frames (zstd, lz4) are read
 * as one stream. Zero padding may follow a member, also in front of the next one; any other byte is
 * -ERR_FORMAT, since it may belong to a member whose start was damaged. */

struct decode_env {
	struct budget *budget;
	struct cancel *cancel;
	struct progress *progress; /* may be NULL */
	unsigned threads;          /* the most threads that decode at the same time (xz); >= 1 */
	uint64_t passed; /* callers set 0; bytes that decode_open() skipped, for messages */
	/* Bytes of memory that the caller has reserved for this decoder. If not 0, only memory
	 * beyond that is reserved, without waiting, since the caller holds memory already. 0: the
	 * decoder reserves everything it needs. */
	uint64_t granted;
	uint64_t size; /* decoded bytes of a stream that does not mark its end (decode_bare()) */
};

/* The number of decoded slices that may be referenced at the same time; the next call waits until
 * one is released. Readers that collect slices (read-ahead, writers) must use fewer. */
#define DECODE_SLICES 8

struct decoder {
	const char *name; /* "gzip" */
	/* endings that are removed from the name of a single file: ".gz .gzip". The first match
	 * counts. There is no ".tgz", since archives are unpacked. */
	const char *suffixes;
	unsigned magic_bytes; /* the number of bytes that are enough for matches() */
	bool bare;            /* a single stream without magic: no further member, no padding */
	/* Whether a stream that starts with first (16 bytes, or fewer if it is shorter) is this
	 * decoder's, as far as these bytes show: an incomplete magic at their end matches. */
	bool (*matches)(const uint8_t *first, size_t len);
	/* Returns a reader that decodes in, and takes ownership of in, also on failure. */
	int (*open)(struct reader *in, const struct decode_env *env, struct reader **ret,
		struct error *err);
};

/* Inspects the first bytes of in and wraps it in the decoder that they select. Worker thread. Takes
 * ownership of in, also on failure. *ret_decoder: the row that matched; NULL when the bytes are not
 * compressed, and *ret is in itself then. Only one layer is decoded: the result is not inspected
 * again, so a bomb of nested layers does no harm. The decoded slices come from a pool that is
 * reserved from the budget and released at close. */
int decode_open(struct reader *in, const struct decode_env *env, struct reader **ret,
	const struct decoder **ret_decoder, struct error *err);

/* Compressions inside of containers, which specify the compression themselves; none of these has
 * magic. */
enum decode_bare {
	BARE_DEFLATE64, /* zip's method 9 */
	BARE_LZMA,      /* zip's method 14, with its header of nine bytes; ends at env.size bytes */
	BARE_LZMA_WITH_END, /* the same, with an end marker */
};
const struct decoder *decode_bare(enum decode_bare what);

/* The row with this name ("zstd"), which must exist. */
const struct decoder *decode_by_name(const char *name);

/* The row whose stream starts with these bytes; NULL: none. */
const struct decoder *decode_find(const uint8_t *first, size_t len);

/* Returns a file name without the suffix of its compression ("x.csv.gz" -> "x.csv"); unchanged when
 * it has none or nothing would be left. d may be NULL. Heap string. */
char *decode_strip_suffix(const struct decoder *d, const char *name);

/* Runs in on a thread of its own, up to slices ahead of the caller, so that decoding overlaps with
 * the processing of the result. Takes ownership of in. The time that the caller waits is added to
 * progress->decode_ns (progress may be NULL). When in is a decoder, slices must be less than
 * DECODE_SLICES by at least the number that the caller holds plus the one that is being filled. If
 * no thread can be started, the result is in itself.
 *
 * Closing waits for the thread. cancel wakes it wherever it sleeps; otherwise it returns with its
 * next slice, or at once if it is waiting for the caller to take one. */
struct reader *ahead_reader(
	struct reader *in, unsigned slices, struct cancel *cancel, struct progress *progress);

/* Returns a reader that passes bytes through and computes their SHA-256. At the end of the stream,
 * a digest that differs from want_hex (64 hex digits; NULL: only compute) is -ERR_DIGEST. Takes
 * ownership of in. */
struct reader *sha256_reader(struct reader *in, const char *want_hex);
/* Writes 64 hex digits and a NUL. To be called after the end of the stream, which is a call of
 * reader_next() that returned 0 or -ERR_DIGEST. */
void sha256_reader_hex(struct reader *r, char ret_hex[static 65]);

#endif
