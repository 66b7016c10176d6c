/* SPDX-License-Identifier: MIT */
/* Digests as text. Pure. */
#include "sha256_hex.h"
#include <string.h>

void sha256_print_hex(const uint8_t digest[static SHA256_DIGEST_SIZE], char ret[static 65])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++) {
		*ret++ = digits[digest[i] >> 4];
		*ret++ = digits[digest[i] & 15];
	}
	*ret = '\0';
}

void sha256_finish_hex(struct sha256_ctx *ctx, char ret[static 65])
{
	uint8_t digest[SHA256_DIGEST_SIZE];

	sha256_digest(ctx, sizeof(digest), digest);
	sha256_print_hex(digest, ret);
}

static int value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

_Bool sha256_parse_hex(const char *hex, uint8_t ret[static SHA256_DIGEST_SIZE])
{
	if (strlen(hex) != (size_t)2 * SHA256_DIGEST_SIZE)
		return 0;
	for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++, hex += 2) {
		if (value(hex[0]) < 0 || value(hex[1]) < 0)
			return 0;
		ret[i] = (uint8_t)(value(hex[0]) << 4 | value(hex[1]));
	}
	return 1;
}
