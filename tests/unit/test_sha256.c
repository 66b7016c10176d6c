/* SPDX-License-Identifier: MIT */
#include "decode_util.h"
#include <string.h>

#define ABC       "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABC_UPPER "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"
#define EMPTY     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void assert_digest(const char *bytes, size_t piece, const char *want)
{
	struct reader *r = sha256_reader(reader_in_pieces(bytes, strlen(bytes), piece, 0), NULL);
	struct error err;
	char hex[65];

	assert_int_equal(0, reader_drain(r, &err));
	sha256_reader_hex(r, hex);
	assert_string_equal(want, hex);
	reader_close(r);
}

TEST(sha256_is_that_of_the_bytes_however_they_are_cut)
{
	assert_digest("abc", 3, ABC);
	assert_digest("abc", 1, ABC);
	assert_digest("", 1, EMPTY);
}

TEST(sha256_passes_the_same_bytes_on_without_a_copy)
{
	struct reader *r = sha256_reader(reader_in_pieces("abc", 3, 3, 0), ABC);
	const char *bytes = "abc";
	struct error err;
	struct slice s;

	assert_int_equal(1, reader_next(r, &s, &err));
	assert_ptr_equal(bytes, s.data);
	assert_int_equal(3, s.len);
	assert_int_equal(0, reader_next(r, &s, &err));
	assert_int_equal(0, reader_next(r, &s, &err));
	reader_close(r);
}

TEST(sha256_compares_digits_of_either_case)
{
	struct reader *r = sha256_reader(reader_in_pieces("abc", 3, 2, 0), ABC_UPPER);
	struct error err;

	assert_int_equal(0, reader_drain(r, &err));
	reader_close(r);
}

TEST(sha256_that_differs_is_an_error_that_names_both)
{
	struct reader *r = sha256_reader(reader_in_pieces("abd", 3, 2, 0), ABC);
	struct error err, again;
	struct slice s;

	assert_int_equal(1, reader_next(r, &s, &err));
	assert_int_equal(1, reader_next(r, &s, &err));
	assert_int_equal(-ERR_DIGEST, reader_next(r, &s, &err));
	assert_string_equal(
		"SHA-256 of pieces is "
		"a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9, expected " ABC
		": the object is not what was pinned; check the digest or the source",
		err.msg);
	assert_int_equal(-ERR_DIGEST, reader_next(r, &s, &again));
	reader_close(r);
}

TEST(sha256_passes_an_error_of_its_input_on_and_compares_nothing)
{
	struct reader *r = sha256_reader(reader_in_pieces("abd", 3, 3, -ERR_CHANGED), ABC);
	struct error err;

	assert_int_equal(-ERR_CHANGED, reader_drain(r, &err));
	reader_close(r);
}

TEST(sha256_counts_bytes_that_were_skipped_or_peeked_at)
{
	struct reader *r = sha256_reader(reader_in_pieces("abc", 3, 3, 0), ABC);
	struct error err;
	char first[2];

	assert_int_equal(2, reader_peek(r, first, 2, &err));
	assert_int_equal(0, reader_skip(r, 2, &err));
	assert_int_equal(0, reader_drain(r, &err));
	reader_close(r);
}
