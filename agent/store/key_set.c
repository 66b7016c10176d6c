/* SPDX-License-Identifier: MIT */
/* A set of keys that is filled and then asked: 32 bytes for each, whatever its length. */
#include "collect.h"
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

static void digest_of(const char *key, uint8_t ret[static 32])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, strlen(key), (const uint8_t *)key);
	sha256_digest(&ctx, 32, ret);
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, 32);
}

void key_set_add(struct key_set *s, const char *key)
{
	if (s->n == s->cap) {
		s->cap = s->cap > 0 ? 2 * s->cap : 256;
		s->digests = realloc(s->digests, s->cap * sizeof(*s->digests));
		if (s->digests == NULL)
			abort();
	}
	digest_of(key, s->digests[s->n++]);
	s->sorted = false;
}

bool key_set_has(struct key_set *s, const char *key)
{
	uint8_t digest[32];

	if (s->n == 0)
		return false;
	if (!s->sorted)
		qsort(s->digests, s->n, sizeof(*s->digests), compare);
	s->sorted = true;
	digest_of(key, digest);
	return bsearch(digest, s->digests, s->n, sizeof(*s->digests), compare) != NULL;
}

void key_set_done(struct key_set *s)
{
	free(s->digests);
	*s = (struct key_set){0};
}
