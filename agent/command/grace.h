/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_GRACE_H
#define STAGERUN_GRACE_H

#include <stdbool.h>
#include <stdint.h>

/* The grace budget: one period from the first SIGTERM, which the command, the end actions and hooks, and
 * the last words share. Moments are milliseconds of one clock; UINT64_MAX: never, as long as no budget
 * runs. */
struct grace {
	uint64_t period_ms;
	uint64_t began_ms;
	bool running;
};

void grace_begin(struct grace *g, uint64_t now_ms); /* idempotent */

uint64_t grace_command_ends(const struct grace *g); /* 70 %: then it is killed, and its group */
uint64_t grace_actions_end(
	const struct grace *g); /* what runs then gets SIGTERM, no more is begun */
uint64_t grace_actions_killed(const struct grace *g); /* and SIGKILL */
uint64_t grace_over(const struct grace *g);           /* the agent is gone */

#endif
