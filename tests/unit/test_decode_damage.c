/* SPDX-License-Identifier: MIT */
/* Streams that are cut or damaged: never a success with other bytes, and a message that says where.
 */
#include "decode_util.h"
#include "defer.h"
#include <signal.h>
#include <stdio.h>
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
	want = text_format("data: gzip stream ends early, after %zu bytes: the file was cut off; "
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
		for (size_t bit = magics[i].magic * 8; bit < z.len * 8; bit++)
			flip_and_decode(&formats[i], &z, bit, &in);
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
			text_format("data: %s data is damaged at byte ", formats[i].name);
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

TEST(damage_in_a_later_member_is_an_error)
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

/* What was appended, or damaged where a member begins, cuts all that follows off. */
TEST(a_later_member_with_any_bit_of_its_magic_flipped_is_an_error)
{
	struct text in = sample(400);

	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = {0};
		size_t border;

		formats[i].compress(&z, in.s, in.len);
		border = z.len;
		formats[i].compress(&z, in.s, in.len);
		for (size_t bit = border * 8; bit < (border + magics[i].magic) * 8; bit++) {
			struct decoded d;

			z.s[bit / 8] ^= (char)(1 << bit % 8);
			d = decode_bytes(&z);
			z.s[bit / 8] ^= (char)(1 << bit % 8);
			/* bzip2's also says how large its blocks may be: larger does not matter. */
			if (!is_damage(d.code) && d.bytes.len != 2 * in.len)
				fail_msg("%s with bit %zu flipped: %d", formats[i].name,
					bit - border * 8, d.code);
			decoded_done(&d);
		}
		text_done(&z);
	}
	text_done(&in);
}

static const char *const testers[N_FORMATS] = {
	"gzip -t", "zstd -t --no-progress", "xz -t", "lz4 -t", "bzip2 -t"};

/* Whether the format's own tool calls the bytes whole; a warning counts as no. */
static bool tool_accepts(size_t format, const struct text *z)
{
	_free_ char *command = text_format("%s >/dev/null 2>&1", testers[format]);
	FILE *tool = popen(command, "we");

	assert_non_null(tool);
	fwrite(z->s, 1, z->len, tool);
	return pclose(tool) == 0;
}

static void assert_no_more_lenient_than_the_tool(
	size_t format, const char *what, const struct text *z)
{
	struct decoded d = decode_bytes(z);

	if (d.code == 0 && strcmp(d.format, "none") != 0 && !tool_accepts(format, z))
		fail_msg("%s, %s: the tool calls it damaged", formats[format].name, what);
	decoded_done(&d);
}

static void try_tails(size_t format, const struct text *member, const struct text *whole)
{
	static const struct {
		const char *what, *bytes;
		size_t len;
	} tails[] = {
		{"a letter", "x", 1},
		{"half a magic", "\x1f", 1},
		{"text", "\n-- \nsent by mail\n", 18},
		{"the end of another frame", "\xff\xff\xff\xff\0\0\0\0", 8},
		{"another format", "PK\5\6\0\0\0\0", 8},
	};
	struct text z = {0};

	for (size_t i = 0; i < ARRAY_LEN(tails); i++) {
		z.len = 0;
		text_add_bytes(&z, member->s, member->len);
		text_add_bytes(&z, tails[i].bytes, tails[i].len);
		assert_no_more_lenient_than_the_tool(format, tails[i].what, &z);
	}
	for (size_t cut = member->len + 1; cut < whole->len; cut += 5) {
		z.len = 0;
		text_add_bytes(&z, whole->s, cut);
		assert_no_more_lenient_than_the_tool(format, "a cut", &z);
	}
	text_done(&z);
}

TEST(no_format_accepts_what_its_own_tool_calls_damaged)
{
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text member = {0}, whole = {0};

		formats[i].compress(&member, "cat", 3);
		text_add_bytes(&whole, member.s, member.len);
		text_add_bytes(&whole, member.s, member.len);
		assert_no_more_lenient_than_the_tool(i, "two members", &whole);
		try_tails(i, &member, &whole);
		text_done(&member);
		text_done(&whole);
	}
}
