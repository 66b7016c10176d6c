/* SPDX-License-Identifier: MIT */
/* The tree's limits. Only what really is written (or left as a hole) counts against them; what an
 * archive declares can only make it fail earlier. Any thread. */
#include "text.h"
#include "tree_private.h"

/* Small archives of zeros are no bombs. */
#define RATIO_FROM_BYTES (1ull << 30)

int limit_entry(struct writer *w, const char *name, struct error *err)
{
	uint64_t max = w->tree->opts.limits.max_entries;

	if (atomic_fetch_add_explicit(&w->tree->entries, 1, memory_order_relaxed) >= max)
		return error_set(err, -ERR_LIMIT,
			"there are more than %llu entries (limits.max_entries), '%.300s' is the "
			"next one",
			(unsigned long long)max, name);
	if (w->progress != NULL)
		count(&w->progress->entries, 1);
	return 0;
}

static int too_many_bytes(const struct writer *w, struct error *err)
{
	const struct tree_limits *l = &w->tree->opts.limits;
	char size[32];

	return error_set(err, -ERR_LIMIT, "the files are larger than %s (%s), reached at '%.300s'",
		print_size(l->max_bytes, size), l->bytes_why ? l->bytes_why : "limits.max_bytes",
		w->path);
}

int limit_promised(const struct writer *w, uint64_t size, struct error *err)
{
	uint64_t max = w->tree->opts.limits.max_bytes, have = counted(&w->tree->bytes);

	if (max == UINT64_MAX || (have <= max && size <= max - have))
		return 0;
	return too_many_bytes(w, err);
}

static int limit_ratio(const struct writer *w, struct error *err)
{
	uint64_t max = w->tree->opts.limits.max_ratio;
	uint64_t found = counted(&w->tree->found_bytes); /* nothing is consumed for these */
	uint64_t expanded = counted(&w->progress->expanded) - found;
	uint64_t consumed = counted(&w->progress->consumed);

	/* Nothing consumed: the source does not count. */
	if (max == 0 || expanded < RATIO_FROM_BYTES || consumed == 0 || expanded / max <= consumed)
		return 0;
	return error_set(err, -ERR_LIMIT,
		"the archive expands more than %llu times (limits.max_ratio), reached at '%.300s'",
		(unsigned long long)max, w->path);
}

static int add_bytes(struct writer *w, uint64_t n, struct error *err)
{
	uint64_t max = w->tree->opts.limits.max_bytes;
	uint64_t before = atomic_fetch_add_explicit(&w->tree->bytes, n, memory_order_relaxed);

	if (max != UINT64_MAX && (before > max || n > max - before))
		return too_many_bytes(w, err);
	if (w->progress != NULL)
		count(&w->progress->expanded, n);
	return 0;
}

int limit_bytes(struct writer *w, uint64_t n, struct error *err)
{
	int r = add_bytes(w, n, err);

	return r < 0 || w->progress == NULL ? r : limit_ratio(w, err);
}

int limit_found(struct writer *w, uint64_t n, struct error *err)
{
	int r = add_bytes(w, n, err);

	count(&w->tree->found_bytes, n);
	return r;
}
