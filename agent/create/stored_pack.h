/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_STORED_PACK_H
#define STAGERUN_CREATE_STORED_PACK_H

#include "create_private.h"

/* The stored bytes of a pack whose raw ones have the digest in sha256 (which begins anew). list: its frames; taken
 * when they are needed, and NULL then. */
struct pack_bytes {
	struct sha256_ctx *sha256;
	const uint8_t *bytes;
	size_t len;
	uint64_t raw;
	struct index_frame **list;
	size_t n;
};

/* Puts the pack into the store unless it is there. *ret is the caller's. A hand's. */
int pack_store(
	struct hand *h, const struct pack_bytes *p, struct create_object **ret, struct error *err);

#endif
