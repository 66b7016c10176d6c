/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_NAMES_H
#define STAGERUN_ZIP_NAMES_H

#include <stdbool.h>
#include <stdint.h>

/* Hashes of names, counted by their lowest bits: says at once of nearly every name that it is not
 * among them, and may be wrong when it says that one is. */

#define ZIP_NAMES_BUCKETS 16384

struct zip_names {
	uint32_t count[ZIP_NAMES_BUCKETS];
};

static inline void zip_names_add(struct zip_names *names, uint64_t hash)
{
	names->count[hash % ZIP_NAMES_BUCKETS]++;
}

static inline void zip_names_remove(struct zip_names *names, uint64_t hash)
{
	names->count[hash % ZIP_NAMES_BUCKETS]--;
}

static inline bool zip_names_may_have(const struct zip_names *names, uint64_t hash)
{
	return names->count[hash % ZIP_NAMES_BUCKETS] > 0;
}

#endif
