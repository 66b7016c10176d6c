/* SPDX-License-Identifier: MIT */
/* `stagerun run`: stage, run the start actions, become the command, or stay as its parent and run the end
 * actions. */
#include "run.h"
#include "cache.h"
#include "command.h"
#include "dry_run.h"
#include "head.h"
#include "log.h"
#include <stdio.h>

static const struct option_row *const tables[] = {
	config_rows, run_rows, store_rows, common_rows, NULL};

static void print_help(void)
{
	puts("Usage: stagerun run [OPTIONS] [--] COMMAND [ARG...]\n\n"
	     "Stages data, runs the on_experiment_start actions, then becomes COMMAND (or stays as "
	     "its\nparent, to run the on_experiment_end actions).\n\nOptions:");
	options_print(tables);
}

static int start_actions(struct run *r, struct error *err)
{
	const struct actions *start = plan_actions(&r->plan, POINT_EXPERIMENT_START);

	if (r->plan.first_action == start->n)
		return 0;
	return agent_actions(&r->agent, r->plan.runfile, POINT_EXPERIMENT_START,
		r->plan.first_action, &r->plan.environment, err);
}

/* Everything before the command. */
static int start(struct run *r, bool *ret_logged, struct error *err)
{
	int code = 0;

	if (r->why_outlives != NULL)
		code = agent_outlive(&r->agent, err);
	if (code == 0)
		code = run_stage(r, ret_logged, err);
	if (code == 0) {
		r->phase = "start";
		code = run_reach(r, HOOK_EXPERIMENT_START, err);
		if (code == 0)
			code = start_actions(r, err);
	}
	agent_rest(&r->agent);
	return code;
}

/* The command takes this process. */
static int start_and_go(struct run *r)
{
	bool logged = false;
	struct error err = {0};
	int exit_code, code = start(r, &logged, &err);

	if (code < 0 || r->agent.signal != 0) {
		exit_code = run_end_start(r, EXIT_AGENT_FAILED, &err, logged);
		agent_close(&r->agent);
		return agent_leave(&r->agent, exit_code);
	}
	agent_close(&r->agent);
	if (r->agent.signal != 0)
		return agent_leave(&r->agent, run_end_by_signal(r));
	r->phase = "exec";
	cache_pass_on(r->agent.cache);
	code = process_exec(r->agent.inherited, r->plan.command.v, r->plan.environment.v, &err);
	return run_fail(r, code, &err, false);
}

/* The command as our child, and what comes after it. */
static int supervise(struct run *r)
{
	struct ending ending = {0};
	struct termination_mark mark;
	struct supervision s;
	struct error err = {0};
	bool started;

	supervision_open(&s, &r->agent);
	termination_remember(run_termination_path(r), &mark);
	r->phase = "exec";
	started = supervise_command(&s, &r->plan, &ending, &err) == 0;
	if (started)
		run_tell_ending(r, &ending, &mark);
	else
		run_fail(r, ending.exit_code, &err, false);
	if (ending.exit_code != 0)
		run_hooks_fail(&r->hooks, &r->agent, &r->plan.environment);
	if (started)
		supervise_end_actions(&s, &r->plan);
	run_hooks_end(&r->hooks, &r->agent, &r->plan.environment);
	registration_remove(&r->registration, &r->agent);
	agent_end_remains(&r->agent, supervision_patience_ms(&s));
	supervision_close(&s);
	return ending.exit_code;
}

/* The agent outlives the command, and leaves nothing behind. */
static int start_and_stay(struct run *r)
{
	bool logged = false;
	struct error err = {0};
	int exit_code, code = start(r, &logged, &err);

	if (code == 0 && r->agent.signal == 0) {
		exit_code = supervise(r);
	} else {
		exit_code = run_end_start(r, EXIT_AGENT_FAILED, &err, logged);
		agent_end_remains(&r->agent, 0);
	}
	agent_close(&r->agent);
	return agent_leave(&r->agent, exit_code);
}

static int work(struct run *r, const struct inherited *in)
{
	struct error err = {0};
	int code = agent_open(&r->agent, r->settings, in, &err);

	if (code < 0) {
		agent_close(&r->agent);
		return run_fail(r, EXIT_AGENT_FAILED, &err, false);
	}
	r->agent.cache_keeps = true;
	return r->why_outlives != NULL ? start_and_stay(r) : start_and_go(r);
}

static int prepare_and_work(struct run *r, char *const *words, const struct inherited *in)
{
	struct error err = {0};

	if (run_prepare(r, words, &err) < 0)
		return run_fail_early(r, EXIT_AGENT_FAILED, &err, in);
	if (r->request.dry_run) {
		int code = dry_run(&r->plan, r->hooks.found, r->settings, in);

		return code < 0 ? EXIT_AGENT_FAILED : code;
	}
	return work(r, in);
}

int command_run(int argc, char **argv, const struct inherited *in)
{
	struct run r = {.phase = "config"};
	struct error err;
	int rest = 0, exit_code;

	if (options_parse(argc - 1, argv + 1, tables, &r.request, &rest, &err) < 0) {
		error_prefix(&err, "run");
		exit_code = run_fail(&r, EXIT_AGENT_FAILED, &err, false);
	} else if (r.request.help) {
		print_help();
		exit_code = EXIT_DONE;
	} else if (argv[1 + rest] == NULL) {
		error_set(&err, -ERR_USAGE,
			"run: no command; usage: stagerun run [OPTIONS] [--] COMMAND [ARG...]");
		exit_code = run_fail(&r, EXIT_AGENT_FAILED, &err, false);
	} else {
		exit_code = prepare_and_work(&r, argv + 1 + rest, in);
	}
	run_done(&r);
	return exit_code;
}
