/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_FRAMES_H
#define STAGERUN_CREATE_FRAMES_H

#include "create_private.h"

/* The stored form of an object: zstd frames, each of at most FRAME_RAW raw bytes, with size and checksum, and
 * a table of them at the end (zstd's "seekable format": a skippable frame that decoders pass over). One
 * thread at a time. */

struct frames {
	/* Raw bytes that are not in a frame yet. */
	uint8_t *raw;
	size_t raw_len;

	/* Of this object. */
	uint8_t *out;
	size_t out_len, out_cap;
	struct index_frame *list;
	size_t n, cap;
	uint64_t raw_total;       /* in frames */
	struct sha256_ctx sha256; /* of the raw bytes in frames */

	struct ZSTD_CCtx_s *zstd, *quick; /* for most bytes; for those that hardly become smaller */
};

struct frames *frames_new(void);
void frames_free(struct frames *f); /* accepts NULL */
void frames_begin(struct frames *f);

/* Adds raw bytes: through a copy, or written to frames_room() (never 0 bytes of it) and then counted. */
int frames_put(struct frames *f, const void *bytes, size_t len, struct error *err);
int frames_zeros(struct frames *f, size_t len, struct error *err);
int frames_room(struct frames *f, uint8_t **ret, size_t *ret_len, struct error *err);
void frames_written(struct frames *f, size_t len);
uint64_t frames_at(const struct frames *f); /* raw bytes so far */

/* Ends the frame under way, when there is one, if len more bytes do not fit into it. */
int frames_make_room(struct frames *f, uint64_t len, struct error *err);
int frames_cut(struct frames *f, struct error *err);
/* Ends the last frame and adds the table. */
int frames_end(struct frames *f, struct error *err);

/* Appends raw[0..raw_len) as one frame to out, and nothing else. */
int frames_compress(struct frames *f, uint32_t *ret_len, struct error *err);

/* The table of n frames; into out, which has SEEK_TABLE_SIZE(n) bytes. */
#define SEEK_TABLE_SIZE(n) ((size_t)(n)*8 + 17)
void seek_table_write(uint8_t *out, const struct index_frame *list, size_t n);
/* A skippable frame of len bytes in all, at least 8. */
void skippable_write(uint8_t *out, size_t len);
/* The frames of an object of size bytes: heap; -ERR_FORMAT when it has no table that fits its size. */
int seek_table_read(struct store_hand *h, const char *key, uint64_t size, struct index_frame **ret,
	size_t *ret_n, struct error *err);

/* Which frames hold bytes [at, at + size) of the raw bytes: n of them from first on, and skip bytes into that. */
struct frame_range {
	size_t first, n;
	uint32_t skip;
};
struct frame_range frames_locate(
	const struct index_frame *list, size_t n, uint64_t at, uint64_t size);

#endif
