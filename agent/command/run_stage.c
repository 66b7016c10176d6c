/* SPDX-License-Identifier: MIT */
/* What `run` and `prewarm` have in common: everything up to the end of staging, and a start that fails. Loop
 * thread. */
#include "cache.h"
#include "command.h"
#include "defer.h"
#include "head.h"
#include "run.h"
#include "scratch.h"
#include <unistd.h>

int run_prepare(struct run *r, char *const *words, struct error *err)
{
	int code = request_settings(&r->request, &r->settings, err);

	if (code == 0)
		code = hooks_find(r->settings, &r->hooks.found, err);
	if (code == 0)
		code = plan_make(&r->request, r->settings, words, &r->plan, err);
	if (code == 0)
		code = supervise_decide(
			r->settings, &r->plan, r->hooks.found, &r->why_outlives, err);
	return code;
}

int run_reach(struct run *r, enum hook_point point, struct error *err)
{
	return run_hooks_reach(&r->hooks, &r->agent, point, &r->plan.environment, err);
}

static int stage_head(struct run *r, struct error *err)
{
	return agent_head(&r->agent, r->plan.head, r->plan.n_head, r->plan.dependencies,
		&r->plan.environment, err);
}

/* Looks for their installer where the command would, so in what hooks made of the environment. */
static int check_dependencies(struct run *r, struct error *err)
{
	int code = 0;

	r->phase = "config";
	if (r->plan.dependencies != NULL)
		code = dependencies_find_again(&r->plan.dependencies, &r->plan.environment, err);
	if (code == 0)
		code = agent_check_dependencies(
			&r->agent, r->plan.dependencies, &r->plan.environment, err);
	r->phase = code == 0 ? "stage" : "config";
	return code;
}

int run_stage(struct run *r, bool *ret_logged, struct error *err)
{
	int code;

	r->agent.facts.config_path = r->plan.runfile != NULL ? r->plan.runfile->path : NULL;
	r->agent.environment = &r->plan.environment;
	r->phase = "stage";
	code = run_reach(r, HOOK_STAGE_START, err);
	if (code == 0)
		code = check_dependencies(r, err);
	if (code == 0 && !r->agent.cache_only)
		code = make_scratch(r->plan.runfile, r->agent.inherited, err);
	if (code < 0)
		return code;
	registration_make(&r->registration, &r->agent, &r->plan.attached);
	code = stage_head(r, err);
	*ret_logged = code < 0;
	if (code < 0)
		return code;
	if (!r->agent.cache_only)
		r->agent.facts.staged = &r->plan.destinations;
	return run_reach(r, HOOK_STAGE_END, err);
}

/* Operators' hooks hear of a run that ends before its command. */
static void end_hooks(struct run *r)
{
	struct supervision s;

	supervision_open(&s, &r->agent);
	run_hooks_fail(&r->hooks, &r->agent, &r->plan.environment);
	run_hooks_end(&r->hooks, &r->agent, &r->plan.environment);
	supervision_close(&s);
}

int run_end_start(struct run *r, int failed, const struct error *err, bool logged)
{
	int exit_code =
		r->agent.signal != 0 ? run_end_by_signal(r) : run_fail(r, failed, err, logged);

	end_hooks(r);
	return exit_code;
}

int run_fail_early(
	struct run *r, int exit_code, const struct error *err, const struct inherited *in)
{
	bool wanted = !r->request.dry_run && hooks_any(r->hooks.found, HOOK_FAILURE);
	bool opened = wanted && agent_open(&r->agent, r->settings, in, NULL) == 0;

	run_fail(r, exit_code, err, false);
	if (opened && r->plan.environment.n == 0)
		environment_copy(&r->plan.environment, environ);
	if (opened)
		end_hooks(r);
	agent_close(&r->agent);
	return agent_leave(&r->agent, exit_code);
}

void run_done(struct run *r)
{
	cache_close(take_ptr(&r->agent.cache));
	run_hooks_done(&r->hooks);
	registration_done(&r->registration);
	plan_done(&r->plan);
	settings_free(r->settings);
	request_done(&r->request);
}
