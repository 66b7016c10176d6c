/* SPDX-License-Identifier: MIT */
/* What a parent that only waits need not hold. Loop thread, when no other thread runs. */
#include "job.h"
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

/* The code and constants of a library come back from its file when they are used again; what was
 * ever written to is in segments that say so. */
static int drop_code(struct dl_phdr_info *library, size_t size, void *ctx)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	(void)ctx;
	for (int i = 0; i < library->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &library->dlpi_phdr[i];
		uintptr_t from = library->dlpi_addr + segment->p_vaddr;
		uintptr_t start = from & ~(page - 1);

		if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) == 0)
			madvise((void *)start, from + segment->p_memsz - start, MADV_DONTNEED);
	}
	return 0;
}

void process_trim(void)
{
	malloc_trim(0);
	dl_iterate_phdr(drop_code, NULL);
}
