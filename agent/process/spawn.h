/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_SPAWN_H
#define STAGERUN_PROCESS_SPAWN_H

#include "process.h"

struct spawn_options {
	char *const *argv;
	char *const *env;
	const char *cwd; /* NULL: this one's */
	const struct inherited *inherited;
	/* The command: a process group of its own in our session, with our standard streams; it comes to
	 * the foreground of terminal_fd, unless -1. Not as_job: a session of its own, which reads /dev/null
	 * and whose output goes to output_fd, or is inherited when that is -1. */
	bool as_job;
	int terminal_fd;
	int output_fd;
};

/* Forks and executes. Returns when the program runs, or could not be executed: then there is no child,
 * and ret_exit_code (may be NULL) is 126 or 127 as of process_exec(). */
int spawn(const struct spawn_options *opts, pid_t *ret_pid, int *ret_exit_code, struct error *err);

#endif
