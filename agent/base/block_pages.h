/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_BASE_PAGES_H
#define STAGERUN_BASE_PAGES_H

#include <stddef.h>

/* Memory mapped from the kernel: pages are charged when they are first touched, and are all
 * released at once. Large areas are backed by huge pages where the kernel grants them on request
 * (madvise(2), MADV_HUGEPAGE): one page fault for 512 pages, and fewer TLB misses when they are
 * copied from. They need alignment, which not every kernel provides: almost one huge page more is
 * mapped, and the excess before and after is unmapped. Any thread. */

/* bytes > 0. The result is page-aligned; NULL: no memory. */
void *block_map_pages(size_t bytes);

/* memory: from block_map_pages(bytes); accepts NULL. */
void block_unmap_pages(void *memory, size_t bytes);

#endif
