/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_SPAWN_H
#define STAGERUN_PROCESS_SPAWN_H

#include "process.h"

/* Forks and executes what opts says; its loop-side members (timeout, callbacks) are not looked at.
 * Both output streams go to output_fd, or are inherited when it is -1. Returns when the program
 * runs or could not be executed: then there is no child. */
int spawn(const struct child_options *opts, int output_fd, pid_t *ret_pid, struct error *err);

#endif
