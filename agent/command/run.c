/* SPDX-License-Identifier: MIT */
/* `stagerun run`: stage, run the start actions, become the command, or stay as its parent and run the end
 * actions. And `prewarm`, which stops after staging. */
#include "run.h"
#include "cache.h"
#include "command.h"
#include "defer.h"
#include "dry_run.h"
#include "head.h"
#include "log.h"
#include "scratch.h"
#include "source.h"
#include <stdio.h>

static const struct option_row *const tables[] = {
	config_rows, run_rows, store_rows, common_rows, NULL};

static void print_help(const char *name, const char *words, const char *what)
{
	printf("Usage: stagerun %s [OPTIONS]%s\n\n%s\n\nOptions:\n", name, words, what);
	options_print(tables);
}

static int reach(struct run *r, enum hook_point point, struct error *err)
{
	return run_hooks_reach(&r->hooks, &r->agent, point, &r->plan.environment, err);
}

static int stage_head(struct run *r, struct error *err)
{
	return agent_head(&r->agent, r->plan.head, r->plan.n_head, r->plan.dependencies,
		&r->plan.environment, err);
}

static int start_actions(struct run *r, struct error *err)
{
	const struct actions *start = plan_actions(&r->plan, POINT_EXPERIMENT_START);

	if (r->plan.first_action == start->n)
		return 0;
	return agent_actions(&r->agent, r->plan.runfile, POINT_EXPERIMENT_START,
		r->plan.first_action, &r->plan.environment, err);
}

/* Prewarm stops before the first shell action, and says so. */
static void mention_actions(const struct run *r)
{
	const struct actions *start = plan_actions(&r->plan, POINT_EXPERIMENT_START);
	size_t left = start->n - r->plan.first_action;

	if (left > 0)
		log_info("prewarm stages the head of on_experiment_start only: action%s %u (%s:%u) "
			 "%s",
			left > 1 ? "s from" : "", start->v[r->plan.first_action].number,
			r->plan.runfile->path, start->v[r->plan.first_action].line,
			left > 1 ? "on are left to the run" : "is left to the run");
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

/* *ret_logged: err was told already. */
static int stage(struct run *r, bool *ret_logged, struct error *err)
{
	int code;

	r->phase = "stage";
	code = reach(r, HOOK_STAGE_START, err);
	if (code == 0)
		code = check_dependencies(r, err);
	if (code == 0)
		code = make_scratch(r->plan.runfile, r->agent.inherited, err);
	if (code < 0)
		return code;
	registration_make(&r->registration, &r->agent, &r->plan.attached);
	code = stage_head(r, err);
	*ret_logged = code < 0;
	if (code < 0)
		return code;
	r->agent.facts.staged = &r->plan.destinations;
	return reach(r, HOOK_STAGE_END, err);
}

/* Everything before the command. */
static int start(struct run *r, bool *ret_logged, struct error *err)
{
	int code = 0;

	r->agent.facts.config_path = r->plan.runfile != NULL ? r->plan.runfile->path : NULL;
	r->agent.environment = &r->plan.environment;
	if (r->why_outlives != NULL)
		code = agent_outlive(&r->agent, err);
	if (code == 0)
		code = stage(r, ret_logged, err);
	if (code == 0 && r->plan.command.n > 0) {
		r->phase = "start";
		code = reach(r, HOOK_EXPERIMENT_START, err);
		if (code == 0)
			code = start_actions(r, err);
	}
	agent_rest(&r->agent);
	return code;
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

/* It has failed, or a signal came: the exit code, once operators' hooks know. */
static int end_start(struct run *r, const struct error *err, bool logged)
{
	int failed = r->plan.command.n > 0 ? EXIT_AGENT_FAILED : EXIT_FAILED;
	int exit_code =
		r->agent.signal != 0 ? run_end_by_signal(r) : run_fail(r, failed, err, logged);

	end_hooks(r);
	return exit_code;
}

/* The command takes this process; or nothing is left to do. */
static int start_and_go(struct run *r)
{
	bool logged = false;
	struct error err = {0};
	int exit_code, code = start(r, &logged, &err);

	if (code < 0 || r->agent.signal != 0) {
		exit_code = end_start(r, &err, logged);
		agent_close(&r->agent);
		return agent_leave(&r->agent, exit_code);
	}
	agent_close(&r->agent);
	if (r->agent.signal != 0)
		return agent_leave(&r->agent, run_end_by_signal(r));
	if (r->plan.command.n == 0) {
		mention_actions(r);
		return EXIT_DONE;
	}
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
		exit_code = end_start(r, &err, logged);
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
	r->agent.cache_keeps = r->plan.command.n > 0;
	return r->why_outlives != NULL ? start_and_stay(r) : start_and_go(r);
}

/* Everything up to the plan: nothing is touched yet. */
static int prepare(struct run *r, char *const *words, struct error *err)
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

/* Nothing has begun, but operators want to know. */
static int fail_early(
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

static void run_done(struct run *r)
{
	cache_close(take_ptr(&r->agent.cache));
	run_hooks_done(&r->hooks);
	registration_done(&r->registration);
	plan_done(&r->plan);
	settings_free(r->settings);
	request_done(&r->request);
}

static int run_or_prewarm(struct run *r, char *const *words, int failed, const struct inherited *in)
{
	struct error err = {0};

	if (prepare(r, words, &err) < 0)
		return fail_early(r, failed, &err, in);
	if (r->request.dry_run) {
		int code = dry_run(&r->plan, r->hooks.found, r->settings, in);

		return code < 0 ? failed : code;
	}
	return work(r, in);
}

static int usage(const struct error *err)
{
	log_error("%s", err->msg);
	return EXIT_USAGE;
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
		print_help("run", " [--] COMMAND [ARG...]",
			"Stages data, runs the on_experiment_start actions, then becomes COMMAND "
			"(or stays "
			"as its\nparent, to run the on_experiment_end actions).");
		exit_code = EXIT_DONE;
	} else if (argv[1 + rest] == NULL) {
		error_set(&err, -ERR_USAGE,
			"run: no command; usage: stagerun run [OPTIONS] [--] COMMAND [ARG...]");
		exit_code = run_fail(&r, EXIT_AGENT_FAILED, &err, false);
	} else {
		exit_code = run_or_prewarm(&r, argv + 1 + rest, EXIT_AGENT_FAILED, in);
	}
	run_done(&r);
	return exit_code;
}

int command_prewarm(int argc, char **argv, const struct inherited *in)
{
	char *const no_command[] = {NULL};
	struct run r = {.phase = "config"};
	struct error err;
	int rest = 0, exit_code;

	if (options_parse(argc - 1, argv + 1, tables, &r.request, &rest, &err) < 0) {
		exit_code = usage(&err);
	} else if (r.request.help) {
		print_help("prewarm", "", "Stages data, and runs no actions and no command.");
		exit_code = EXIT_DONE;
	} else if (argv[1 + rest] != NULL) {
		_free_ char *shown = source_display(argv[1 + rest]); /* a forgotten --stage */

		error_set(&err, -ERR_USAGE, "prewarm runs no command, but there is '%s'", shown);
		exit_code = usage(&err);
	} else {
		exit_code = run_or_prewarm(&r, no_command, EXIT_FAILED, in);
	}
	run_done(&r);
	return exit_code;
}
