/* SPDX-License-Identifier: MIT */
/* The choice of a decoder, and what it does not do. */
#include "decode_util.h"
#include "defer.h"
#include <string.h>

/* Opens in and asserts that it comes back as it is. */
static void assert_left_alone(const void *bytes, size_t len)
{
	struct reader *in = reader_from_memory(bytes, len, "data"), *r = NULL;
	struct budget *budget = budget_new(SMALLEST_BUDGET);
	struct decode_env env = {.budget = budget, .threads = 1};
	const struct decoder *decoder = (const struct decoder *)"unset";
	struct error err;
	char back[64];

	assert_int_equal(0, decode_open(in, &env, &r, &decoder, &err));
	assert_ptr_equal(in, r);
	assert_null(decoder);
	assert_int_equal(len, reader_peek(r, back, sizeof(back), &err));
	assert_memory_equal(bytes, back, len);
	reader_close(r);
	budget_free(budget);
}

TEST(decode_leaves_bytes_that_are_not_compressed_as_they_are)
{
	assert_left_alone("id,name\n1,cat\n", 14);
	assert_left_alone("PK\3\4", 4);
	assert_left_alone("BZh0 is no block size", 21);
	assert_left_alone("BZh9 and other words", 20);
	assert_left_alone("\x1f\x8b\x07 pack and compress are not gzip", 30);
}

TEST(decode_leaves_what_is_shorter_than_any_magic_as_it_is)
{
	assert_left_alone("\x1f\x8b", 2);
	assert_left_alone("\xfd\x37\x7a", 3);
	assert_left_alone("x", 1);
}

TEST(decode_of_an_empty_stream_is_an_empty_stream)
{
	struct decoded d = decode_reader(reader_from_memory("", 0, "data"), SMALLEST_BUDGET);

	assert_int_equal(0, d.code);
	assert_string_equal("none", d.format);
	assert_int_equal(0, d.bytes.len);
}

TEST(decode_opens_one_layer_only)
{
	struct text in = sample(1000), once = {0}, twice = {0};
	struct decoded d;

	formats[0].compress(&once, in.s, in.len);
	formats[1].compress(&twice, once.s, once.len);
	d = decode_bytes(&twice);
	assert_string_equal("zstd", d.format);
	assert_same_bytes(&once, &d.bytes);
	decoded_done(&d);
	text_done(&in);
	text_done(&once);
	text_done(&twice);
}

static void assert_format_after_skippable(const char *name, size_t format)
{
	struct text in = {0};
	struct decoded d;

	add_skippable(&in);
	formats[format].compress(&in, "meow", 4);
	d = decode_bytes(&in);
	assert_int_equal(0, d.code);
	assert_string_equal(name, d.format);
	assert_int_equal(4, d.bytes.len);
	assert_memory_equal("meow", d.bytes.s, 4);
	decoded_done(&d);
	text_done(&in);
}

TEST(decode_tells_zstd_from_lz4_by_what_follows_a_skippable_frame)
{
	assert_format_after_skippable("zstd", 1);
	assert_format_after_skippable("lz4", 3);
}

/* One that is longer than what a decoder is chosen by, as tools that index their frames write. */
static void add_long_skippable(struct text *to, size_t len)
{
	text_add_bytes(to, "\x5e\x2a\x4d\x18", 4);
	text_add_bytes(to, (char[]){(char)len, (char)(len >> 8), 0, 0}, 4);
	for (size_t i = 0; i < len; i++)
		text_add(to, "i");
}

TEST(decode_tells_zstd_from_lz4_behind_many_long_skippable_frames)
{
	static const size_t readers[] = {1, 3};

	for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
		const struct format *f = &formats[readers[i]];
		struct text z = {0};
		struct decoded d;

		add_long_skippable(&z, 40);
		add_long_skippable(&z, 0);
		add_long_skippable(&z, 5000);
		f->compress(&z, "cat", 3);
		add_long_skippable(&z, 300);
		f->compress(&z, "dog", 3);
		d = decode_reader(reader_in_pieces(z.s, z.len, 7, 0), USUAL_BUDGET);
		if (d.code != 0)
			fail_msg("%s", d.err.msg);
		assert_string_equal(f->name, d.format);
		assert_string_equal("catdog", d.bytes.s);
		decoded_done(&d);
		text_done(&z);
	}
}

