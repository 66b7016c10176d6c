/* SPDX-License-Identifier: MIT */
/* main(): sets up the process, then dispatches the command line. */
#include "command.h"
#include "settings.h"
#include <locale.h>
#include <malloc.h>
#include <stdlib.h>

/* The bundle's launcher moves LD_PRELOAD to this variable, so that it does not apply to the agent.
 * Actions and the command get it back. */
static void restore_preload(void)
{
	const char *preload = getenv("STAGERUN_LD_PRELOAD");

	if (preload == NULL)
		return;
	setenv("LD_PRELOAD", preload, 1); /* NOLINT(concurrency-mt-unsafe): no thread yet */
	unsetenv("STAGERUN_LD_PRELOAD");  /* NOLINT(concurrency-mt-unsafe) */
}

/* By default the allocator raises its threshold to the size of freed blocks, up to 32 MiB, and then
 * keeps decompression dictionaries in the heaps of threads that have ended. */
static void return_large_memory(void)
{
	mallopt(M_MMAP_THRESHOLD, 4 << 20); /* NOLINT(concurrency-mt-unsafe): no thread yet */
	mallopt(M_TRIM_THRESHOLD, 4 << 20); /* NOLINT(concurrency-mt-unsafe) */
}

int main(int argc, char **argv)
{
	static struct inherited in;

	return_large_memory();
	inherited_record(&in);
	restore_preload();
	settings_hide_secrets(NULL, environ);
	/* libarchive converts names by the locale. It does not affect the command. */
	setlocale(LC_CTYPE, "C.UTF-8"); /* NOLINT(concurrency-mt-unsafe): no thread yet */
	return output_end(command_dispatch(argc, argv, &in));
}
