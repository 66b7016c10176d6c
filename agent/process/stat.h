/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_STAT_H
#define STAGERUN_PROCESS_STAT_H

#include <stdbool.h>
#include <sys/types.h>

struct process_stat {
	pid_t pid, parent, group;
	bool runs; /* no zombie; or one whose first thread ended before the others */
};

/* What /proc says of the process whose number the text is. -1: it is gone. */
int process_stat_read(const char *pid, struct process_stat *ret);

#endif
