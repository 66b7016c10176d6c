/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_BASE_PAGES_H
#define STAGERUN_BASE_PAGES_H

#include <stddef.h>

/* Memory from the kernel itself: pages that are counted once they are touched, and that all go back at
 * once. Large areas are backed by huge pages where the kernel gives them to who asks (madvise(2),
 * MADV_HUGEPAGE): one fault for 512 pages, and fewer misses when they are copied from. Any thread. */

/* bytes > 0, on a page's boundary. NULL: no memory. */
void *pages_map(size_t bytes);

/* memory: what pages_map(bytes) gave; accepts NULL. */
void pages_unmap(void *memory, size_t bytes);

/* The address sanitizer reports whoever touches these bytes until they are shown. Without it: nothing. */
void pages_hide(void *memory, size_t bytes);
void pages_show(void *memory, size_t bytes);

#endif
