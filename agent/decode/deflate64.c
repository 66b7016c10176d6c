/* SPDX-License-Identifier: MIT */
/* deflate64, zip's method 9, which Windows Explorer writes for files above 2 GiB: deflate (RFC
 * 1951) with a window of 64 KiB, two more distance codes, and a length code 285 with 16 extra bits.
 * No library implements it. A state machine that can stop at any bit, when the input or the room
 * for output ends. One thread at a time. */
#include "codec.h"
#include "defer.h"
#include "text.h"
#include <string.h>

#define WINDOW       65536u
#define CODE_MAX     15 /* bits of the longest code */
#define LITERALS     288
#define DISTANCES    32
#define END_OF_BLOCK 256

enum deflate64_state {
	AT_BLOCK,          /* the last-block flag and the type of a block */
	AT_STORED_LEN,     /* the length of a stored block, behind the padding to a byte */
	IN_STORED,         /* run bytes are left */
	AT_COUNTS,         /* the numbers of code lengths that follow */
	IN_META_LENGTHS,   /* lengths of the codes for lengths */
	IN_LENGTHS,        /* lengths of the codes for literals and distances */
	IN_REPEAT,         /* the extra bits of symbol, which repeats a length */
	IN_CODES,          /* literals, lengths, the end of the block */
	IN_LENGTH_EXTRA,   /* the extra bits of length symbol */
	AT_DISTANCE,       /* the distance code behind a length */
	IN_DISTANCE_EXTRA, /* the extra bits of distance symbol */
	IN_COPY,           /* run bytes are left to copy, from distance bytes back */
	AT_END,
};

/* The codes of an alphabet, indexed by the next bits of input: symbol << 4 | bits; 0: no code
 * starts with these bits. */
struct deflate64_codes {
	unsigned bits; /* of the longest code */
	uint16_t entry[1 << CODE_MAX];
};

struct deflate64 {
	struct codec codec;
	enum deflate64_state state;
	bool is_last; /* the current block is the last one */

	uint64_t bits; /* bits read from the input and not consumed, lowest first */
	unsigned n_bits;

	unsigned n_literals, n_distances, n_meta, have; /* code lengths: expected and read */
	uint8_t lengths[LITERALS + DISTANCES + 16];
	unsigned symbol, run, distance;

	uint64_t written; /* bytes, of all blocks */
	uint8_t window[WINDOW];
	struct deflate64_codes literals, distances;
};

/* Reads as many bytes into d->bits as fit, and returns whether there are n bits. unread() puts
 * unused bytes back. */
static bool fill_bits(struct deflate64 *d, struct codec_io *io, unsigned n)
{
	while (d->n_bits <= 56 && io->in_len > 0) {
		d->bits |= (uint64_t)*io->in++ << d->n_bits;
		d->n_bits += 8;
		io->in_len--;
	}
	return d->n_bits >= n;
}

static unsigned take_bits(struct deflate64 *d, unsigned n)
{
	unsigned value = (unsigned)(d->bits & (((uint64_t)1 << n) - 1));

	d->bits >>= n;
	d->n_bits -= n;
	return value;
}

/* Puts whole bytes that were not consumed back to the input. They were all read in this step:
 * before it, there were fewer bits than the next item needs. */
static void unread(struct deflate64 *d, struct codec_io *io)
{
	unsigned n = d->n_bits / 8;

	io->in -= n;
	io->in_len += n;
	d->n_bits -= 8 * n;
	d->bits &= ((uint64_t)1 << d->n_bits) - 1;
}

static unsigned reverse_bits(unsigned code, unsigned bits)
{
	unsigned r = 0;

	for (; bits > 0; bits--, code >>= 1)
		r = r << 1 | (code & 1);
	return r;
}

static void fill_table(
	struct deflate64_codes *c, const uint8_t *lengths, unsigned n, unsigned next[CODE_MAX + 1])
{
	memset(c->entry, 0, sizeof(c->entry[0]) << c->bits);
	for (unsigned i = 0; i < n; i++) {
		unsigned len = lengths[i];

		if (len == 0)
			continue;
		for (unsigned at = reverse_bits(next[len]++, len); at < 1u << c->bits;
			at += 1u << len)
			c->entry[at] = (uint16_t)(i << 4 | len);
	}
}

