/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_TERMINAL_H
#define STAGERUN_PROCESS_TERMINAL_H

#include <stdbool.h>
#include <sys/types.h>

/* The controlling terminal and whose group is in its foreground. All signals are blocked, or at least
 * SIGTTOU, while it changes hands. */
struct terminal {
	int fd; /* -1: there is none */
};

void terminal_open(struct terminal *t);
void terminal_close(struct terminal *t);

/* Whether the group, 0 for our own, is in the foreground. */
bool terminal_belongs_to(const struct terminal *t, pid_t group);
void terminal_give(const struct terminal *t, pid_t group); /* 0: back to our own */

/* Whether the standard input and output are a terminal: somebody sits there and types. */
bool terminal_is_interactive(void);

#endif