TEST(decode_of_nothing_but_skippable_frames_is_nothing)
{
	struct text z = {0};
	struct decoded d;

	add_long_skippable(&z, 100);
	add_skippable(&z);
	d = decode_bytes(&z);
	assert_int_equal(0, d.code);
	assert_string_equal("zstd", d.format);
	assert_int_equal(0, d.bytes.len);
	text_done(&z);
}

TEST(decode_of_skippable_frames_that_are_cut_or_not_followed_by_a_frame_is_an_error)
{
	struct text z = {0};
	struct decoded d;

	add_long_skippable(&z, 100);
	formats[3].compress(&z, "cat", 3);
	for (size_t cut = 4; cut < z.len; cut++) {
		if (cut == 108)
			continue; /* a skippable frame alone is whole */
		d = decode_reader(reader_from_memory(z.s, cut, "data"), USUAL_BUDGET);
		if (d.code != -ERR_TRUNCATED)
			fail_msg("cut to %zu: %d", cut, d.code);
	}
	z.s[108] ^= 1;
	d = decode_bytes(&z);
	assert_int_equal(-ERR_FORMAT, d.code);
	assert_non_null(strstr(d.err.msg, "at byte 108 "));
	text_done(&z);
}

TEST(decode_passes_an_error_of_its_input_on)
{
	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text in = sample(300000), z = {0};
		struct decoded d;

		formats[i].compress(&z, in.s, in.len);
		d = decode_reader(
			reader_in_pieces(z.s, z.len / 2, 1000, -ERR_RESTART), USUAL_BUDGET);
		assert_int_equal(-ERR_RESTART, d.code);
		assert_string_equal("the line is dead", d.err.msg);
		decoded_done(&d);
		text_done(&in);
		text_done(&z);
	}
}

TEST(decode_fails_when_its_input_fails_before_the_first_byte)
{
	struct decoded d = decode_reader(reader_in_pieces("", 0, 1, -ERR_HTTP), USUAL_BUDGET);

	assert_int_equal(-ERR_HTTP, d.code);
}

TEST(decode_stops_when_it_is_cancelled)
{
	struct text in = sample(3000000), z = {0};
	struct budget *budget = budget_new(SMALLEST_BUDGET);
	const struct decoder *decoder;
	struct cancel cancel;
	struct decode_env env = {.budget = budget, .cancel = &cancel, .threads = 1};
	struct reader *r;
	struct error err;
	struct slice s;

	formats[0].compress(&z, in.s, in.len);
	cancel_init(&cancel);
	assert_int_equal(
		0, decode_open(reader_from_memory(z.s, z.len, "data"), &env, &r, &decoder, &err));
	assert_int_equal(1, reader_next(r, &s, &err));
	slice_drop(&s);
	cancel_request(&cancel);
	assert_int_equal(-ECANCELED, reader_next(r, &s, &err));
	reader_close(r);
	cancel_done(&cancel);
	budget_free(budget);
	text_done(&in);
	text_done(&z);
}

static void assert_stripped(const struct decoder *d, const char *name, const char *want)
{
	_free_ char *got = decode_strip_suffix(d, name);

	assert_string_equal(want, got);
}

TEST(strip_suffix_takes_off_the_suffix_of_the_compression_only)
{
	static const struct decoder d = {.suffixes = ".gz .gzip"};

	assert_stripped(&d, "x.csv.gz", "x.csv");
	assert_stripped(&d, "x.csv.gzip", "x.csv");
	assert_stripped(&d, "X.CSV.GZ", "X.CSV");
	assert_stripped(&d, "x.csv.zst", "x.csv.zst");
	assert_stripped(&d, "x.gz.csv", "x.gz.csv");
	assert_stripped(NULL, "x.csv.gz", "x.csv.gz");
}

TEST(strip_suffix_leaves_a_name_that_is_nothing_else)
{
	static const struct decoder d = {.suffixes = ".gz .gzip"};

	assert_stripped(&d, ".gz", ".gz");
	assert_stripped(&d, "gz", "gz");
	assert_stripped(&d, "", "");
}
