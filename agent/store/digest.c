/* SPDX-License-Identifier: MIT */
/* SHA-256 as text. */
#include "digest.h"
#include <stdint.h>

void digest_finish(struct sha256_ctx *ctx, char ret_hex[static 65])
{
	static const char digits[] = "0123456789abcdef";
	uint8_t sha256[SHA256_DIGEST_SIZE];

	sha256_digest(ctx, sizeof(sha256), sha256);
	for (size_t i = 0; i < sizeof(sha256); i++) {
		ret_hex[2 * i] = digits[sha256[i] >> 4];
		ret_hex[2 * i + 1] = digits[sha256[i] & 15];
	}
	ret_hex[64] = '\0';
}

void digest_hex(const void *bytes, size_t len, char ret_hex[static 65])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, len, bytes);
	digest_finish(&ctx, ret_hex);
}
