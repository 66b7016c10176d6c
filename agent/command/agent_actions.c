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
	const struct strings *environment;
	struct stage_spec spec;
	struct stage_set *set;
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *ctx;
};

static void on_item_staged(void *ctx, int code, const struct error *err)
{
	struct stage_item *item = ctx;
	struct error why = *err; /* err belongs to the set, which is freed next */

	stage_set_free(take_ptr(&item->set));
	stage_spec_done(&item->spec);
	item->on_done(item->ctx, code, &why);
}

static int start_item(struct stage_item *item, struct error *err)
{
	struct stage_env env;
	int code = agent_need_sources(item->agent, &item->spec, 1, err);

	if (code < 0)
		return code;
	agent_fill_stage_env(item->agent, &env);
	agent_limit_stage(item->runfile, &item->spec);
	item->spec.replace |= item->agent->policy.replace;
	env.on_done = on_item_staged;
	env.on_done_ctx = item;
	return stage_set_start(&env, &item->spec, 1, &item->set, err);
}

static int stage_item(void *ctx, const struct action_stage *s,
	void (*on_done)(void *ctx, int code, const struct error *err), void *done_ctx,
	struct error *err)
{
	struct stage_item *item = ctx;
	int code = agent_stage_spec(s, item->environment, &item->spec, err);

	item->on_done = on_done;
	item->ctx = done_ctx;
	if (code == 0)
		code = start_item(item, err);
	if (code < 0)
		stage_spec_done(&item->spec);
	return code;
}

struct action_step {
	struct stage_item item;
	struct runner *run;
	struct outcome *outcome;
};

static void cancel_actions(void *work, bool hard)
{
	struct action_step *step = work;

	if (step->item.set != NULL)
		stage_set_cancel(step->item.set);
	runner_cancel(step->run, hard);
}

static void skip_action(void *work, bool hard)
{
	struct action_step *step = work;

	if (step->item.set != NULL && !hard)
		stage_set_cancel(step->item.set);
	runner_skip(step->run, hard);
}

static struct action_step *step_new(struct agent *a, const struct runfile *f, struct error *err)
{
	struct action_step *step = zalloc(sizeof(*step));

	step->item.agent = a;
	step->item.runfile = f;
	step->outcome = agent_outcome_new(err);
	return step;
}

static void free_actions(void *work)
{
	struct action_step *step = work;

	runner_free(step->run);
	free(step);
}

static struct runner_env make_env(
	struct agent *a, struct strings *environment, struct outcome *outcome)
{
	return (struct runner_env){.loop = &a->loop,
		.settings = a->settings,
		.inherited = a->inherited,
		.facts = &a->policy.facts,
		.recorder = a->policy.recorder,
		.environment = environment,
		.on_done = agent_step_done,
		.on_done_ctx = outcome};
}

static struct action_env make_action_env(struct agent *a, struct action_step *step,
	const struct runfile *f, struct strings *environment)
{
	step->item.environment = environment;
	return (struct action_env){.items = make_env(a, environment, step->outcome),
		.config_path = f->path,
		.stage = stage_item,
		.stage_ctx = &step->item};
}

int agent_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	size_t first, struct strings *environment, struct error *err)
{
	static const struct step_ops ops = {cancel_actions, skip_action, free_actions};
	struct action_step *step = step_new(a, f, err);
	const struct action_env env = make_action_env(a, step, f, environment);

	step->run = actions_start(&env, point, &f->actions[point], first);
	return agent_step_run(a, &ops, step, step->outcome, 0);
}

/* Logs each action that was not run or not finished. */
static void log_unfinished(const struct runfile *f, enum lifecycle_point point,
	const struct runner *run, const char *why)
{
	bool begun;
	size_t at = runner_reached(run, &begun);

	for (size_t i = at; i < f->actions[point].n; i++)
		log_warn("%s action %u (%s:%u) was %s: %s", runfile_point_name(point),
			f->actions[point].v[i].number, f->path, f->actions[point].v[i].line,
			i == at && begun ? "ended before it was done" : "not run", why);
}

void agent_all_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	struct strings *environment, const char *why_cut)
{
	static const struct step_ops ops = {cancel_actions, skip_action, NULL};
	struct error err = {0};
	struct action_step *step = step_new(a, f, &err);
	struct action_env env = make_action_env(a, step, f, environment);

	env.keep_going = true;
	step->run = actions_start(&env, point, &f->actions[point], 0);
	if (agent_step_run(a, &ops, step, step->outcome, 0) == -ECANCELED)
		log_unfinished(f, point, step->run, why_cut);
	if (!a->abandoned)
		free_actions(step);
}

/* The operators' hooks of a point. */

static void cancel_hooks(void *work, bool hard)
{
	runner_cancel(work, hard);
}

static void skip_hook(void *work, bool hard)
{
	runner_skip(work, hard);
}

static void free_hooks(void *work)
{
	runner_free(work);
}

int agent_hooks(struct agent *a, const struct hooks *hooks, enum hook_point point,
	struct strings *environment, struct error *err)
{
	static const struct step_ops ops = {cancel_hooks, skip_hook, free_hooks};
	struct runner *run;
	struct runner_env env;
	struct outcome *outcome;

	if (!hooks_any(hooks, point))
		return 0;
	outcome = agent_outcome_new(err);
	env = make_env(a, environment, outcome);
	run = hooks_start(&env, hooks, point);
	return agent_step_run(a, &ops, run, outcome, 0);
}