/* Builds the canonical codes of these lengths (RFC 1951 section 3.2.2). An incomplete code is an
 * error, except for a single code of one bit, or none at all. */
static bool build_codes(struct deflate64_codes *c, const uint8_t *lengths, unsigned n)
{
	unsigned count[CODE_MAX + 1] = {0}, next[CODE_MAX + 1] = {0}, used = 0;
	int left = 1;

	for (unsigned i = 0; i < n; i++)
		count[lengths[i]]++;
	used = n - count[0];
	c->bits = 1;
	for (unsigned len = 1; len <= CODE_MAX; len++) {
		left = 2 * left - (int)count[len];
		if (left < 0)
			return false;
		if (count[len] > 0)
			c->bits = len;
		if (len < CODE_MAX)
			next[len + 1] = (next[len] + count[len]) << 1;
	}
	if (left > 0 && (used > 1 || (used == 1 && count[1] == 0)))
		return false;
	fill_table(c, lengths, n, next);
	return true;
}

enum deflate64_lookup { LOOKUP_OK, LOOKUP_STARVED, LOOKUP_NO_CODE };

/* Reads the next symbol. Missing bits count as 0, so a code is only valid if all of its bits are
 * there. */
static enum deflate64_lookup next_symbol(
	struct deflate64 *d, struct codec_io *io, const struct deflate64_codes *c, unsigned *ret)
{
	uint16_t entry;

	if (d->n_bits < CODE_MAX)
		(void)fill_bits(d, io, CODE_MAX);
	entry = c->entry[d->bits & ((1u << c->bits) - 1)];
	if (entry == 0)
		return d->n_bits < c->bits ? LOOKUP_STARVED : LOOKUP_NO_CODE;
	if ((entry & 15) > d->n_bits)
		return LOOKUP_STARVED;
	take_bits(d, entry & 15);
	*ret = entry >> 4;
	return LOOKUP_OK;
}

static int damaged(struct codec_io *io, const char *why)
{
	io->why = why;
	return STEP_DAMAGED;
}

static void put_byte(struct deflate64 *d, struct codec_io *io, uint8_t byte)
{
	d->window[d->written++ % WINDOW] = byte;
	*io->out++ = byte;
	io->out_len--;
}

static bool use_fixed_codes(struct deflate64 *d)
{
	memset(d->lengths, 8, 144);
	memset(d->lengths + 144, 9, 112);
	memset(d->lengths + 256, 7, 24);
	memset(d->lengths + 280, 8, 8);
	memset(d->lengths + LITERALS, 5, DISTANCES);
	d->state = IN_CODES;
	return build_codes(&d->literals, d->lengths, LITERALS) &&
	       build_codes(&d->distances, d->lengths + LITERALS, DISTANCES);
}

static int at_block(struct deflate64 *d, struct codec_io *io)
{
	if (!fill_bits(d, io, 3))
		return STEP_STARVED;
	d->is_last = take_bits(d, 1) != 0;
	switch (take_bits(d, 2)) {
	case 0:
		take_bits(d, d->n_bits % 8);
		d->state = AT_STORED_LEN;
		return STEP_ON;
	case 1:
		return use_fixed_codes(d) ? STEP_ON : damaged(io, "fixed codes");
	case 2:
		d->state = AT_COUNTS;
		return STEP_ON;
	default:
		return damaged(io, "unknown kind of block");
	}
}

static int at_stored_len(struct deflate64 *d, struct codec_io *io)
{
	if (!fill_bits(d, io, 32))
		return STEP_STARVED;
	d->run = take_bits(d, 16);
	if (take_bits(d, 16) != (d->run ^ 0xffff))
		return damaged(io, "invalid length of a stored block");
	unread(d, io);
	d->state = IN_STORED;
	return STEP_ON;
}

static void end_block(struct deflate64 *d)
{
	d->state = d->is_last ? AT_END : AT_BLOCK;
}

