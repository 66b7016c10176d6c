/* SPDX-License-Identifier: MIT */
/* What a listing amounts to: a digest over names and ETags, which tells one state of a prefix from another.
 * Pure. */
#include "defer.h"
#include "digest.h"
#include "s3.h"
#include "text.h"
#include <inttypes.h>
#include <nettle/sha2.h>
#include <string.h>

struct s3_tally {
	struct sha256_ctx sha256;
	uint64_t bytes;
};

struct s3_tally *s3_tally_new(void)
{
	struct s3_tally *t = zalloc(sizeof(*t));

	sha256_init(&t->sha256);
	return t;
}

void s3_tally_add(struct s3_tally *t, const struct s3_object *o)
{
	_free_ char *line = format_text("%s%c%s%c%" PRIu64, o->key, '\n', o->etag, '\n', o->size);

	sha256_update(&t->sha256, strlen(line) + 1, (const uint8_t *)line);
	t->bytes += o->size;
}

void s3_tally_free(struct s3_tally *t, struct identity *ret)
{
	char hex[65];

	digest_finish(&t->sha256, hex);
	*ret = (struct identity){.size = t->bytes};
	snprintf(ret->etag, sizeof(ret->etag), "\"%s\"", hex);
	free(t);
}
