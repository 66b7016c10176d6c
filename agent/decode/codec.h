/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DECODE_CODEC_H
#define STAGERUN_DECODE_CODEC_H

#include "decode.h"

/* What the compressions share. A compression only knows how to begin a member and how to take one
 * step in it; the codec around it is the reader: it moves slices in and out, joins members, tells
 * padding, garbage and truncation apart, keeps to the budget, and words the errors.
 *
 * "Member" stands for gzip's and bzip2's members, xz's streams, and zstd's and lz4's frames. */

/* The most that any begin() wants to see of a member: the headers of an xz stream and of a block.
 */
#define CODEC_PEEK_MAX 1036

/* step() takes from the front of in and fills the front of out, lowers both lengths by what it did,
 * and leaves the pointers alone. */
struct codec_io {
	const uint8_t *in; /* never NULL */
	size_t in_len;     /* 0 is possible: there may still be output to come */
	uint8_t *out;
	size_t out_len;  /* > 0 */
	bool last;       /* nothing follows in */
	const char *why; /* with STEP_DAMAGED: what is wrong, for the message */
};

enum step {
	STEP_ON,      /* call again: input is left, out is full, or a thread is still busy */
	STEP_STARVED, /* all of in was taken and all output given: nothing can happen without more
		       */
	STEP_END,     /* the member is complete; in begins with what follows it */
	STEP_DAMAGED, /* io->why */
};

struct codec;

struct codec_ops {
	unsigned
		peek; /* how many bytes begin() wants to see; it gets fewer where the stream ends */
	/* Gets ready for a member that begins with first. Nothing is consumed. */
	int (*begin)(struct codec *c, const uint8_t *first, size_t len, struct error *err);
	/* One of enum step, or a negative code with err set. */
	int (*step)(struct codec *c, struct codec_io *io, struct error *err);
	void (*free)(struct codec *c); /* the whole object that c is embedded in */
};

struct codec {
	struct reader base;
	const struct decoder *decoder;
	const struct codec_ops *ops;
	struct decode_env env;

	struct reader *in;
	struct slice have; /* compressed bytes not yet taken */
	bool in_ended;
	uint64_t taken; /* compressed bytes taken so far */

	struct block_pool *pool;
	struct block *out; /* being filled; NULL between slices */
	size_t filled;

	uint64_t memory;  /* charged for the codec's own tables and windows */
	uint64_t charged; /* memory and the blocks: what close() releases */
	uint64_t members; /* complete ones */
	bool inside;      /* a member has begun and not ended */
	bool ended;
};

/* The last step of every open(): makes the embedded c a reader of in. memory is what the codec
 * itself needs; waits until the budget has it and the blocks. Owns in and c, also when it fails. */
int codec_open(struct codec *c, struct reader *in, const struct decode_env *env, uint64_t memory,
	struct reader **ret, struct error *err);

/* A member in the middle needs more memory than was reserved for the first one. Never waits (it
 * would wait while holding): -ERR_LIMIT when the budget does not have it now. */
int codec_grow(struct codec *c, uint64_t memory, struct error *err);

int codec_damaged(const struct codec *c, const char *why, struct error *err); /* -ERR_FORMAT */

/* Whether bytes begin with magic, as far as they go. */
bool codec_has_magic(const uint8_t *bytes, size_t len, const void *magic, size_t magic_len);

/* zstd and lz4 share the frames that a decoder has to pass over: 0x184D2A5?, length, bytes. */
#define CODEC_LZ4_MAGIC "\x04\x22\x4d\x18" /* tells whose they are, when it follows one */
bool codec_is_skippable(const uint8_t *bytes, size_t len);
/* What follows the skippable frame at bytes; NULL when that is further away than len. */
const uint8_t *codec_after_skippable(const uint8_t *bytes, size_t len, size_t *ret_len);

extern const struct decoder gzip_decoder, zstd_decoder, xz_decoder, lz4_decoder, bzip2_decoder;

#endif
