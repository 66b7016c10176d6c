/* SPDX-License-Identifier: MIT */
/* gzip's own: optional header fields, its header's CRC, its length. */
#include "decode_util.h"
#include <libdeflate.h>
#include <string.h>

#define FHCRC    0x02
#define FEXTRA   0x04
#define FNAME    0x08
#define FCOMMENT 0x10

static void add_le(struct text *t, uint32_t n, unsigned bytes)
{
	for (; bytes-- > 0; n >>= 8)
		text_add_bytes(t, &(uint8_t){n & 0xff}, 1);
}

/* A header with the given fields; its CRC, when asked for, is off by crc_error. */
static void add_header(struct text *z, unsigned flags, uint16_t crc_error)
{
	size_t start = z->len;

	text_add_bytes(z, "\x1f\x8b\x08", 3);
	add_le(z, flags, 1);
	text_add_bytes(z, "\x11\x22\x33\x44\x02\x03", 6);
	if (flags & FEXTRA)
		text_add_bytes(z,
			"\x06\x00"
			"BC\x02\x00\x1b\x00",
			8);
	if (flags & FNAME)
		text_add_bytes(z, "cats.csv", 9);
	if (flags & FCOMMENT)
		text_add_bytes(z, "all of them", 12);
	if (flags & FHCRC)
		add_le(z, (libdeflate_crc32(0, z->s + start, z->len - start) ^ crc_error) & 0xffff,
			2);
}

/* A stored block and the trailer, whose length is off by len_error. */
static void add_body(struct text *z, const char *word, uint32_t len_error)
{
	uint32_t len = (uint32_t)strlen(word);

	add_le(z, 1, 1);
	add_le(z, len, 2);
	add_le(z, ~len, 2);
	text_add(z, word);
	add_le(z, libdeflate_crc32(0, word, len), 4);
	add_le(z, len + len_error, 4);
}

TEST(gzip_reads_any_header_split_at_any_byte)
{
	for (unsigned flags = 0; flags < 32; flags += 2) {
		struct text z = {0};

		add_header(&z, flags, 0);
		add_body(&z, "meow", 0);
		for (size_t piece = 1; piece <= z.len; piece++) {
			struct decoded d =
				decode_reader(reader_in_pieces(z.s, z.len, piece, 0), USUAL_BUDGET);

			if (d.code != 0 || d.bytes.len != 4 || memcmp(d.bytes.s, "meow", 4) != 0)
				fail_msg("flags %#x in pieces of %zu: %d", flags, piece, d.code);
			decoded_done(&d);
		}
		text_done(&z);
	}
}

/* Consumes z. */
static void assert_damaged(struct text z, const char *why)
{
	for (size_t piece = 1; piece <= z.len; piece++) {
		struct decoded d =
			decode_reader(reader_in_pieces(z.s, z.len, piece, 0), USUAL_BUDGET);

		assert_int_equal(-ERR_FORMAT, d.code);
		assert_non_null(strstr(d.err.msg, why));
		decoded_done(&d);
	}
	text_done(&z);
}

TEST(gzip_refuses_a_header_with_a_wrong_crc)
{
	struct text z = {0};

	add_header(&z, FHCRC | FEXTRA | FNAME, 0x0100);
	add_body(&z, "meow", 0);
	assert_damaged(z, "CRC or length mismatch");
}

TEST(gzip_refuses_header_flags_that_it_does_not_know)
{
	struct text z = {0};

	add_header(&z, 0x20, 0);
	add_body(&z, "meow", 0);
	assert_damaged(z, "unknown header flags");
}

TEST(gzip_refuses_a_wrong_length)
{
	struct text z = {0};

	add_header(&z, 0, 0);
	add_body(&z, "meow", 1);
	assert_damaged(z, "CRC or length mismatch");
}

TEST(gzip_refuses_a_match_before_the_beginning)
{
	/* A static block: "a", then three bytes from a distance of four. */
	static const uint8_t body[] = {0x4b, 0x04, 0x62, 0x00, 0, 0, 0, 0, 0, 0, 0, 0};
	struct text z = {0};

	add_header(&z, 0, 0);
	text_add_bytes(&z, body, sizeof(body));
	assert_damaged(z, "a match reaches back before the beginning");
}
