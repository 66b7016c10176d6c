/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_COLLECT_H
#define STAGERUN_COLLECT_H

#include "datastore.h"
#include "lease.h"

struct collect_options {
	uint64_t grace_ms;  /* readers of a deleted version have this long */
	uint64_t orphan_ms; /* what no manifest ever named is kept at least so long: a creation that
			       was killed can go on from it */
	uint64_t life_ms;   /* of leases */
};

#define COLLECT_ORPHAN_MS ((uint64_t)10 * 60 * 1000)

struct collected {
	uint64_t objects, bytes;
};

int collect_with(struct store_hand *h, const struct collect_options *opts, struct collected *ret,
	struct error *err);

/* A set of keys. */
struct key_set {
	uint8_t (*digests)[32];
	size_t n, cap;
	bool sorted;
};
void key_set_add(struct key_set *s, const char *key);
bool key_set_has(struct key_set *s, const char *key);
void key_set_done(struct key_set *s);

#endif
