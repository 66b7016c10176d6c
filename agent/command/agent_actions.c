/* SPDX-License-Identifier: MIT */
/* The actions, or the operators' hooks, of a lifecycle point as one step of the agent. Loop
 * thread. */
#include "agent.h"
#include "defer.h"
#include "log.h"
#include <errno.h>

/* A stage item between shell actions. The set exists only while the item is staged. */
struct stage_item {
	struct agent *agent;
	const struct runfile *runfile;
	struct stage_set *set;
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *ctx;
};

static void on_item_staged(void *ctx, int code, const struct error *err)
{
	struct stage_item *item = ctx;
	struct error why = *err; /* err belongs to the set, which is freed next */

	stage_set_free(take_ptr(&item->set));
	item->on_done(item->ctx, code, &why);
}

static int stage_item(void *ctx, struct stage_spec *spec,
	void (*on_done)(void *ctx, int code, const struct error *err), void *done_ctx,
	struct error *err)
{
	struct stage_item *item = ctx;
	struct stage_env env;
	int code = agent_need_sources(item->agent, spec, 1, err);

	if (code < 0)
		return code;
	agent_fill_stage_env(item->agent, &env);
	runfile_limit_stage(item->runfile, spec);
	spec->replace |= item->agent->policy.replace;
	item->on_done = on_done;
	item->ctx = done_ctx;
	env.on_done = on_item_staged;
	env.on_done_ctx = item;
	return stage_set_start(&env, spec, 1, &item->set, err);
}

struct action_step {
	struct stage_item item;
	struct action_run *run;
	struct outcome outcome;
};

static void cancel_actions(void *work, bool hard)
{
	struct action_step *step = work;

	if (step->item.set != NULL)
		stage_set_cancel(step->item.set);
	actions_cancel(step->run, hard);
}

static void skip_action(void *work, bool hard)
{
	struct action_step *step = work;

	if (step->item.set != NULL && !hard)
		stage_set_cancel(step->item.set);
	actions_skip(step->run, hard);
}

static struct action_step *step_new(struct agent *a, const struct runfile *f, struct error *err)
{
	struct action_step *step = zalloc(sizeof(*step));

	step->item.agent = a;
	step->item.runfile = f;
	step->outcome.err = err;
	return step;
}

/* Frees nothing if the step was abandoned. */
static void step_free(struct action_step *step)
{
	if (!step->outcome.done)
		return;
	actions_free(step->run);
	free(step);
}

static struct action_env make_env(struct agent *a, struct action_step *step,
	const struct runfile *f, struct strings *environment)
{
	return (struct action_env){.loop = &a->loop,
		.settings = a->settings,
		.inherited = a->inherited,
		.facts = &a->policy.facts,
		.recorder = a->policy.recorder,
		.config_path = f->path,
		.stage = stage_item,
		.stage_ctx = &step->item,
		.environment = environment,
		.on_done = agent_step_done,
		.on_done_ctx = &step->outcome};
}

static int await_actions(struct agent *a, struct action_step *step)
{
	a->step.cancel = cancel_actions;
	a->step.skip = skip_action;
	a->step.work = step;
	return agent_await(a, &step->outcome);
}

int agent_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	size_t first, struct strings *environment, struct error *err)
{
	struct action_step *step = step_new(a, f, err);
	const struct action_env env = make_env(a, step, f, environment);
	int code = actions_start(&env, point, &f->actions[point], first, &step->run, err);

	if (code < 0) {
		free(step);
		return code;
	}
	code = await_actions(a, step);
	step_free(step);
	return code;
}

/* Logs each action that was not run or not finished. */
static void log_unfinished(const struct runfile *f, enum lifecycle_point point,
	const struct action_run *run, const char *why)
{
	bool begun;
	size_t at = actions_reached(run, &begun);

	for (size_t i = at; i < f->actions[point].n; i++)
		log_warn("%s action %u (%s:%u) was %s: %s", runfile_point_name(point),
			f->actions[point].v[i].number, f->path, f->actions[point].v[i].line,
			i == at && begun ? "ended before it was done" : "not run", why);
}

void agent_all_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	struct strings *environment, const char *why_cut)
{
	struct error err = {0};
	struct action_step *step = step_new(a, f, &err);
	struct action_env env = make_env(a, step, f, environment);

	env.keep_going = true;
	if (actions_start(&env, point, &f->actions[point], 0, &step->run, &err) < 0) {
		log_error("%s", err.msg);
		free(step);
		return;
	}
	if (await_actions(a, step) == -ECANCELED)
		log_unfinished(f, point, step->run, why_cut);
	step_free(step);
}

/* The operators' hooks of a point. */

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
		.facts = &a->policy.facts,
		.recorder = a->policy.recorder,
		.environment = environment,
		.on_done = agent_step_done};
	struct outcome *outcome;
	int code;

	if (!hooks_any(hooks, point))
		return 0;
	outcome = agent_outcome_new(err);
	env.on_done_ctx = outcome;
	code = hooks_start(&env, hooks, point, &run, err);
	if (code < 0) {
		free(outcome);
		return code;
	}
	a->step.cancel = cancel_hooks;
	a->step.skip = skip_hook;
	a->step.work = run;
	code = agent_await(a, outcome);
	if (agent_outcome_free(outcome))
		hook_run_free(run);
	return code;
}
