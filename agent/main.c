/* SPDX-License-Identifier: MIT */
/* main(): sets up the process, then calls the subcommand. */
#include "command.h"
#include "defer.h"
#include "log.h"
#include "settings.h"
#include "text.h"
#include <locale.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv, const struct inherited *in);
	const char *help;
} commands[] = {
	{"run", command_run, "stage, run the actions, then the command"},
	{"prewarm", command_prewarm, "stage only"},
	{"fetch", command_fetch, "stage one source, no config at all"},
	{"datastore", command_datastore, "create, list, get and delete datastores"},
	{"cache", command_cache,
		"what the node keeps of what was staged: list, evict, verify, clear"},
	{"hook", command_hook, "run one lifecycle point of config.yml by hand"},
};

static int print_help(void)
{
	puts("Usage: stagerun COMMAND ...\n\n"
	     "Brings a run's data to where it is read, then becomes the run's command.\n");
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].help);
	puts("\nstagerun COMMAND --help tells more. stagerun --version tells the version.");
	return EXIT_DONE;
}

static int unknown_command(const char *word)
{
	const char *names[ARRAY_LEN(commands)], *nearest;

	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		names[i] = commands[i].name;
	nearest = nearest_word(word, names, ARRAY_LEN(names));
	if (nearest != NULL)
		log_error("unknown command '%s'; did you mean %s?", word, nearest);
	else
		log_error("unknown command '%s'; stagerun --help lists them", word);
	return EXIT_USAGE;
}

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

static int run(int argc, char **argv, const struct inherited *in)
{
	if (argc < 2) {
		log_error("no command; stagerun --help lists them");
		return EXIT_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return print_help();
	if (strcmp(argv[1], "--version") == 0) {
		puts("stagerun " STAGERUN_VERSION);
		return EXIT_DONE;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1, in);
	}
	return unknown_command(argv[1]);
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
	return output_end(run(argc, argv, &in));
}
