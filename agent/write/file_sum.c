/* SPDX-License-Identifier: MIT */
/* Keeping the sum of what the tree holds. Any thread. */
#include "file_sum.h"
#include "tree_private.h"

bool file_sum_is_sparse(const struct stat *st)
{
	return (uint64_t)st->st_blocks * 512 < (uint64_t)st->st_size;
}

void file_sum_add(const struct writer *w, uint64_t size, bool sparse)
{
	struct tree *t = w->tree;

	count(sparse ? &t->sum_sparse : &t->sum_dense, file_sum_mark(w->path, size));
}

/* Only what nobody can tell apart makes the sum useless. */
void file_sum_remove(const struct writer *w, const struct stat *st)
{
	struct tree *t = w->tree;

	if (!S_ISREG(st->st_mode) || (t->continued && time_is_before(&st->st_ctim, &t->since)))
		return; /* was never added */
	if (file_sum_is_sparse(st))
		atomic_store(&t->sum_unknown, true);
	atomic_fetch_sub_explicit(
		&t->sum_dense, file_sum_mark(w->path, (uint64_t)st->st_size), memory_order_relaxed);
}

struct file_sum tree_file_sum(const struct tree *t)
{
	return (struct file_sum){.known = !atomic_load(&t->sum_unknown),
		.dense = counted(&t->sum_dense),
		.sparse = counted(&t->sum_sparse)};
}