static int in_stored(struct deflate64 *d, struct codec_io *io)
{
	while (d->run > 0 && io->in_len > 0 && io->out_len > 0) {
		put_byte(d, io, *io->in++);
		io->in_len--;
		d->run--;
	}
	if (d->run == 0)
		end_block(d);
	else if (io->in_len == 0)
		return STEP_STARVED;
	return STEP_ON;
}

static int at_counts(struct deflate64 *d, struct codec_io *io)
{
	if (!fill_bits(d, io, 14))
		return STEP_STARVED;
	d->n_literals = take_bits(d, 5) + 257;
	d->n_distances = take_bits(d, 5) + 1;
	d->n_meta = take_bits(d, 4) + 4;
	d->have = 0;
	memset(d->lengths, 0, sizeof(d->lengths));
	d->state = IN_META_LENGTHS;
	return STEP_ON;
}

static int in_meta_lengths(struct deflate64 *d, struct codec_io *io)
{
	static const uint8_t order[] = {
		16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};

	while (d->have < d->n_meta) {
		if (!fill_bits(d, io, 3))
			return STEP_STARVED;
		d->lengths[order[d->have++]] = (uint8_t)take_bits(d, 3);
	}
	if (!build_codes(&d->literals, d->lengths, sizeof(order)))
		return damaged(io, "invalid codes for lengths");
	memset(d->lengths, 0, sizeof(d->lengths));
	d->have = 0;
	d->state = IN_LENGTHS;
	return STEP_ON;
}

static int build_both(struct deflate64 *d, struct codec_io *io)
{
	if (d->lengths[END_OF_BLOCK] == 0)
		return damaged(io, "a block without an end");
	if (!build_codes(&d->literals, d->lengths, d->n_literals) ||
		!build_codes(&d->distances, d->lengths + d->n_literals, d->n_distances))
		return damaged(io, "invalid codes");
	d->state = IN_CODES;
	return STEP_ON;
}

static int in_lengths(struct deflate64 *d, struct codec_io *io)
{
	while (d->have < d->n_literals + d->n_distances) {
		enum deflate64_lookup f = next_symbol(d, io, &d->literals, &d->symbol);

		if (f != LOOKUP_OK)
			return f == LOOKUP_STARVED ? STEP_STARVED : damaged(io, "no such code");
		if (d->symbol >= 16) {
			d->state = IN_REPEAT;
			return STEP_ON;
		}
		d->lengths[d->have++] = (uint8_t)d->symbol;
	}
	return build_both(d, io);
}

static int in_repeat(struct deflate64 *d, struct codec_io *io)
{
	static const struct {
		uint8_t bits, base;
	} repeats[] = {{2, 3}, {3, 3}, {7, 11}};
	const unsigned i = d->symbol - 16;
	uint8_t length = 0;
	unsigned n;

	if (!fill_bits(d, io, repeats[i].bits))
		return STEP_STARVED;
	n = repeats[i].base + take_bits(d, repeats[i].bits);
	if ((i == 0 && d->have == 0) || d->have + n > d->n_literals + d->n_distances)
		return damaged(io, "invalid repetition of lengths");
	if (i == 0)
		length = d->lengths[d->have - 1];
	memset(d->lengths + d->have, length, n);
	d->have += n;
	d->state = IN_LENGTHS;
	return STEP_ON;
}

static int in_codes(struct deflate64 *d, struct codec_io *io)
{
	while (io->out_len > 0) {
		enum deflate64_lookup f = next_symbol(d, io, &d->literals, &d->symbol);

		if (f != LOOKUP_OK)
			return f == LOOKUP_STARVED ? STEP_STARVED : damaged(io, "no such code");
		if (d->symbol >= END_OF_BLOCK)
			break;
		put_byte(d, io, (uint8_t)d->symbol);
		d->symbol = END_OF_BLOCK + LITERALS; /* no symbol is pending */
	}
	if (d->symbol == END_OF_BLOCK)
		end_block(d);
	else if (d->symbol < LITERALS)
		d->state = IN_LENGTH_EXTRA;
	return STEP_ON;
}

