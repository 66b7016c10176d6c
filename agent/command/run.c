/* SPDX-License-Identifier: MIT */
/* `stagerun run`: stage, run the start actions, become the command, or stay as its parent and run the end
 * actions. And `prewarm`, which stops after staging. */
#include "agent.h"
#include "command.h"
#include "defer.h"
#include "dry_run.h"
#include "head.h"
#include "log.h"
#include "plan.h"
#include "report.h"
#include "scratch.h"
#include "source.h"
#include "supervise.h"
#include <stdio.h>
#include <string.h>

struct run {
	struct request request;
	struct settings *settings; /* NULL until they were read */
	struct plan plan;
	struct agent agent;
	const char *why_outlives; /* the command; NULL: it takes this process */
	const char *phase; /* "config", "stage", "start", "exec": for the reason of a failure */
};

static const struct option_row *const tables[] = {config_rows, run_rows, common_rows, NULL};

static void print_help(const char *name, const char *words, const char *what)
{
	printf("Usage: stagerun %s [OPTIONS]%s\n\n%s\n\nOptions:\n", name, words, what);
	options_print(tables);
}

#define CLUSTERS_OWN "/dev/termination-log"

/* Where the reason goes, also when it is that the settings cannot be read. */
static const char *termination_path(const struct run *r)
{
	const char *path = getenv("STAGERUN_TERMINATION_LOG"); /* NOLINT(concurrency-mt-unsafe) */

	if (r->settings != NULL)
		return r->settings->termination_log;
	return path != NULL ? path : CLUSTERS_OWN;
}

/* A file that was asked for is made; the cluster's own is there or it is not. */
static void tell_termination(const struct run *r, enum end_reason reason, int exit_code, int signum,
	const struct error *why)
{
	const char *path = termination_path(r);

	termination_message(path, strcmp(path, CLUSTERS_OWN) != 0,
		&(struct termination){.phase = r->phase,
			.exit_code = exit_code,
			.signal = signum,
			.item = why->item[0] != '\0' ? why->item : NULL,
			.reason = reason,
			.message = why->msg});
}

/* Says why, on stderr and in the termination message, and gives the exit code for it. */
static int fail(struct run *r, int exit_code, const struct error *err, bool logged)
{
	if (!logged)
		log_error("%s", err->msg);
	tell_termination(r, END_START_FAILED, exit_code, 0, err);
	return exit_code;
}

