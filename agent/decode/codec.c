/* SPDX-License-Identifier: MIT */
/* The reader around every decoder: reads compressed slices, lets the decoder step through them into
 * blocks of a pool, and detects at each border between members whether another member, zero
 * padding, foreign bytes or a truncation follows. Worker threads, one at a time. Knows no
 * format. */
#include "codec.h"
#include "defer.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* A slice is so large that the cost per slice is negligible beside the cost per byte, and so small
 * that all slices and a small window fit into the smallest budget. */
#define BLOCK_MIN ((uint64_t)256 << 10)
#define BLOCK_MAX ((uint64_t)1 << 20)

/* A decoder that shares the memory granted to its caller uses smaller blocks. */
#define BLOCK_GRANTED ((uint64_t)128 << 10)

static uint64_t block_bytes(const struct decode_env *env)
{
	uint64_t share = budget_stage_half(env->budget) / 32 / DECODE_SLICES;

	if (env->granted > 0)
		return BLOCK_GRANTED;
	return share < BLOCK_MIN ? BLOCK_MIN : share > BLOCK_MAX ? BLOCK_MAX : share;
}

static int cancelled(struct error *err)
{
	return error_set(err, -ECANCELED, "cancelled");
}

int codec_damaged(const struct codec *c, const char *why, struct error *err)
{
	return error_set(err, -ERR_FORMAT,
		"%s: %s data is damaged at byte %" PRIu64 " of the compressed stream (%s)",
		c->base.name, c->decoder->name, c->consumed, why);
}

static int refuse_truncated(const struct codec *c, struct error *err)
{
	return error_set(err, -ERR_TRUNCATED,
		"%s: %s stream ends early, after %" PRIu64
		" bytes: the file was cut off; fetch or build it again",
		c->base.name, c->decoder->name, c->consumed);
}

/* Reserves what memory and the blocks need beyond what was granted. Never waits. */
static bool charge_more(struct codec *c, uint64_t memory)
{
	uint64_t all = memory + c->blocks, free = c->env.granted + c->charged;

	if (all > free && !budget_try_reserve(c->env.budget, all - free))
		return false;
	c->charged += all > free ? all - free : 0;
	c->memory = memory;
	return true;
}

int codec_grow(struct codec *c, uint64_t memory, struct error *err)
{
	if (memory > c->memory && !charge_more(c, memory))
		return error_set(err, -ERR_LIMIT,
			"%s: the %s data at byte %" PRIu64 " needs %" PRIu64
			" MiB to be decoded, more than memory_budget (%" PRIu64
			" MiB) has left; raise memory_budget, or compress with a smaller window",
			c->base.name, c->decoder->name, c->consumed, (memory >> 20) + 1,
			budget_total(c->env.budget) >> 20);
	return 0;
}

/* Drops the rest of the slice and reads the next one. */
static int next_slice(struct codec *c, struct error *err)
{
	int got;

	slice_drop(&c->have);
	got = reader_next(c->in, &c->have, err);
	if (got == 0)
		c->in_ended = true;
	return got < 0 ? got : 0;
}

static void consume(struct codec *c, size_t n)
{
	if (n > 0)
		slice_advance(&c->have, n);
	c->consumed += n;
}

static int skip_padding(struct codec *c, struct error *err)
{
	for (;;) {
		int code;

		while (c->have.len > 0 && c->have.data[0] == 0)
			consume(c, 1);
		if (c->have.len > 0 || c->in_ended)
			return 0;
		code = next_slice(c, err);
		if (code < 0)
			return code;
	}
}

/* Copies the first bytes of what starts at the current byte; returns how many, or a negative code.
 * A header can be spread over slices: the rest of the current one is put back to the reader, whose
 * peek joins them. */
static int peek_member(struct codec *c, uint8_t first[static CODEC_PEEK_MAX], struct error *err)
{
	size_t want = c->ops->peek;
	int len, code;

	if (c->have.len == 0)
		return 0;
	if (c->have.len >= want) {
		memcpy(first, c->have.data, want);
		return (int)want;
	}
	c->in->back = c->have;
	c->have = (struct slice){0};
	len = reader_peek(c->in, first, want, err);
	if (len < 0)
		return len;
	code = next_slice(c, err);
	return code < 0 ? code : len;
}

/* Sets the error for bytes that are no member where one should start. Damage cannot be
 * distinguished from something that was appended: neither is skipped, since everything that follows
 * would silently be lost. */
static int refuse_foreign(const struct codec *c, struct error *err)
{
	if (c->members == 0)
		return codec_damaged(c, "no header", err);
	return error_set(err, -ERR_FORMAT,
		"%s: what follows the %s data, at byte %" PRIu64
		", is neither zero padding nor more %s data: it is damaged there, or something was appended; build it again, or store it as it is (extract: false, --no-extract)",
		c->base.name, c->decoder->name, c->consumed, c->decoder->name);
}