static int in_length_extra(struct deflate64 *d, struct codec_io *io)
{
	static const uint8_t extra[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3,
		4, 4, 4, 4, 5, 5, 5, 5, 16};
	static const uint8_t base[] = {3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35,
		43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 3};
	const unsigned i = d->symbol - END_OF_BLOCK - 1;

	if (i >= sizeof(base))
		return damaged(io, "no such length");
	if (!fill_bits(d, io, extra[i]))
		return STEP_STARVED;
	d->run = base[i] + take_bits(d, extra[i]);
	d->state = AT_DISTANCE;
	return STEP_ON;
}

static int at_distance(struct deflate64 *d, struct codec_io *io)
{
	enum deflate64_lookup f = next_symbol(d, io, &d->distances, &d->symbol);

	if (f != LOOKUP_OK)
		return f == LOOKUP_STARVED ? STEP_STARVED : damaged(io, "no such distance");
	d->state = IN_DISTANCE_EXTRA;
	return STEP_ON;
}

static int in_distance_extra(struct deflate64 *d, struct codec_io *io)
{
	const unsigned bits = d->symbol < 4 ? 0 : d->symbol / 2 - 1;

	if (!fill_bits(d, io, bits))
		return STEP_STARVED;
	d->distance = d->symbol + 1;
	if (bits > 0)
		d->distance = 1 + ((2 + d->symbol % 2) << bits) + take_bits(d, bits);
	if (d->distance > d->written)
		return damaged(io, "a distance to before the beginning");
	d->state = IN_COPY;
	return STEP_ON;
}

static int in_copy(struct deflate64 *d, struct codec_io *io)
{
	while (d->run > 0 && io->out_len > 0) {
		put_byte(d, io, d->window[(d->written - d->distance) % WINDOW]);
		d->run--;
	}
	if (d->run == 0)
		d->state = IN_CODES;
	return STEP_ON;
}

static int run_state(struct deflate64 *d, struct codec_io *io)
{
	static int (*const on[])(struct deflate64 * d, struct codec_io * io) = {
		[AT_BLOCK] = at_block,
		[AT_STORED_LEN] = at_stored_len,
		[IN_STORED] = in_stored,
		[AT_COUNTS] = at_counts,
		[IN_META_LENGTHS] = in_meta_lengths,
		[IN_LENGTHS] = in_lengths,
		[IN_REPEAT] = in_repeat,
		[IN_CODES] = in_codes,
		[IN_LENGTH_EXTRA] = in_length_extra,
		[AT_DISTANCE] = at_distance,
		[IN_DISTANCE_EXTRA] = in_distance_extra,
		[IN_COPY] = in_copy,
	};

	return on[d->state](d, io);
}

static int deflate64_step(struct codec *c, struct codec_io *io, struct error *err)
{
	struct deflate64 *d = container_of(c, struct deflate64, codec);
	struct codec_io at = *io;
	int step = STEP_ON;

	(void)err;
	while (step == STEP_ON && d->state != AT_END && at.out_len > 0)
		step = run_state(d, &at);
	if (d->state == AT_END)
		step = STEP_END;
	if (step != STEP_STARVED)
		unread(d, &at);
	io->in_len = at.in_len;
	io->out_len = at.out_len;
	io->why = at.why;
	return step;
}

static int deflate64_begin(struct codec *c, const uint8_t *first, size_t len, struct error *err)
{
	(void)c;
	(void)first;
	(void)len;
	(void)err;
	return 0;
}

static bool deflate64_matches(const uint8_t *first, size_t len)
{
	(void)first;
	return len > 0;
}

static void deflate64_free(struct codec *c)
{
	free(container_of(c, struct deflate64, codec));
}

static int deflate64_open(
	struct reader *in, const struct decode_env *env, struct reader **ret, struct error *err)
{
	static const struct codec_ops ops = {.peek = 1,
		.begin = deflate64_begin,
		.step = deflate64_step,
		.free = deflate64_free};
	struct deflate64 *d = zalloc(sizeof(*d));

	d->codec.decoder = &deflate64_decoder;
	d->codec.ops = &ops;
	return codec_open(&d->codec, in, env, sizeof(*d), ret, err);
}

const struct decoder deflate64_decoder = {
	.name = "deflate64",
	.suffixes = "",
	.bare = true,
	.matches = deflate64_matches,
	.open = deflate64_open,
};
