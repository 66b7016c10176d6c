/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_PROGRAM_H
#define STAGERUN_PROCESS_PROGRAM_H

#include "error.h"
#include "text.h"
#include <stdbool.h>

enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 }; /* as in a shell */

/* A program about to be executed: everything that needs memory is prepared before fork, so that
 * what comes after it is async-signal-safe. */
struct program {
	char *const *argv, *const *env; /* borrowed */
	const char *cwd;                /* borrowed; where it will run, NULL: here */
	struct strings candidates;      /* the paths to try, in PATH's order */
	char **shell_argv;              /* /bin/sh, room for a candidate, the arguments */
};

/* Why none of the candidates could be executed. Plain data: it travels through a pipe. */
struct exec_failure {
	int error;        /* errno */
	size_t candidate; /* the one that error is about, when found */
	bool found;       /* a file was there, but could not be executed */
};

void program_prepare(struct program *p, char *const argv[], char *const env[], const char *cwd);
void program_done(struct program *p);

/* Async-signal-safe. Returns only when nothing could be executed. */
struct exec_failure program_exec(struct program *p);

/* Says in err what f means for the person, and returns the shell's exit code for it: 126 or 127. */
int program_explain(const struct program *p, const struct exec_failure *f, struct error *err);

#endif
