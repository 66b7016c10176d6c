/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RUN_HOOKS_H
#define STAGERUN_RUN_HOOKS_H

#include "agent.h"
#include "hooks.h"

/* The operators' hooks of a run, with the ends that it owes: those whose beginning was reached. Loop
 * thread. */
struct run_hooks {
	struct hooks *found; /* NULL until somebody looked for them */
	bool owed[HOOK_POINT_COUNT];
};

void run_hooks_done(struct run_hooks *h);

/* Runs the hooks of a point that is reached now. 0, or what fails the run; -ECANCELED after a signal. */
int run_hooks_reach(struct run_hooks *h, struct agent *a, enum hook_point point,
	struct strings *environment, struct error *err);

/* The hooks of on_failure; the ends that are still owed. What they do changes nothing more: it is told.
 * a->facts say how the run ended. */
void run_hooks_fail(struct run_hooks *h, struct agent *a, struct strings *environment);
void run_hooks_end(struct run_hooks *h, struct agent *a, struct strings *environment);

#endif
