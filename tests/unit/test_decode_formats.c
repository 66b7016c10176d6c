/* SPDX-License-Identifier: MIT */
/* What holds for every compression: each test runs once for each format. */
#include "decode_util.h"
#include "defer.h"
#include <string.h>

/* The bytes of in, compressed once for each of n members. */
static struct text members(const struct format *f, const struct text *in, unsigned n)
{
	struct text z = {0};

	while (n-- > 0)
		f->compress(&z, in->s, in->len);
	return z;
}

/* Consumes d. */
static void assert_decoded(struct decoded d, const struct format *f, const struct text *want)
{
	if (d.code != 0)
		fail_msg("%s: %s", f->name, d.err.msg);
	assert_string_equal(f->name, d.format);
	assert_same_bytes(want, &d.bytes);
	decoded_done(&d);
}

TEST(every_format_gives_back_what_was_compressed)
{
	struct text in = sample(2500000);

	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = members(&formats[i], &in, 1);

		assert_decoded(decode_bytes(&z), &formats[i], &in);
		text_done(&z);
	}
	text_done(&in);
}

TEST(every_format_gives_back_bytes_that_did_not_compress)
{
	struct text in = {0};
	uint64_t x = 88172645463325252u;

	while (in.len < 400000) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		text_add_bytes(&in, &x, sizeof(x));
	}
	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = members(&formats[i], &in, 1);

		assert_decoded(decode_bytes(&z), &formats[i], &in);
		text_done(&z);
	}
	text_done(&in);
}

TEST(every_format_fits_the_smallest_budget)
{
	struct text in = sample(1000000);

	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = members(&formats[i], &in, 1);

		assert_decoded(
			decode_reader(reader_from_memory(z.s, z.len, "data"), SMALLEST_BUDGET),
			&formats[i], &in);
		text_done(&z);
	}
	text_done(&in);
}

TEST(every_format_can_arrive_in_slices_of_any_size)
{
	struct text in = sample(20000);

	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = members(&formats[i], &in, 3);
		struct text want = {0};

		for (int n = 0; n < 3; n++)
			text_add_bytes(&want, in.s, in.len);
		for (size_t piece = 1; piece < 40; piece++)
			assert_decoded(
				decode_reader(reader_in_pieces(z.s, z.len, piece, 0), USUAL_BUDGET),
				&formats[i], &want);
		text_done(&z);
		text_done(&want);
	}
	text_done(&in);
}

TEST(every_format_joins_members)
{
	struct text in = sample(100000), want = {0};

	text_add_bytes(&want, in.s, in.len);
	text_add_bytes(&want, in.s, in.len);
	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = members(&formats[i], &in, 2);

		assert_decoded(decode_bytes(&z), &formats[i], &want);
		text_done(&z);
	}
	text_done(&in);
	text_done(&want);
}

TEST(every_format_may_have_members_without_bytes)
{
	struct text empty = {0}, word = {0};

	text_add(&word, "cat");
	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = members(&formats[i], &empty, 2);

		assert_decoded(decode_bytes(&z), &formats[i], &empty);
		formats[i].compress(&z, word.s, word.len);
		formats[i].compress(&z, "", 0);
		assert_decoded(decode_bytes(&z), &formats[i], &word);
		text_done(&z);
	}
	text_done(&word);
}

TEST(every_format_is_silent_about_zero_padding)
{
	static const char zeros[3000];
	struct text in = sample(1000);

	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = members(&formats[i], &in, 1);
		_free_ char *lines = NULL;

		text_add_bytes(&z, zeros, sizeof(zeros));
		log_catch();
		assert_decoded(decode_reader(reader_in_pieces(z.s, z.len, 700, 0), USUAL_BUDGET),
			&formats[i], &in);
		lines = log_caught();
		assert_string_equal("", lines);
		text_done(&z);
	}
	text_done(&in);
}

