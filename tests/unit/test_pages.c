/* SPDX-License-Identifier: MIT */
#include "../../agent/base/pages.h"
#include "test.h"
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static const size_t sizes[] = {1, 4096, 3 * MIB, 4 * MIB, 5 * MIB + 1, 64 * MIB};

TEST(pages_are_zero_and_writable_from_the_first_to_the_last_byte)
{
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t *memory = pages_map(sizes[i]);

		assert_int_equal(0, memory[0] | memory[sizes[i] - 1]);
		memory[0] = memory[sizes[i] - 1] = 1;
		pages_unmap(memory, sizes[i]);
	}
}

TEST(pages_of_a_large_area_begin_where_a_huge_page_can)
{
	for (size_t i = 1; i <= 8; i++) {
		void *between = pages_map(4096 * i);
		void *large = pages_map(5 * MIB);

		assert_int_equal(0, (uintptr_t)large % (2 * MIB));
		pages_unmap(large, 5 * MIB);
		pages_unmap(between, 4096 * i);
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
		uint8_t *memory = pages_map(sizes[i]);

		assert_true(is_mapped(memory + sizes[i] - 1));
		pages_unmap(memory, sizes[i]);
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
	void *large[8];
	size_t at_first;

	taken(); /* the heap grows for its file, once */
	at_first = taken();
	for (size_t i = 0; i < 8; i++) {
		size_t before;

		/* Each begins at another distance from what is there. */
		assert_non_null(pages_map(MIB + 4096 * i));
		before = taken();
		large[i] = pages_map(5 * MIB);
		assert_int_equal(6 * MIB, taken() - before); /* three huge pages */
	}
	for (size_t i = 0; i < 8; i++)
		pages_unmap(large[i], 5 * MIB);
	assert_int_equal(8 * MIB + 4096 * (1 + 2 + 3 + 4 + 5 + 6 + 7), taken() - at_first);
}
