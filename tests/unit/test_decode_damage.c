/* SPDX-License-Identifier: MIT */
/* Streams that are cut or damaged: never a success with other bytes, and a message that says where.
 */
#include "decode_util.h"
#include "defer.h"
#include <string.h>

static const struct {
	const char *name;
	size_t magic;
} magics[N_FORMATS] = {{"gzip", 3}, {"zstd", 4}, {"xz", 6}, {"lz4", 4}, {"bzip2", 4}};

static bool is_damage(int code)
{
	return code == -ERR_FORMAT || code == -ERR_TRUNCATED;
}

TEST(a_stream_cut_at_any_byte_is_an_error)
{
	struct text in = sample(400);

	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = {0};

		formats[i].compress(&z, in.s, in.len);
		for (size_t cut = magics[i].magic; cut < z.len; cut++) {
			struct decoded d =
				decode_reader(reader_from_memory(z.s, cut, "data"), USUAL_BUDGET);

			if (d.code != -ERR_TRUNCATED)
				fail_msg("%s cut to %zu of %zu bytes: %d", formats[i].name, cut,
					z.len, d.code);
			decoded_done(&d);
		}
		text_done(&z);
	}
	text_done(&in);
}

TEST(a_second_member_cut_at_any_byte_is_an_error)
{
	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = {0};
		size_t first;

		formats[i].compress(&z, "cat", 3);
		first = z.len;
		formats[i].compress(&z, "dog", 3);
		for (size_t cut = first + 1; cut < z.len; cut++) {
			struct decoded d =
				decode_reader(reader_in_pieces(z.s, cut, 5, 0), USUAL_BUDGET);

			if (d.code != -ERR_TRUNCATED)
				fail_msg("%s cut to %zu of %zu bytes: %d", formats[i].name, cut,
					z.len, d.code);
			decoded_done(&d);
		}
		text_done(&z);
	}
}

TEST(a_cut_says_where_and_what_to_do)
{
	struct text in = sample(400), z = {0};
	_free_ char *want = NULL;
	struct decoded d;

	formats[0].compress(&z, in.s, in.len);
	z.len -= 5;
	d = decode_bytes(&z);
	want = format_text("data: gzip stream ends early, after %zu bytes: the file was cut off; "
			   "fetch or build it again",
		z.len);
	assert_string_equal(want, d.err.msg);
	decoded_done(&d);
	text_done(&in);
	text_done(&z);
}

/* Some bits mean nothing (a time, a name): then all bytes must be right. */
static void flip_and_decode(
	const struct format *f, struct text *z, size_t bit, const struct text *in)
{
	struct decoded d;

	z->s[bit / 8] ^= (char)(1 << bit % 8);
	d = decode_bytes(z);
	z->s[bit / 8] ^= (char)(1 << bit % 8);
	if (d.code == 0 && strcmp(d.format, "none") != 0 &&
		(d.bytes.len != in->len || memcmp(d.bytes.s, in->s, in->len) != 0))
		fail_msg("%s with bit %zu flipped decodes to other bytes", f->name, bit);
	if (d.code != 0 && !is_damage(d.code) && d.code != -ERR_UNSUPPORTED && d.code != -ERR_LIMIT)
		fail_msg("%s with bit %zu flipped: %d %s", f->name, bit, d.code, d.err.msg);
	decoded_done(&d);
}

TEST(a_stream_with_any_bit_flipped_never_decodes_to_other_bytes)
{
	struct text in = sample(400);

	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = {0};

		formats[i].compress(&z, in.s, in.len);
		log_catch(); /* some flips end the stream before its last bytes */
		for (size_t bit = magics[i].magic * 8; bit < z.len * 8; bit++)
			flip_and_decode(&formats[i], &z, bit, &in);
		free(log_caught());
		text_done(&z);
	}
	text_done(&in);
}

TEST(damage_is_reported_with_name_format_and_place)
{
	struct text in = sample(400000);

	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = {0};
		_free_ char *want =
			format_text("data: %s data is damaged at byte ", formats[i].name);
		struct decoded d;

		formats[i].compress(&z, in.s, in.len);
		memset(z.s + z.len / 2, 0xa5, 100);
		d = decode_bytes(&z);
		assert_int_equal(-ERR_FORMAT, d.code);
		assert_memory_equal(want, d.err.msg, strlen(want));
		assert_non_null(strstr(d.err.msg, " of the compressed stream ("));
		decoded_done(&d);
		text_done(&z);
	}
	text_done(&in);
}

TEST(damage_in_a_later_member_is_no_garbage)
{
	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = {0};
		struct decoded d;

		formats[i].compress(&z, "cat", 3);
		formats[i].compress(&z, "dog", 3);
		z.s[z.len - 1] ^= 1;
		z.s[z.len - 3] ^= 1;
		z.s[z.len - 8] ^= 1;
		d = decode_bytes(&z);
		if (!is_damage(d.code))
			fail_msg("%s: %d", formats[i].name, d.code);
		decoded_done(&d);
		text_done(&z);
	}
}
