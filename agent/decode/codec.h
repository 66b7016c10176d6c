/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DECODE_CODEC_H
#define STAGERUN_DECODE_CODEC_H

#include "decode.h"

/* The decoders and what they share. All of it is used by one worker thread at a time; only ahead.c
 * and liblzma (xz) start threads of their own.
 *
 *   decode.c     the table of compressions, and the choice by a stream's first bytes
 *   codec.c      the reader around every decoder: slices, members, padding, memory, errors
 *   gzip.c, bzip2.c, xz.c, zstd.c, lz4.c   one struct decoder each
 *   deflate64.c, lzma.c                    the same, for bare streams inside of zips
 *   ahead.c      a reader that reads ahead on a thread of its own
 *   sha256.c     a reader that computes the digest of what passes through it
 *
 * A decoder only implements how a member starts and how to take one step in it. "Member" stands for
 * gzip's and bzip2's members, xz's streams, and zstd's and lz4's frames. */

/* The most bytes that any begin() inspects: the headers of an xz stream and of its first block. */
#define CODEC_PEEK_MAX 1036

/* The input and output of step(), which consumes bytes from the front of in, fills the front of
 * out, and reduces both lengths accordingly. The codec ignores changes of the two pointers. */
struct codec_io {
	const uint8_t *in; /* never NULL */
	size_t in_len;     /* may be 0: there may still be output */
	uint8_t *out;
	size_t out_len;  /* > 0 */
	bool last;       /* no input follows in */
	const char *why; /* set with STEP_DAMAGED: the damage, for the message */
};

enum codec_step {
	STEP_ON,      /* call again: input is left, out is full, or a thread is still busy */
	STEP_STARVED, /* all input is consumed and all output returned: more input is needed */
	STEP_END,     /* the member is complete; in starts with what follows it */
	STEP_DAMAGED, /* the input is damaged, see io->why */
};

struct codec;

struct codec_ops {
	unsigned peek; /* how many bytes begin() inspects; it gets fewer at the end of the stream */
	/* Prepares for a member that starts with these bytes. Consumes nothing. 0 or negative. */
	int (*begin)(struct codec *c, const uint8_t *first, size_t len, struct error *err);
	/* Returns a value of enum codec_step, or a negative code with err set. */
	int (*step)(struct codec *c, struct codec_io *io, struct error *err);
	void (*free)(struct codec *c); /* frees the whole object that c is embedded in */
};

struct codec {
	struct reader base;
	const struct decoder *decoder;
	const struct codec_ops *ops;
	struct decode_env env;

	struct reader *in;
	struct slice have; /* compressed bytes that are not consumed yet */
	bool in_ended;
	uint64_t consumed; /* compressed bytes consumed so far */

	struct block_pool *pool;
	struct block *out; /* the block that is being filled; NULL between slices */
	size_t filled;

	uint64_t memory;  /* bytes for the decoder's tables and windows */
	uint64_t blocks;  /* bytes of all blocks */
	uint64_t charged; /* bytes of both reserved beyond env.granted; released at close */
	uint64_t members; /* complete members */
	bool inside;      /* a member has started and not ended */
	bool ended;
};

/* The last step of every open(): makes the embedded c a reader of in. memory: bytes that the
 * decoder itself needs; waits until the budget has them and those of the blocks. Takes ownership of
 * in and c, also on failure. */
int codec_open(struct codec *c, struct reader *in, const struct decode_env *env, uint64_t memory,
	struct reader **ret, struct error *err);

/* Reserves more memory for a member that needs more than was reserved before. memory: bytes in
 * total. Never waits, since the caller holds memory already: -ERR_LIMIT when the budget does not
 * have it now. */
int codec_grow(struct codec *c, uint64_t memory, struct error *err);

int codec_damaged(const struct codec *c, const char *why, struct error *err); /* -ERR_FORMAT */

/* Whether bytes start with magic; if there are fewer bytes than in magic, whether these match. */
bool codec_has_magic(const uint8_t *bytes, size_t len, const void *magic, size_t magic_len);

/* Skippable frames, which zstd and lz4 have in common: 0x184D2A5?, length, bytes. */
#define CODEC_SKIPPABLE_HEADER 8
bool codec_is_skippable(const uint8_t *bytes, size_t len);

extern const struct decoder gzip_decoder, zstd_decoder, xz_decoder, lz4_decoder, bzip2_decoder;
extern const struct decoder deflate64_decoder, lzma_decoder, lzma_with_end_decoder;

#endif
