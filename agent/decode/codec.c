/* SPDX-License-Identifier: MIT */
/* The reader around every compression: pulls compressed slices, lets the codec step through them
 * into blocks of its own pool, and decides at each border between members whether another one, zero
 * padding, garbage or a cut follows. Worker threads, one at a time. Knows no format. */
#include "codec.h"
#include "defer.h"
#include "log.h"
#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* A slice is large enough that what is done once for each is lost in what is done for each byte,
 * and all of them together fit beside a small window into the smallest budget. */
#define BLOCK_MIN ((uint64_t)256 << 10)
#define BLOCK_MAX ((uint64_t)1 << 20)

static uint64_t block_bytes(const struct budget *budget)
{
	uint64_t share = budget_stage_half(budget) / 32 / DECODE_SLICES;

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
		c->base.name, c->decoder->name, c->taken, why);
}

static int cut_off(const struct codec *c, struct error *err)
{
	return error_set(err, -ERR_TRUNCATED,
		"%s: %s stream ends early, after %" PRIu64
		" bytes: the file was cut off; fetch or build it again",
		c->base.name, c->decoder->name, c->taken);
}

int codec_grow(struct codec *c, uint64_t memory, struct error *err)
{
	uint64_t more;

	if (memory <= c->memory)
		return 0;
	more = memory - c->memory;
	if (!budget_try_reserve(c->env.budget, more))
		return error_set(err, -ERR_LIMIT,
			"%s: the %s data at byte %" PRIu64 " needs %" PRIu64
			" MiB to be decoded, more than memory_budget (%" PRIu64
			" MiB) has left; raise memory_budget, or compress with a smaller window",
			c->base.name, c->decoder->name, c->taken, (memory >> 20) + 1,
			budget_total(c->env.budget) >> 20);
	c->memory = memory;
	c->charged += more;
	return 0;
}

/* Gives up what is left of the slice and waits for the next. */
static int fetch(struct codec *c, struct error *err)
{
	int got;

	slice_drop(&c->have);
	got = reader_next(c->in, &c->have, err);
	if (got == 0)
		c->in_ended = true;
	return got < 0 ? got : 0;
}

static void take(struct codec *c, size_t n)
{
	if (n > 0)
		slice_advance(&c->have, n);
	c->taken += n;
}

static int skip_padding(struct codec *c, struct error *err)
{
	for (;;) {
		int code;

		while (c->have.len > 0 && c->have.data[0] == 0)
			take(c, 1);
		if (c->have.len > 0 || c->in_ended)
			return 0;
		code = fetch(c, err);
		if (code < 0)
			return code;
	}
}

/* Looks at what begins at the current byte. A header can be spread over slices: what is left of
 * this one goes back to the reader, whose peek joins them. */
static int peek(struct codec *c, uint8_t first[static CODEC_PEEK_MAX], struct error *err)
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
	code = fetch(c, err);
	return code < 0 ? code : len;
}

/* The rest is read all the same: a digest further in is only checked at its end. */
static int ignore_garbage(struct codec *c, struct error *err)
{
	log_warn("%s: ignored what follows the %s data, from byte %" PRIu64 " on", c->base.name,
		c->decoder->name, c->taken);
	c->ended = true;
	slice_drop(&c->have);
	return reader_drain(c->in, err);
}

static int next_member(struct codec *c, struct error *err)
{
	uint8_t first[CODEC_PEEK_MAX];
	int code, len;

	code = skip_padding(c, err);
	if (code < 0)
		return code;
	len = peek(c, first, err);
	if (len < 0)
		return len;
	if (len == 0) {
		c->ended = true;
		return c->members > 0 ? 0 : cut_off(c, err);
	}
	if (!c->decoder->matches(first, (size_t)len))
		return c->members > 0 ? ignore_garbage(c, err) : codec_damaged(c, "no header", err);
	code = c->ops->begin(c, first, (size_t)len, err);
	c->inside = code == 0;
	return code;
}

static int after_step(struct codec *c, int step, const struct codec_io *io, struct error *err)
{
	switch (step) {
	case STEP_END:
		c->inside = false;
		c->members++;
		return 0;
	case STEP_STARVED:
		assert(io->in_len == 0);
		return c->in_ended ? cut_off(c, err) : fetch(c, err);
	case STEP_DAMAGED:
		return codec_damaged(c, io->why, err);
	default:
		return step < 0 ? step : 0;
	}
}

static int step_on(struct codec *c, struct error *err)
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
	take(c, c->have.len - io.in_len);
	c->filled = c->out->capacity - io.out_len;
	return after_step(c, step, &io, err);
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

static int hand_over(struct codec *c, struct slice *ret)
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
		code = c->inside ? step_on(c, err) : next_member(c, err);
	if (code < 0) {
		block_unref(c->out);
		c->out = NULL;
		return code;
	}
	return hand_over(c, ret);
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
	uint64_t block = block_bytes(env->budget);
	uint64_t charge = memory + block * DECODE_SLICES;
	int code;

	reader_init(&c->base, &ops, in->name);
	c->env = *env;
	c->in = in;
	code = budget_reserve(env->budget, charge, env->cancel, err);
	if (code < 0) {
		error_prefix(err, "%s: %s decoder", in->name, c->decoder->name);
		codec_close(&c->base);
		return code;
	}
	c->memory = memory;
	c->charged = charge;
	c->pool = block_pool_new(block, DECODE_SLICES, NULL, NULL);
	*ret = &c->base;
	return 0;
}

bool codec_has_magic(const uint8_t *bytes, size_t len, const void *magic, size_t magic_len)
{
	return len > 0 && memcmp(bytes, magic, len < magic_len ? len : magic_len) == 0;
}

#define SKIPPABLE_HEADER 8

bool codec_is_skippable(const uint8_t *bytes, size_t len)
{
	return len > 0 && (bytes[0] & 0xf0) == 0x50 &&
	       (len == 1 || codec_has_magic(bytes + 1, len - 1, "\x2a\x4d\x18", 3));
}

const uint8_t *codec_after_skippable(const uint8_t *bytes, size_t len, size_t *ret_len)
{
	uint64_t size;

	if (len < SKIPPABLE_HEADER)
		return NULL;
	size = bytes[4] | (uint64_t)bytes[5] << 8 | (uint64_t)bytes[6] << 16 |
	       (uint64_t)bytes[7] << 24;
	if (SKIPPABLE_HEADER + size >= len)
		return NULL;
	*ret_len = len - SKIPPABLE_HEADER - size;
	return bytes + SKIPPABLE_HEADER + size;
}
