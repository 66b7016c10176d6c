/* SPDX-License-Identifier: MIT */
/* Which entries are ours: by globs, and by rank. A rank has the files that the hash of their path in the
 * datastore gives it, so that ranks need not talk to each other and new files do not move old ones; what costs
 * nothing, directories and symbolic links, all of them have. Pure; any thread. */
#include "fetch_private.h"
#include <string.h>

static bool is_in_shard(const struct shard *shard, const char *path)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	struct sha256_ctx ctx;
	uint64_t hash = 0;

	if (shard->world <= 1)
		return true;
	sha256_init(&ctx);
	sha256_update(&ctx, strlen(path), (const uint8_t *)path);
	sha256_digest(&ctx, sizeof(digest), digest);
	for (unsigned i = 0; i < 8; i++)
		hash = hash << 8 | digest[i];
	return hash % shard->world == shard->rank;
}

const char *fetch_select(const struct fetch *f, const struct index_entry *e)
{
	const char *name = selection_apply(f->opts->selection, e->path);

	if (name == NULL || e->type == INDEX_DIR || e->type == INDEX_SYMLINK)
		return name;
	return is_in_shard(&f->opts->shard, e->path) ? name : NULL;
}

const char *fetch_select_target(const struct fetch *f, const struct index_entry *e)
{
	const char *name = selection_apply(f->opts->selection, e->target);

	return name != NULL && is_in_shard(&f->opts->shard, e->target) ? name : NULL;
}
