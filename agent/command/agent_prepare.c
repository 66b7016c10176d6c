/* SPDX-License-Identifier: MIT */
/* Stages and the install of dependencies side by side, as one step of the agent, which ends when
 * both have ended; and the check of the dependencies before it. Loop thread. */
#include "agent.h"
#include "defer.h"
#include "log.h"
#include <errno.h>

struct prepare_step {
	struct stage_set *set;
	struct install *install;
	struct run_recorder recorder;
	unsigned span; /* of the install */
	uint64_t install_began_ns;
	uint64_t *install_ns; /* the agent's */
	bool staging, installing;
	int code; /* the first failure; -ECANCELED only if there is no other */
	struct error err;
	struct outcome *outcome;
};

static void cancel_prepare(void *work, bool hard)
{
	struct prepare_step *step = work;

	if (step->staging)
		stage_set_cancel(step->set);
	if (step->installing)
		install_cancel(step->install, hard);
}

static void note_failure(struct prepare_step *step, int code, const struct error *err)
{
	if (step->code == 0 || step->code == -ECANCELED) {
		step->code = code;
		step->err = *err;
	}
	cancel_prepare(step, false);
}

static void finish_part(struct prepare_step *step, int code, const struct error *err)
{
	if (code < 0)
		note_failure(step, code, err);
	if (!step->staging && !step->installing)
		agent_step_done(step->outcome, step->code, &step->err);
}

static void on_staged(void *ctx, int code, const struct error *err)
{
	struct prepare_step *step = ctx;

	step->staging = false;
	finish_part(step, code, err);
}

static void end_install_span(struct prepare_step *step, int code, const struct error *err)
{
	enum span_end end = code == 0 ? SPAN_OK : code == -ECANCELED ? SPAN_CANCELLED : SPAN_FAILED;

	*step->install_ns = now_ns() - step->install_began_ns;
	timeline_end(step->recorder.timeline, step->span, end, code < 0 ? err->msg : NULL);
}

static void on_installed(void *ctx, int code, const struct error *err)
{
	struct prepare_step *step = ctx;

	if (code < 0 && code != -ECANCELED)
		log_error("%s", err->msg);
	end_install_span(step, code, err);
	step->installing = false;
	finish_part(step, code, err);
}

static struct install_env install_env(
	struct agent *a, const struct strings *environment, struct prepare_step *step)
{
	return (struct install_env){.loop = &a->loop,
		.inherited = a->inherited,
		.environment = environment,
		.on_done = on_installed,
		.on_done_ctx = step};
}

static int start_stages(struct agent *a, const struct stage_spec *specs, size_t n,
	struct prepare_step *step, struct error *err)
{
	struct stage_env env;
	int code;

	if (n == 0)
		return 0;
	code = agent_need_sources(a, specs, n, err);
	agent_fill_stage_env(a, &env);
	env.log_failures = true;
	env.on_done = on_staged;
	env.on_done_ctx = step;
	if (code == 0)
		code = stage_set_start(&env, specs, n, &step->set, err);
	step->staging = code == 0;
	return code;
}

static void free_prepare(void *work)
{
	struct prepare_step *step = work;

	install_free(step->install);
	stage_set_free(step->set);
	free(step);
}

int agent_prepare(struct agent *a, const struct stage_spec *specs, size_t n,
	const struct dependencies *d, const struct strings *environment, struct error *err)
{
	static const struct step_ops ops = {.cancel = cancel_prepare, .free = free_prepare};
	struct install_env env;
	struct error why = {0};
	struct prepare_step *step;
	int code;

	if (d == NULL)
		return n == 0 ? 0 : agent_stage(a, specs, n, err);
	step = zalloc(sizeof(*step));
	step->outcome = agent_outcome_new(err);
	step->recorder = a->policy.recorder;
	step->install_ns = &a->install_ns;
	env = install_env(a, environment, step);
	code = start_stages(a, specs, n, step, &why);
	if (code == 0) {
		step->install_began_ns = now_ns();
		step->span = timeline_begin(
			step->recorder.timeline, step->recorder.parent, SPAN_DEPENDENCIES, d->file);
		code = dependencies_install(&env, d, &step->install, &why);
		step->installing = code == 0;
		if (code < 0)
			end_install_span(step, code, &why);
	}
	if (code < 0) {
		log_error("%s", why.msg);
		note_failure(step, code, &why);
		*err = why;
	}
	if (step->staging || step->installing)
		code = 0;
	return agent_step_run(a, &ops, step, step->outcome, code);
}

static void cancel_check(void *work, bool hard)
{
	install_cancel(work, hard);
}

static void free_check(void *work)
{
	install_free(work);
}

int agent_check_dependencies(struct agent *a, const struct dependencies *d,
	const struct strings *environment, struct error *err)
{
	static const struct step_ops ops = {.cancel = cancel_check, .free = free_check};
	struct outcome *outcome = agent_outcome_new(err);
	struct install *check = NULL;
	const struct install_env env = {.loop = &a->loop,
		.inherited = a->inherited,
		.environment = environment,
		.on_done = agent_step_done,
		.on_done_ctx = outcome};
	int code = d == NULL ? 0 : dependencies_check(&env, d, &check, err);

	return agent_step_run(a, &ops, check, outcome, code);
}
