/* SPDX-License-Identifier: MIT */
/* SHA-256 as text and back, and the summands of file_sum.h. Pure; any thread. */
#include "digest.h"
#include "file_sum.h"
#include <string.h>

void digest_print(const uint8_t digest[static SHA256_DIGEST_SIZE], char ret_hex[static 65])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++) {
		*ret_hex++ = digits[digest[i] >> 4];
		*ret_hex++ = digits[digest[i] & 15];
	}
	*ret_hex = '\0';
}

void digest_finish(struct sha256_ctx *ctx, char ret_hex[static 65])
{
	uint8_t digest[SHA256_DIGEST_SIZE];

	sha256_digest(ctx, sizeof(digest), digest);
	digest_print(digest, ret_hex);
}

void digest_hex(const void *bytes, size_t len, char ret_hex[static 65])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, len, bytes);
	digest_finish(&ctx, ret_hex);
}

static int hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool digest_parse(const char *hex, uint8_t ret[static SHA256_DIGEST_SIZE])
{
	if (strlen(hex) != (size_t)2 * SHA256_DIGEST_SIZE)
		return false;
	for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++, hex += 2) {
		if (hex_value(hex[0]) < 0 || hex_value(hex[1]) < 0)
			return false;
		ret[i] = (uint8_t)(hex_value(hex[0]) << 4 | hex_value(hex[1]));
	}
	return true;
}

/* A file's summand is FNV-1a over its path and size, mixed so that summands do not cancel each
 * other out. The sum protects against accidents: trees with equal sums can be constructed. */

#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

/* The finalizer of MurmurHash3: each bit of h changes half of the bits of the result. */
static uint64_t mix(uint64_t h)
{
	h = (h ^ (h >> 33)) * UINT64_C(0xff51afd7ed558ccd);
	h = (h ^ (h >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ (h >> 33);
}

uint64_t file_sum_mark(const char *path, uint64_t size)
{
	uint64_t hash = FNV_OFFSET;

	for (; *path != '\0'; path++)
		hash = (hash ^ (uint8_t)*path) * FNV_PRIME;
	return mix(hash ^ mix(size));
}

uint64_t file_sum_dated(uint64_t mark, int64_t seconds)
{
	return mix(mark + mix((uint64_t)(seconds >> 1)));
}
