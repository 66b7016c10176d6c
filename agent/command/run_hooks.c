/* SPDX-License-Identifier: MIT */
#include "run_hooks.h"
#include "log.h"

void run_hooks_done(struct run_hooks *h)
{
	hooks_free(h->found);
}

/* Reaching a beginning, or an end, changes which ends are owed. */
static void note_reached(struct run_hooks *h, enum hook_point point)
{
	h->owed[point] = false;
	if (point == HOOK_STAGE_START)
		h->owed[HOOK_STAGE_END] = true;
	else if (point == HOOK_EXPERIMENT_START)
		h->owed[HOOK_EXPERIMENT_END] = true;
}

int run_hooks_reach(struct run_hooks *h, struct agent *a, enum hook_point point,
	struct strings *environment, struct error *err)
{
	note_reached(h, point);
	return agent_hooks(a, h->found, point, environment, err);
}

static void reach_end(
	struct run_hooks *h, struct agent *a, enum hook_point point, struct strings *environment)
{
	struct error err;

	if (run_hooks_reach(h, a, point, environment, &err) < 0)
		log_warn("%s", err.msg);
}

void run_hooks_fail(struct run_hooks *h, struct agent *a, struct strings *environment)
{
	reach_end(h, a, HOOK_FAILURE, environment);
}

void run_hooks_end(struct run_hooks *h, struct agent *a, struct strings *environment)
{
	if (h->owed[HOOK_EXPERIMENT_END])
		reach_end(h, a, HOOK_EXPERIMENT_END, environment);
	if (h->owed[HOOK_STAGE_END])
		reach_end(h, a, HOOK_STAGE_END, environment);
}
