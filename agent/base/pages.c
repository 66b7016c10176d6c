/* SPDX-License-Identifier: MIT */
/* Huge pages need alignment, which not every kernel gives by itself: almost one more is mapped, and what
 * is too much before and after goes back. */
#include "pages.h"
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else /* musl's compilers have none */
#define ASAN_POISON_MEMORY_REGION(memory, bytes)   ((void)(memory), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(memory, bytes) ((void)(memory), (void)(bytes))
#endif

#define HUGE_PAGE ((size_t)2 << 20) /* on x86-64, and on arm64 with pages of 4 KiB */
/* A huge page is zeroed whole: too much for what is hardly used. */
#define LARGE (2 * HUGE_PAGE)

static size_t up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static size_t mapped(size_t bytes)
{
	return up(bytes, (size_t)sysconf(_SC_PAGESIZE));
}

static void *map(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

static void cut_off(uint8_t *memory, size_t bytes)
{
	if (bytes > 0)
		munmap(memory, bytes);
}

static void *map_aligned(size_t bytes)
{
	size_t more = HUGE_PAGE - (size_t)sysconf(_SC_PAGESIZE), before;
	uint8_t *memory = map(bytes + more);

	if (memory == NULL)
		return NULL;
	before = -(uintptr_t)memory % HUGE_PAGE;
	cut_off(memory, before);
	cut_off(memory + before + bytes, more - before);
	return memory + before;
}

void *pages_map(size_t bytes)
{
	void *memory = bytes < LARGE ? map(mapped(bytes)) : map_aligned(mapped(bytes));

	/* The last ones stay small: a huge one would be mostly air. A kernel without them says no to all. */
	if (memory != NULL && bytes >= LARGE)
		madvise(memory, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
	return memory;
}

void pages_unmap(void *memory, size_t bytes)
{
	if (memory == NULL)
		return;
	pages_show(memory, bytes);
	munmap(memory, mapped(bytes));
}

void pages_hide(void *memory, size_t bytes)
{
	ASAN_POISON_MEMORY_REGION(memory, bytes);
}

void pages_show(void *memory, size_t bytes)
{
	ASAN_UNPOISON_MEMORY_REGION(memory, bytes);
}