TEST(every_format_goes_on_with_a_member_after_padding)
{
	struct text in = sample(1000), want = {0};

	text_add_bytes(&want, in.s, in.len);
	text_add_bytes(&want, in.s, in.len);
	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = members(&formats[i], &in, 1);

		text_add_bytes(&z, "\0\0\0\0\0\0\0\0", 8);
		formats[i].compress(&z, in.s, in.len);
		assert_decoded(decode_bytes(&z), &formats[i], &want);
		text_done(&z);
	}
	text_done(&in);
	text_done(&want);
}

TEST(every_format_refuses_what_follows_the_last_member_and_says_where)
{
	struct text in = sample(1000);

	for (size_t i = 0; i < N_FORMATS; i++) {
		struct text z = members(&formats[i], &in, 1);
		_free_ char *want = NULL;
		struct decoded d;

		want = text_format("data: what follows the %s data, at byte %zu, is neither",
			formats[i].name, z.len + 3);
		text_add_bytes(&z, "\0\0\0-- \nsent by mail", 19);
		d = decode_bytes(&z);
		assert_int_equal(-ERR_FORMAT, d.code);
		assert_non_null(strstr(d.err.msg, want));
		decoded_done(&d);
		text_done(&z);
	}
	text_done(&in);
}

static void assert_digest_is_checked(
	const struct format *f, const struct text *in, struct slice tail)
{
	static const char wrong[] =
		"0000000000000000000000000000000000000000000000000000000000000000";
	struct text z = members(f, in, 1);
	struct decoded d;

	text_add_bytes(&z, tail.data, tail.len);
	log_catch();
	d = decode_reader(sha256_reader(reader_in_pieces(z.s, z.len, 100, 0), wrong), USUAL_BUDGET);
	free(log_caught());
	assert_int_equal(-ERR_DIGEST, d.code);
	decoded_done(&d);
	text_done(&z);
}

TEST(every_format_reads_its_input_to_the_end_so_that_a_digest_is_checked)
{
	struct text in = sample(1000);

	for (size_t i = 0; i < N_FORMATS; i++) {
		assert_digest_is_checked(&formats[i], &in, (struct slice){(uint8_t *)"", 0, NULL});
		assert_digest_is_checked(
			&formats[i], &in, (struct slice){(uint8_t *)"\0\0\0", 3, NULL});
	}
	text_done(&in);
}

TEST(decoded_slices_outlive_their_reader)
{
	struct text in = sample(600000), z = members(&formats[0], &in, 1), got = {0};
	struct budget *budget = budget_new(SMALLEST_BUDGET);
	struct decode_env env = {.budget = budget, .threads = 1};
	const struct decoder *decoder;
	struct slice held[DECODE_SLICES];
	struct reader *r;
	struct error err;
	size_t n = 0;

	assert_int_equal(
		0, decode_open(reader_from_memory(z.s, z.len, "data"), &env, &r, &decoder, &err));
	while (n < DECODE_SLICES - 1 && reader_next(r, &held[n], &err) > 0)
		n++;
	reader_close(r);
	for (size_t i = 0; i < n; i++) {
		text_add_bytes(&got, held[i].data, held[i].len);
		slice_drop(&held[i]);
	}
	assert_true(n > 1);
	assert_same_bytes(&in, &got);
	budget_free(budget);
	text_done(&in);
	text_done(&z);
	text_done(&got);
}

/* A slice costs a lock, a wake-up and a system call further on. */
TEST(decoded_slices_are_whole_blocks_though_the_input_comes_in_crumbs)
{
	struct text in = sample(1000000), z = members(&formats[0], &in, 1);
	struct budget *budget = budget_new(SMALLEST_BUDGET);
	struct decode_env env = {.budget = budget, .threads = 1};
	const struct decoder *decoder;
	struct slice s;
	struct reader *r;
	struct error err;
	unsigned n = 0;

	assert_int_equal(
		0, decode_open(reader_in_pieces(z.s, z.len, 100, 0), &env, &r, &decoder, &err));
	for (; reader_next(r, &s, &err) > 0; n++)
		slice_drop(&s);
	assert_in_range(n, 1, 4);
	reader_close(r);
	budget_free(budget);
	text_done(&in);
	text_done(&z);
}
