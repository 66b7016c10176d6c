/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STORE_SHA256_HEX_H
#define STAGERUN_STORE_SHA256_HEX_H

#include <nettle/sha2.h>

/* 64 hex digits and a NUL. */
void sha256_print_hex(const uint8_t digest[static SHA256_DIGEST_SIZE], char ret[static 65]);
/* Ends ctx, which begins anew. */
void sha256_finish_hex(struct sha256_ctx *ctx, char ret[static 65]);
/* False when hex is not 64 hex digits. */
_Bool sha256_parse_hex(const char *hex, uint8_t ret[static SHA256_DIGEST_SIZE]);

#endif
