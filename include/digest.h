/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DIGEST_H
#define STAGERUN_DIGEST_H

#include <nettle/sha2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* SHA-256 as text: 64 lower-case hex digits and a NUL. Any thread. */
void digest_print(const uint8_t digest[static SHA256_DIGEST_SIZE], char ret_hex[static 65]);
void digest_finish(struct sha256_ctx *ctx, char ret_hex[static 65]); /* ctx is reset */
void digest_hex(const void *bytes, size_t len, char ret_hex[static 65]);

/* Returns false if hex is not 64 lower-case hex digits. */
bool digest_parse(const char *hex, uint8_t ret[static SHA256_DIGEST_SIZE]);

#endif
