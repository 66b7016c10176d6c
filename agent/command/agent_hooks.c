/* SPDX-License-Identifier: MIT */
/* The operators' hooks of a point, as one step of the agent. Loop thread. */
#include "agent.h"
#include "defer.h"

static void cancel_hooks(void *work, bool hard)
{
	hooks_cancel(work, hard);
}

static void skip_hook(void *work, bool hard)
{
	hooks_skip(work, hard);
}

int agent_hooks(struct agent *a, const struct hooks *hooks, enum hook_point point,
	struct strings *environment, struct error *err)
{
	struct hook_run *run = NULL;
	struct hook_env env = {.loop = &a->loop,
		.settings = a->settings,
		.inherited = a->inherited,
		.facts = &a->facts,
		.environment = environment,
		.on_done = agent_step_done};
	struct outcome *outcome;
	int code;

	if (!hooks_any(hooks, point))
		return 0;
	outcome = outcome_new(err);
	env.on_done_ctx = outcome;
	code = hooks_start(&env, hooks, point, &run, err);
	if (code < 0) {
		free(outcome);
		return code;
	}
	a->cancel = cancel_hooks;
	a->skip = skip_hook;
	a->work = run;
	code = agent_await(a, outcome);
	if (outcome_free(outcome))
		hook_run_free(run);
	return code;
}