/* A signal ended us: its code, and no more work. */
static int end_by_signal(struct run *r)
{
	static const struct error why = {
		.msg = "stopped by a signal before the command was started"};
	int signum = r->agent.signal;

	tell_termination(r, END_TERMINATED, 128 + signum, signum, &why);
	return 128 + signum;
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

/* Everything before the command. *ret_logged: err was told already. */
static int start(struct run *r, bool *ret_logged, struct error *err)
{
	int code = 0;

	r->agent.facts.config_path = r->plan.runfile != NULL ? r->plan.runfile->path : NULL;
	if (r->why_outlives != NULL)
		code = agent_outlive(&r->agent, err);
	if (code == 0)
		code = agent_check_dependencies(
			&r->agent, r->plan.dependencies, &r->plan.environment, err);
	if (code == 0) {
		r->phase = "stage";
		code = make_scratch(r->plan.runfile, r->agent.inherited, err);
	}
	if (code == 0) {
		code = stage_head(r, err);
		*ret_logged = code < 0;
	}
	r->agent.facts.staged = &r->plan.destinations;
	if (code == 0 && r->plan.command.n > 0) {
		r->phase = "start";
		code = start_actions(r, err);
	}
	agent_rest(&r->agent);
	return code;
}

/* The command takes this process; or nothing is left to do. */
static int start_and_go(struct run *r)
{
	bool with_command = r->plan.command.n > 0, logged = false;
	struct error err = {0};
	int code = start(r, &logged, &err);

	agent_close(&r->agent);
	if (r->agent.signal != 0)
		return agent_leave(&r->agent, end_by_signal(r));
	if (code < 0)
		return fail(r, with_command ? EXIT_AGENT_FAILED : EXIT_FAILED, &err, logged);
	if (!with_command) {
		mention_actions(r);
		return EXIT_DONE;
	}
	r->phase = "exec";
	code = process_exec(r->agent.inherited, r->plan.command.v, r->plan.environment.v, &err);
	return fail(r, code, &err, false);
}

/* What end actions are told. */
static void tell_facts(struct run *r, const struct ending *e)
{
	struct run_facts *facts = &r->agent.facts;

	facts->ended = true;
	facts->exit_code = e->exit_code;
	facts->exit_signal = e->signal;
	facts->exit_reason = end_reason_name(e->reason);
	if (e->reason != END_COMPLETED) {
		facts->failure_phase = r->phase;
		facts->failure_message = e->why.msg;
	}
}

/* Why the command failed, unless it said so itself. */
static void tell_ending(struct run *r, const struct ending *e, const struct termination_mark *mark)
{
	r->phase = "command";
	tell_facts(r, e);
	if (e->reason == END_COMPLETED)
		return;
	log_info("%s", e->why.msg);
	if (!termination_was_written(termination_path(r), mark))
		tell_termination(r, e->reason, e->exit_code, e->signal, &e->why);
}

/* The command as our child, and what comes after it. */
static int supervise(struct run *r)
{
	struct ending ending = {0};
	struct termination_mark mark;
	struct supervision s;
	struct error err = {0};

	supervision_open(&s, &r->agent);
	termination_remember(termination_path(r), &mark);
	r->phase = "exec";
	if (supervise_command(&s, &r->plan, &ending, &err) < 0) {
		fail(r, ending.exit_code, &err, false);
	} else {
		tell_ending(r, &ending, &mark);
		supervise_end_actions(&s, &r->plan);
	}
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
		exit_code = r->agent.signal != 0 ? end_by_signal(r)
						 : fail(r, EXIT_AGENT_FAILED, &err, logged);
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
		return fail(r, EXIT_AGENT_FAILED, &err, false);
	}
	return r->why_outlives != NULL ? start_and_stay(r) : start_and_go(r);
}

/* Everything up to the plan: nothing is touched yet. */
static int prepare(struct run *r, char *const *words, struct error *err)
{
	int code = request_settings(&r->request, &r->settings, err);

	if (code == 0)
		code = plan_make(&r->request, r->settings, words, &r->plan, err);
	if (code == 0)
		code = supervise_decide(r->settings, &r->plan, &r->why_outlives, err);
	return code;
}

static void run_done(struct run *r)
{
	plan_done(&r->plan);
	settings_free(r->settings);
	request_done(&r->request);
}

static int run_or_prewarm(struct run *r, char *const *words, int failed, const struct inherited *in)
{
	struct error err = {0};

	if (prepare(r, words, &err) < 0)
		return fail(r, failed, &err, false);
	if (r->request.dry_run) {
		int code = dry_run(&r->plan, r->settings, in);

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
		exit_code = fail(&r, EXIT_AGENT_FAILED, &err, false);
	} else if (r.request.help) {
		print_help("run", " [--] COMMAND [ARG...]",
			"Stages data, runs the on_experiment_start actions, then becomes COMMAND "
			"(or stays "
			"as its\nparent, to run the on_experiment_end actions).");
		exit_code = EXIT_DONE;
	} else if (argv[1 + rest] == NULL) {
		error_set(&err, -ERR_USAGE,
			"run: no command; usage: stagerun run [OPTIONS] [--] COMMAND [ARG...]");
		exit_code = fail(&r, EXIT_AGENT_FAILED, &err, false);
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
		print_help("prewarm", "", "Stages data and runs nothing.");
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
