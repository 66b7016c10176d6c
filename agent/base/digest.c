/* SPDX-License-Identifier: MIT */
/* SHA-256 as text, and back. Pure. */
#include "digest.h"
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

static int value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool digest_parse(const char *hex, uint8_t ret[static SHA256_DIGEST_SIZE])
{
	if (strlen(hex) != (size_t)2 * SHA256_DIGEST_SIZE)
		return false;
	for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++, hex += 2) {
		if (value(hex[0]) < 0 || value(hex[1]) < 0)
			return false;
		ret[i] = (uint8_t)(value(hex[0]) << 4 | value(hex[1]));
	}
	return true;
}
