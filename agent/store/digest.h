/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DIGEST_H
#define STAGERUN_DIGEST_H

#include <nettle/sha2.h>
#include <stddef.h>

/* SHA-256 as 64 lower-case hex digits. Any thread. */
void digest_hex(const void *bytes, size_t len, char ret_hex[static 65]);
void digest_finish(struct sha256_ctx *ctx, char ret_hex[static 65]); /* ctx is as new again */

#endif
