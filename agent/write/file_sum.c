/* SPDX-License-Identifier: MIT */
/* Keeping the sum of what the tree holds. Any thread. */
#include "file_sum.h"
#include "tree_private.h"

void file_sum_add(const struct writer *w, uint64_t size)
{
	count(&w->tree->sum_files, 1);
	count(&w->tree->sum_of_files, file_sum_mark(w->path, size));
}

void file_sum_remove(const struct writer *w, const struct stat *st)
{
	struct tree *t = w->tree;

	if (!S_ISREG(st->st_mode) || (t->continued && time_is_before(&st->st_ctim, &t->since)))
		return; /* was never added */
	atomic_fetch_sub_explicit(&t->sum_files, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&t->sum_of_files, file_sum_mark(w->path, (uint64_t)st->st_size),
		memory_order_relaxed);
}

struct file_sum tree_file_sum(const struct tree *t)
{
	return (struct file_sum){.known = !atomic_load(&t->sum_unknown),
		.files = counted(&t->sum_files),
		.sum = counted(&t->sum_of_files)};
}