static int next_member(struct codec *c, struct error *err)
{
	uint8_t first[CODEC_PEEK_MAX];
	int code = 0, len;

	if (!c->decoder->bare)
		code = skip_padding(c, err);
	else if (c->have.len == 0 && !c->in_ended)
		code = next_slice(c, err);
	if (code < 0)
		return code;
	len = peek_member(c, first, err);
	if (len < 0)
		return len;
	if (len == 0) {
		c->ended = true;
		return c->members > 0 ? 0 : refuse_truncated(c, err);
	}
	if (c->decoder->bare ? c->members > 0 : !c->decoder->matches(first, (size_t)len))
		return refuse_foreign(c, err);
	code = c->ops->begin(c, first, (size_t)len, err);
	c->inside = code == 0;
	return code;
}

static int handle_step(struct codec *c, int step, const struct codec_io *io, struct error *err)
{
	switch (step) {
	case STEP_END:
		c->inside = false;
		c->members++;
		return 0;
	case STEP_STARVED:
		assert(io->in_len == 0);
		return c->in_ended ? refuse_truncated(c, err) : next_slice(c, err);
	case STEP_DAMAGED:
		return codec_damaged(c, io->why, err);
	default:
		return step < 0 ? step : 0;
	}
}

static int step_member(struct codec *c, struct error *err)
{
	struct codec_io io = {
		.in = c->have.len > 0 ? c->have.data : (const uint8_t *)"",
		.in_len = c->have.len,
		.out = c->out->data + c->filled,
		.out_len = c->out->capacity - c->filled,
		.last = c->in_ended,
	};
	int step;

	if (cancel_requested(c->env.cancel))
		return cancelled(err);
	step = c->ops->step(c, &io, err);
	consume(c, c->have.len - io.in_len);
	c->filled = c->out->capacity - io.out_len;
	return handle_step(c, step, &io, err);
}

static int new_block(struct codec *c, struct error *err)
{
	c->out = block_pool_take(c->pool, c->env.cancel);
	c->filled = 0;
	if (c->out != NULL)
		return 0;
	return cancel_requested(c->env.cancel)
		       ? cancelled(err)
		       : error_set(err, -ENOMEM, "%s: no memory for decoded %s data", c->base.name,
				 c->decoder->name);
}

static int return_block(struct codec *c, struct slice *ret)
{
	struct block *b = c->out;

	c->out = NULL;
	if (c->filled == 0) {
		block_unref(b);
		return 0;
	}
	*ret = (struct slice){.data = b->data, .len = c->filled, .owner = b};
	return 1;
}

static int codec_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct codec *c = container_of(r, struct codec, base);
	int code;

	if (c->ended)
		return 0;
	code = new_block(c, err);
	while (code == 0 && !c->ended && c->filled < c->out->capacity)
		code = c->inside ? step_member(c, err) : next_member(c, err);
	if (code < 0) {
		block_unref(c->out);
		c->out = NULL;
		return code;
	}
	return return_block(c, ret);
}

static void codec_close(struct reader *r)
{
	struct codec *c = container_of(r, struct codec, base);

	slice_drop(&c->have);
	reader_close(c->in);
	block_pool_free(c->pool);
	if (c->charged > 0)
		budget_release(c->env.budget, c->charged);
	c->ops->free(c);
}

int codec_open(struct codec *c, struct reader *in, const struct decode_env *env, uint64_t memory,
	struct reader **ret, struct error *err)
{
	static const struct reader_ops ops = {.next = codec_next, .close = codec_close};
	uint64_t block = block_bytes(env);
	int code = 0;

	reader_init(&c->base, &ops, in->name);
	c->env = *env;
	c->in = in;
	c->consumed = env->passed;
	c->blocks = block * DECODE_SLICES;
	if (env->granted > 0) {
		code = codec_grow(c, memory, err);
	} else {
		code = budget_reserve_counted(env->budget, memory + c->blocks, env->cancel,
			env->progress != NULL ? &env->progress->budget_ns : NULL, err);
		if (code < 0)
			error_prefix(err, "%s: %s decoder", in->name, c->decoder->name);
		else
			c->charged = memory + c->blocks;
	}
	if (code < 0) {
		codec_close(&c->base);
		return code;
	}
	c->memory = memory;
	c->pool = block_pool_new(block, DECODE_SLICES, NULL, NULL);
	*ret = &c->base;
	return 0;
}

bool codec_has_magic(const uint8_t *bytes, size_t len, const void *magic, size_t magic_len)
{
	return len > 0 && memcmp(bytes, magic, len < magic_len ? len : magic_len) == 0;
}

bool codec_is_skippable(const uint8_t *bytes, size_t len)
{
	return len > 0 && (bytes[0] & 0xf0) == 0x50 &&
	       (len == 1 || codec_has_magic(bytes + 1, len - 1, "\x2a\x4d\x18", 3));
}
