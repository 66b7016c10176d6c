/* SPDX-License-Identifier: MIT */
#include "../../agent/base/block_pages.h"
#include "test.h"
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {1, 4096, 3 * MIB, 4 * MIB, 5 * MIB + 1, 64 * MIB};

TEST(pages_are_zero_and_writable_from_the_first_to_the_last_byte)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *memory = block_map_pages(sizes[i]);

		assert_int_equal(0, memory[0] | memory[sizes[i] - 1]);
		memory[0] = memory[sizes[i] - 1] = 1;
		block_unmap_pages(memory, sizes[i]);
	}
}

TEST(pages_of_a_large_area_begin_where_a_huge_page_can)
{
	for (size_t i = 1; i <= 8; i++) {
		void *between = block_map_pages(4096 * i);
		void *large = block_map_pages(5 * MIB);

		assert_int_equal(0, (uintptr_t)large % (2 * MIB));
		block_unmap_pages(large, 5 * MIB);
		block_unmap_pages(between, 4096 * i);
	}
}

static bool is_mapped(uint8_t *at)
{
	unsigned char in_core;
	long page = sysconf(_SC_PAGESIZE);

	return mincore(at - (uintptr_t)at % page, page, &in_core) == 0 || errno != ENOMEM;
}

TEST(pages_go_back_all_at_once)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *memory = block_map_pages(sizes[i]);

		assert_true(is_mapped(memory + sizes[i] - 1));
		block_unmap_pages(memory, sizes[i]);
		assert_false(is_mapped(memory));
		assert_false(is_mapped(memory + sizes[i] - 1));
	}
}

/* Of address space, taken by this process. */
static size_t taken(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	size_t pages;

	assert_int_equal(1, fscanf(file, "%zu", &pages));
	fclose(file);
	return pages * sysconf(_SC_PAGESIZE);
}

TEST(pages_that_alignment_costs_are_not_kept)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), before;
	void *between[8], *large[8];

	taken(); /* the heap grows for its file, once */
	before = taken();
	for (size_t i = 0; i < 8; i++) {
		size_t without;

		/* Each begins at another distance from what is there. */
		between[i] = block_map_pages(MIB + page * i);
		without = taken();
		large[i] = block_map_pages(5 * MIB + 1);
		assert_int_equal(5 * MIB + page, taken() - without);
	}
	for (size_t i = 0; i < 8; i++) {
		block_unmap_pages(large[i], 5 * MIB + 1);
		block_unmap_pages(between[i], MIB + page * i);
	}
	assert_int_equal(before, taken());
}

/* The kernel's flags of the area that it lies in; "" when it does not tell. */
static void read_flags(const void *at, char flags[256])
{
	FILE *file = fopen("/proc/self/smaps", "r");
	char line[256];
	bool inside = false;

	*flags = '\0';
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		uintptr_t from, to;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
			inside = from <= (uintptr_t)at && (uintptr_t)at < to;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			snprintf(flags, 256, "%s", line);
	}
	if (file != NULL)
		fclose(file);
}

TEST(pages_of_a_large_area_are_huge_where_the_kernel_has_such_but_for_the_last)
{
	uint8_t *memory = block_map_pages(5 * MIB);
	char flags[256];

	if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0)
		skip();
	read_flags(memory, flags);
	assert_non_null(strstr(flags, " hg"));
	read_flags(memory + 4 * MIB, flags);
	assert_null(strstr(flags, " hg"));
	block_unmap_pages(memory, 5 * MIB);
}
