/* SPDX-License-Identifier: MIT */
/* What bytes without any structure are taken for: checkpoints, encrypted files and the like are files. */
#include "../../agent/decode/codec.h"
#include "../../agent/unpack/unpack_private.h"
#include "defer.h"
#include "test.h"
#include <string.h>

enum { FIRST_BYTES = 4096, TRIES = 200000 };

/* xorshift64*: the same bytes in every run. */
static void fill(uint64_t *seed, uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i += 8) {
		uint64_t word;

		*seed ^= *seed >> 12;
		*seed ^= *seed << 25;
		*seed ^= *seed >> 27;
		word = *seed * 0x2545f4914f6cdd1d;
		memcpy(bytes + i, &word, 8);
	}
}

TEST(random_bytes_are_hardly_ever_taken_for_an_archive)
{
	static const struct unpacker *const unpackers[] = {
		&unpack_tar, &unpack_cpio, &unpack_7z, &unpack_zip};
	uint8_t first[FIRST_BYTES];
	unsigned taken[ARRAY_LEN(unpackers)] = {0};
	uint64_t seed = 20261130;

	for (unsigned n = 0; n < TRIES; n++) {
		fill(&seed, first, 512);
		for (size_t i = 0; i < ARRAY_LEN(unpackers); i++)
			taken[i] += unpackers[i]->matches(first, 512);
	}
	for (size_t i = 0; i < ARRAY_LEN(unpackers); i++)
		if (taken[i] > 0)
			fail_msg("%u of %d as %s", taken[i], TRIES, unpackers[i]->name);
}

TEST(random_bytes_are_hardly_ever_taken_for_a_compressed_file)
{
	static const struct decoder *const decoders[] = {
		&gzip_decoder, &zstd_decoder, &xz_decoder, &lz4_decoder, &bzip2_decoder};
	uint8_t first[64];
	uint64_t seed = 20261130;

	for (unsigned n = 0; n < TRIES; n++) {
		fill(&seed, first, sizeof(first));
		for (size_t i = 0; i < ARRAY_LEN(decoders); i++)
			assert_false(decoders[i]->matches(first, sizeof(first)));
	}
}

/* The sum of signed bytes, as some old writers made it, can be any small number, and so what stands for "no number". */
TEST(a_header_without_a_checksum_is_no_tar_whatever_its_bytes_amount_to)
{
	uint8_t header[512];

	for (int sum = -3; sum <= 3; sum++) {
		int rest = sum - 8 * ' ';

		memset(header, 'x', sizeof(header));
		for (size_t i = 0; i < sizeof(header); i++)
			if (i < 148 || i >= 156) {
				int8_t step = (int8_t)(rest < -128  ? -128
						       : rest > 127 ? 127
								    : rest);

				header[i] = i == 0 ? 1 : (uint8_t)step;
				rest -= (int8_t)header[i];
			}
		assert_int_equal(0, rest);
		assert_false(unpack_tar.matches(header, sizeof(header)));
	}
}
