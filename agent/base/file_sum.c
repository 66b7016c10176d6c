/* SPDX-License-Identifier: MIT */
/* One file's part in the sum of a tree: FNV-1a over its path and its size, stirred so that what is added up does
 * not cancel out. Nobody is kept from making two trees of one sum: it is against accidents. */
#include "file_sum.h"

#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME  UINT64_C(0x100000001b3)

/* The finalizer of MurmurHash3: each bit of h changes half of the result's. */
static uint64_t stir(uint64_t h)
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
	return stir(hash ^ stir(size));
}
