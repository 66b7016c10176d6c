/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_COMMAND_H
#define STAGERUN_COMMAND_H

#include "process.h"

/* The subcommands. Loop thread (the main thread), once per process. */

enum {
	EXIT_DONE = 0,
	EXIT_FAILED = 1, /* every command but run */
	EXIT_USAGE = 2,
	EXIT_AGENT_FAILED = 125, /* run: configuration, staging or a start action failed */
	/* 126, 127: the command cannot be executed, was not found; 128+n: signal n */
};

/* Calls the one that argv[1] names. Returns the exit code of the process. */
int command_dispatch(int argc, char **argv, const struct inherited *in);

/* Flushes standard output. Returns exit_code; if the output could not be written, logs that and
 * returns a failure. Every process that may have printed something calls this last. */
int output_end(int exit_code);

#endif
