/* SPDX-License-Identifier: MIT */
/* The operators' hooks of a point, as one step of the agent. Loop thread. */
#include "agent.h"

enum { KILL_MS = 150 };

static void cancel_hooks(void *work, bool hard)
{
	hooks_cancel(work, hard);
}

static void skip_hook(void *work, bool hard)
{
	hooks_skip(work, hard);
}

/* What ignored the signal is killed, and has a last moment to be cleaned up after. */
static void kill_hooks(struct agent *a, struct hook_run *run, const struct outcome *outcome)
{
	hooks_cancel(run, true);
	agent_limit(a, KILL_MS);
	agent_run_until(a, &outcome->done);
	a->out_of_time = !outcome->done;
}

int agent_hooks(struct agent *a, const struct hooks *hooks, enum hook_point point,
	struct strings *environment, struct error *err)
{
	struct outcome outcome = {.err = err};
	struct hook_run *run;
	const struct hook_env env = {.loop = &a->loop,
		.settings = a->settings,
		.inherited = a->inherited,
		.facts = &a->facts,
		.environment = environment,
		.on_done = agent_step_done,
		.on_done_ctx = &outcome};
	int code;

	if (!hooks_any(hooks, point))
		return 0;
	code = hooks_start(&env, hooks, point, &run, err);
	if (code < 0)
		return code;
	a->cancel = cancel_hooks;
	a->skip = skip_hook;
	a->work = run;
	code = agent_await(a, &outcome);
	if (a->out_of_time)
		kill_hooks(a, run, &outcome);
	if (outcome.done)
		hook_run_free(run);
	return code;
}
