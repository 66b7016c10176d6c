/* SPDX-License-Identifier: MIT */
/* `stagerun run`: stages, runs the start actions, then becomes the command, or stays as its parent
 * and runs the end actions. Sections: up to the end of staging (`prewarm` shares it), how a run
 * ended, the end of remaining processes, the command `run`. Loop thread. */
#include "run.h"
#include "../agent.h"
#include "../subcommand.h"
#include "cache.h"
#include "command.h"
#include "defer.h"
#include "log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The operators' hooks. */

static void run_hooks_done(struct run_hooks *h)
{
	hooks_free(h->found);
}

/* Updates which end points are due. */
static void update_due(struct run_hooks *h, enum hook_point point)
{
	h->due[point] = false;
	if (point == HOOK_STAGE_START)
		h->due[HOOK_STAGE_END] = true;
	else if (point == HOOK_EXPERIMENT_START)
		h->due[HOOK_EXPERIMENT_END] = true;
}

/* Runs the hooks of the point. Returns 0, or the code that fails the run; -ECANCELED after a
 * signal. */
static int reach_point(struct run_hooks *h, struct agent *a, enum hook_point point,
	struct strings *environment, struct error *err)
{
	update_due(h, point);
	return agent_hooks(a, h->found, point, environment, err);
}

static void reach_end(
	struct run_hooks *h, struct agent *a, enum hook_point point, struct strings *environment)
{
	struct error err;

	if (reach_point(h, a, point, environment, &err) < 0)
		log_warn("%s", err.msg);
}

static void run_hooks_fail(struct run_hooks *h, struct agent *a, struct strings *environment)
{
	reach_end(h, a, HOOK_FAILURE, environment);
}

void run_hooks_end(struct run_hooks *h, struct agent *a, struct strings *environment)
{
	if (h->due[HOOK_EXPERIMENT_END])
		reach_end(h, a, HOOK_EXPERIMENT_END, environment);
	if (h->due[HOOK_STAGE_END])
		reach_end(h, a, HOOK_STAGE_END, environment);
}

/* Up to the end of staging. */

/* Writes the last reports, then as agent_leave(). */
static int leave(struct run *r, int exit_code)
{
	telemetry_end(&r->telemetry);
	return agent_leave(&r->agent, exit_code);
}

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

static bool has_stage_hooks(const struct run *r)
{
	return hooks_any(r->hooks.found, HOOK_STAGE_START) ||
	       hooks_any(r->hooks.found, HOOK_STAGE_END);
}

static int run_reach_point(struct run *r, enum hook_point point, struct error *err)
{
	return reach_point(&r->hooks, &r->agent, point, &r->plan.environment, err);
}

static int stage_head(struct run *r, struct error *err)
{
	return agent_prepare(&r->agent, r->plan.head, r->plan.n_head, r->plan.dependencies,
		&r->plan.environment, err);
}

/* Searches for the installer again, in the environment that hooks may have changed, as the command
 * will. */
static int check_dependencies(struct run *r, struct error *err)
{
	int code = 0;

	r->phase = "config";
	if (r->plan.dependencies != NULL)
		code = dependencies_refresh(&r->plan.dependencies, &r->plan.environment, err);
	if (code == 0)
		code = agent_check_dependencies(
			&r->agent, r->plan.dependencies, &r->plan.environment, err);
	r->phase = code == 0 ? "stage" : "config";
	return code;
}

/* Checks the directory for temporary files early: otherwise the first action would fail after
 * everything was staged, or an end action when it is too late. */
static int check_temporary(struct run *r, struct error *err)
{
	size_t n_start = plan_actions(&r->plan, POINT_EXPERIMENT_START)->n - r->plan.first_action;
	int code;

	if (r->agent.policy.cache_only ||
		(n_start == 0 && plan_actions(&r->plan, POINT_EXPERIMENT_END)->n == 0))
		return 0;
	code = actions_check_temporary(&r->plan.environment, err);
	return n_start > 0 ? code : 0; /* end actions also run without it */
}

int run_make_scratch(const struct runfile *f, const struct inherited *in, struct error *err)
{
	for (size_t i = 0; f != NULL && i < f->n_scratch; i++) {
		if (mkdir(f->scratch[i].mount_path, 0777 & ~in->umask) < 0 && errno != EEXIST)
			return error_set(err, -errno,
				"%s:%u: cannot make the scratch directory %s: %m; mount a volume there",
				f->path, f->scratch[i].line, f->scratch[i].mount_path);
	}
	return 0;
}

int run_stage(struct run *r, bool *ret_logged, struct error *err)
{
	int code;

	r->agent.policy.facts.config_path = r->plan.runfile != NULL ? r->plan.runfile->path : NULL;
	r->agent.policy.environment = &r->plan.environment;
	r->agent.policy.replace = r->request.replace;
	r->phase = "stage";
	if (r->plan.n_head > 0 || r->plan.dependencies != NULL || has_stage_hooks(r))
		status_writer_enter(&r->status, PHASE_STAGE);
	code = run_reach_point(r, HOOK_STAGE_START, err);
	if (code == 0)
		code = check_temporary(r, err);
	if (code == 0)
		code = check_dependencies(r, err);
	if (code == 0 && !r->agent.policy.cache_only)
		code = run_make_scratch(r->plan.runfile, r->agent.inherited, err);
	if (code < 0)
		return code;
	registration_make(&r->registration, &r->agent, &r->plan.attached);
	code = stage_head(r, err);
	*ret_logged = code < 0;
	if (code < 0)
		return code;
	if (!r->agent.policy.cache_only)
		r->agent.policy.facts.staged = &r->plan.destinations;
	return run_reach_point(r, HOOK_STAGE_END, err);
}

/* Runs the operators' hooks for a run that ends before its command. */
static void run_end_hooks(struct run *r)
{
	struct supervision s;

	supervise_open(&s, &r->agent);
	run_hooks_fail(&r->hooks, &r->agent, &r->plan.environment);
	run_hooks_end(&r->hooks, &r->agent, &r->plan.environment);
	telemetry_send(&r->telemetry, &r->agent, true);
	supervise_close(&s);
}

int run_end_start(struct run *r, int failed, const struct error *err, bool logged)
{
	int exit_code =
		r->agent.signal != 0 ? run_end_by_signal(r) : run_fail(r, failed, err, logged);

	run_end_hooks(r);
	return exit_code;
}

int run_fail_early(
	struct run *r, int exit_code, const struct error *err, const struct inherited *in)
{
	bool wanted = !r->request.dry_run && r->settings != NULL &&
		      (hooks_any(r->hooks.found, HOOK_FAILURE) || r->telemetry.collector.enabled);
	bool opened = wanted && agent_open(&r->agent, r->settings, in, NULL) == 0;

	run_fail(r, exit_code, err, false);
	if (opened)
		telemetry_record(&r->telemetry, &r->agent);
	if (opened && r->plan.environment.n == 0)
		environment_copy(&r->plan.environment, environ);
	if (opened)
		run_end_hooks(r);
	agent_close(&r->agent);
	return leave(r, exit_code);
}

void run_done(struct run *r)
{
	telemetry_close(&r->telemetry);
	status_writer_close(&r->status);
	staged_done(&r->staged);
	cache_close(take_ptr(&r->agent.resources.cache));
	run_hooks_done(&r->hooks);
	registration_done(&r->registration);
	plan_done(&r->plan);
	free(r->command_path);
	settings_free(r->settings);
	request_done(&r->request);
}

/* How a run ended: on stderr, in the termination message, and for the environment of hooks and end
 * actions. */

#define CLUSTER_TERMINATION_LOG "/dev/termination-log"

/* Also usable when the settings could not be read. */
static const char *run_termination_path(const struct run *r)
{
	const char *path = getenv("STAGERUN_TERMINATION_LOG"); /* NOLINT(concurrency-mt-unsafe) */

	if (r->settings != NULL)
		return r->settings->termination_log;
	return path != NULL ? path : CLUSTER_TERMINATION_LOG;
}

/* A configured file is created; the cluster's own is only written to if it exists. */
static void write_termination(const struct run *r, enum end_reason reason, int exit_code,
	int signum, const struct error *why)
{
	const char *path = run_termination_path(r);

	termination_message(path, strcmp(path, CLUSTER_TERMINATION_LOG) != 0,
		&(struct termination){.phase = r->phase,
			.exit_code = exit_code,
			.signal = signum,
			.item = why->item[0] != '\0' ? why->item : NULL,
			.reason = reason,
			.message = why->msg,
			.staged = r->staged.v,
			.n_staged = r->staged.n});
}

static void set_facts(
	struct run *r, enum end_reason reason, int exit_code, int signum, const struct error *why)
{
	struct run_facts *facts = &r->agent.policy.facts;

	r->why = *why;
	facts->ended = true;
	facts->exit_code = exit_code;
	facts->exit_signal = signum;
	facts->exit_reason = report_reason_name(reason);
	facts->failure_phase = exit_code != 0 ? r->phase : NULL;
	facts->failure_message = exit_code != 0 ? r->why.msg : NULL;
	telemetry_note_end(&r->telemetry, &(struct termination){.phase = r->phase,
						  .exit_code = exit_code,
						  .signal = signum,
						  .reason = reason,
						  .message = r->why.msg});
	status_writer_end(&r->status, exit_code, r->phase, r->why.msg);
}

int run_fail(struct run *r, int exit_code, const struct error *err, bool logged)
{
	const struct log_field fields[] = {log_field_word("phase", r->phase),
		log_field_text("item", err->item[0] != '\0' ? err->item : NULL),
		log_field_errno(err), log_field_http_status(err)};

	if (!logged)
		log_event(LOG_ERROR, EVENT_START_FAILED, fields, ARRAY_LEN(fields), "%s", err->msg);
	set_facts(r, END_START_FAILED, exit_code, 0, err);
	write_termination(r, END_START_FAILED, exit_code, 0, err);
	return exit_code;
}

int run_end_by_signal(struct run *r)
{
	static const struct error why = {
		.msg = "stopped by a signal before the command was started"};
	int signum = r->agent.signal;

	set_facts(r, END_TERMINATED, 128 + signum, signum, &why);
	write_termination(r, END_TERMINATED, 128 + signum, signum, &why);
	return 128 + signum;
}

void run_log_command(const struct plan *p, pid_t pid)
{
	const struct log_field fields[] = {log_field_text("command", p->command.v[0]),
		log_field_integer("pid", (uint64_t)pid)};

	log_event(log_level_of_detail(), EVENT_COMMAND_STARTED, fields, ARRAY_LEN(fields),
		"the command starts: %s (process %d)", p->command.v[0], (int)pid);
}

static void log_command_end(const struct run_ending *e)
{
	const struct log_field fields[] = {log_field_integer("exit", (uint64_t)e->exit_code),
		log_field_known("signal", (uint64_t)e->signal),
		log_field_word("reason", report_reason_name(e->reason)),
		log_field_ns("seconds", e->elapsed_ns)};

	log_event(e->reason != END_COMPLETED ? LOG_INFO : log_level_of_detail(),
		EVENT_COMMAND_ENDED, fields, ARRAY_LEN(fields), "%s", e->why.msg);
}

/* Reports how the command ended. The termination message is not written if the command wrote one
 * itself since mark. */
static void report_ending(
	struct run *r, const struct run_ending *e, const struct termination_mark *mark)
{
	r->phase = "command";
	set_facts(r, e->reason, e->exit_code, e->signal, &e->why);
	log_command_end(e);
	if (e->reason == END_COMPLETED && r->staged.n == 0)
		return;
	if (!termination_was_written(run_termination_path(r), mark))
		write_termination(r, e->reason, e->exit_code, e->signal, &e->why);
}

/* The end of remaining processes: nothing that the run started outlives the agent. */

enum { TICK_MS = 20, KILLED_MS = 1000 };

/* A timer and not SIGCHLD checks whether they have ended, because each one that ends may leave
 * others. */
struct orphan_watch {
	uv_timer_t tick;
	unsigned ticks, kill_at;
	const bool *may_kill; /* NULL: yes */
	bool terminated;      /* they got SIGTERM before */
	bool done, closed;
};

static bool is_time_to_kill(const struct orphan_watch *w)
{
	return w->ticks >= w->kill_at && (w->may_kill == NULL || *w->may_kill);
}

static void on_tick(uv_timer_t *h)
{
	struct orphan_watch *w = h->data;

	w->done = process_orphans_are_gone() || w->ticks >= w->kill_at + KILLED_MS / TICK_MS;
	if (w->done) {
		uv_timer_stop(h); /* otherwise uv_run() would sleep until the next tick */
		return;
	}
	if (w->ticks == 0 && !w->terminated)
		process_orphans_signal(SIGTERM);
	if (is_time_to_kill(w))
		process_orphans_signal(SIGKILL); /* at each tick: new ones may have been forked */
	if (w->ticks < w->kill_at || is_time_to_kill(w))
		w->ticks++;
}

static void on_closed(uv_handle_t *h)
{
	((struct orphan_watch *)h->data)->closed = true;
}

/* Returns whether there were remaining processes. */
static bool watch_until_gone(struct agent *a, struct orphan_watch *w)
{
	if (a->out_of_time) {
		process_orphans_signal(SIGKILL);
		return false;
	}
	if (process_orphans_are_gone())
		return false;
	uv_timer_init(&a->loop, &w->tick);
	w->tick.data = w;
	uv_timer_start(&w->tick, on_tick, 0, TICK_MS);
	agent_run_until(a, &w->done);
	uv_close((uv_handle_t *)&w->tick, on_closed);
	while (!w->closed)
		uv_run(&a->loop, UV_RUN_ONCE);
	return w->ticks > 0;
}

/* Call it after agent_outlive(). Ends the descendants with SIGTERM, and with SIGKILL after
 * term_ms. */
static void end_remaining_processes(struct agent *a, uint64_t term_ms)
{
	struct orphan_watch w = {.kill_at = (unsigned)(term_ms / TICK_MS)};

	if (watch_until_gone(a, &w))
		log_info("processes that had left the command's group were ended with the run");
}

void run_await_orphans(struct agent *a, uint64_t term_ms, const bool *may_kill)
{
	struct orphan_watch w = {
		.kill_at = (unsigned)(term_ms / TICK_MS), .may_kill = may_kill, .terminated = true};

	(void)watch_until_gone(a, &w);
}

/* The command `run`. */

static const struct option_row *const tables[] = {config_rows, run_rows, plan_rows, command_rows,
	report_rows, rate_rows, store_rows, common_rows, NULL};

static void print_help(void)
{
	puts("Usage: stagerun run [OPTIONS] [--] COMMAND [ARG...]\n\n"
	     "Stages data, runs the on_experiment_start actions, then becomes COMMAND (or stays as its\nparent, to run the on_experiment_end actions).\n\nOptions:");
	options_print(tables);
}

static int start_actions(struct run *r, struct error *err)
{
	const struct actions *start = plan_actions(&r->plan, POINT_EXPERIMENT_START);
	uint64_t began_ns = now_ns();
	int code;

	if (r->plan.first_action == start->n)
		return 0;
	code = agent_actions(&r->agent, r->plan.runfile, POINT_EXPERIMENT_START,
		r->plan.first_action, &r->plan.environment, err);
	r->ready.actions_ns = now_ns() - began_ns;
	return code;
}

static void on_stage_result(void *ctx, const struct stage_result *result)
{
	struct run *r = ctx;

	staged_add(&r->staged, result);
	ready_add_stage(&r->ready, result);
}

static bool has_start(const struct run *r)
{
	return hooks_any(r->hooks.found, HOOK_EXPERIMENT_START) ||
	       r->plan.first_action < plan_actions(&r->plan, POINT_EXPERIMENT_START)->n;
}

/* Stages and runs the start hooks and actions. */
static int run_start(struct run *r, bool *ret_logged, struct error *err)
{
	int code = 0;

	if (r->why_outlives != NULL)
		code = agent_outlive(&r->agent, err);
	if (code == 0)
		code = run_stage(r, ret_logged, err);
	if (code == 0) {
		r->phase = "start";
		if (has_start(r))
			status_writer_enter(&r->status, PHASE_START);
		code = run_reach_point(r, HOOK_EXPERIMENT_START, err);
		if (code == 0)
			code = start_actions(r, err);
	}
	agent_release_resources(&r->agent);
	r->ready.dependencies_ns = r->agent.install_ns;
	if (code == 0 && r->agent.signal == 0)
		ready_log(&r->ready);
	if (code == 0 && r->agent.signal == 0)
		telemetry_send(&r->telemetry, &r->agent, r->why_outlives == NULL);
	return code;
}

/* Runs the command as a child, then the end actions and hooks. Returns the exit code. */
static int supervise(struct run *r)
{
	struct run_ending ending = {0};
	struct termination_mark mark;
	struct supervision s;
	struct error err = {0};
	bool started;

	supervise_open(&s, &r->agent);
	termination_remember(run_termination_path(r), &mark);
	r->phase = "exec";
	telemetry_begin_command(&r->telemetry, &r->plan, true);
	status_writer_enter(&r->status, PHASE_COMMAND);
	started = supervise_command(&s, &r->plan, &ending, &err) == 0;
	if (started)
		report_ending(r, &ending, &mark);
	else
		run_fail(r, ending.exit_code, &err, false);
	telemetry_end_command(&r->telemetry);
	if (ending.exit_code != 0)
		run_hooks_fail(&r->hooks, &r->agent, &r->plan.environment);
	if (started)
		supervise_end_actions(&s, &r->plan);
	run_hooks_end(&r->hooks, &r->agent, &r->plan.environment);
	registration_remove(&r->registration, &r->agent);
	end_remaining_processes(&r->agent, supervise_orphans_wait_ms(&s));
	telemetry_send(&r->telemetry, &r->agent, true);
	supervise_close(&s);
	return ending.exit_code;
}

/* A signal for the command arrived during the start. The command has no handler for it when it
 * starts, so the agent must stay to forward it later. */
static bool must_forward_early(struct run *r)
{
	struct agent *a = &r->agent;
	struct error why;

	if (a->n_early == 0)
		return false;
	if (r->settings->supervise == SUPERVISE_NEVER) {
		log_warn(
			"SIG%s came before the command was there and is dropped: process.supervise is never",
			sigabbrev_np((int)a->early[0].ssi_signo));
		return false;
	}
	if (agent_outlive(a, &why) < 0) {
		log_warn("SIG%s came before the command was there and is dropped: %s",
			sigabbrev_np((int)a->early[0].ssi_signo), why.msg);
		return false;
	}
	log_info(
		"SIG%s came before the command was there: the agent stays as its parent to pass it on",
		sigabbrev_np((int)a->early[0].ssi_signo));
	return true;
}

/* The command replaces this process. */
static int start_and_exec(struct run *r)
{
	bool logged = false;
	struct error err = {0};
	int exit_code, code = run_start(r, &logged, &err);

	if (code < 0 || r->agent.signal != 0) {
		exit_code = run_end_start(r, EXIT_AGENT_FAILED, &err, logged);
		agent_close(&r->agent);
		return leave(r, exit_code);
	}
	if (must_forward_early(r)) {
		exit_code = supervise(r);
		agent_close(&r->agent);
		return leave(r, exit_code);
	}
	agent_close(&r->agent);
	if (r->agent.signal != 0)
		return leave(r, run_end_by_signal(r));
	r->phase = "exec";
	telemetry_begin_command(&r->telemetry, &r->plan, false);
	status_writer_enter(&r->status, PHASE_COMMAND);
	run_log_command(&r->plan, getpid());
	inherited_seal(r->agent.inherited);
	cache_pass_on(r->agent.resources.cache);
	code = process_exec(r->agent.inherited, r->plan.command.v, r->plan.environment.v,
		r->command_path, &err);
	return run_fail(r, code, &err, false);
}

/* The agent outlives the command and ends all processes that it leaves. */
static int start_and_supervise(struct run *r)
{
	bool logged = false;
	struct error err = {0};
	int exit_code, code = run_start(r, &logged, &err);

	if (code == 0 && r->agent.signal == 0) {
		exit_code = supervise(r);
	} else {
		exit_code = run_end_start(r, EXIT_AGENT_FAILED, &err, logged);
		end_remaining_processes(&r->agent, 0);
	}
	agent_close(&r->agent);
	return leave(r, exit_code);
}

static int open_and_run(struct run *r, const struct inherited *in)
{
	struct error err = {0};
	int code = agent_open(&r->agent, r->settings, in, &err);

	if (code < 0) {
		agent_close(&r->agent);
		return run_fail(r, EXIT_AGENT_FAILED, &err, false);
	}
	r->agent.policy.cache_keeps = true;
	telemetry_note_plan(&r->telemetry, &r->plan);
	telemetry_record(&r->telemetry, &r->agent);
	status_writer_watch(&r->status, &r->agent);
	r->agent.policy.on_result = on_stage_result;
	r->agent.policy.on_result_ctx = r;
	return r->why_outlives != NULL ? start_and_supervise(r) : start_and_exec(r);
}

static int prepare_and_work(struct run *r, char *const *words, const struct inherited *in)
{
	struct error err = {0};
	int missing;

	if (!r->request.dry_run)
		status_writer_open(&r->status, false);
	if (!r->request.dry_run && telemetry_open(&r->telemetry, &r->request.reports, &err) < 0)
		return run_fail(r, EXIT_AGENT_FAILED, &err, false);
	if (run_prepare(r, words, &err) < 0) {
		if (r->request.dry_run)
			dry_run_fail(r, &err);
		return run_fail_early(r, EXIT_AGENT_FAILED, &err, in);
	}
	if (r->request.dry_run)
		return dry_run(r, in);
	missing = command_check(&r->plan, r->hooks.found, &r->command_path, &err);
	if (missing != 0) {
		r->phase = "exec";
		return run_fail_early(r, missing, &err, in);
	}
	return open_and_run(r, in);
}

int command_run(int argc, char **argv, const struct inherited *in)
{
	struct run r = {.phase = "config", .ready.begun_ns = now_ns()};
	struct error err;
	int rest = 0, exit_code;

	if (options_parse(argc - 1, argv + 1, tables, &r.request, &rest, &err) < 0) {
		error_prefix(&err, "run");
		exit_code = run_fail(&r, EXIT_AGENT_FAILED, &err, false);
	} else if (r.request.help) {
		print_help();
		exit_code = EXIT_DONE;
	} else if (r.request.json && !r.request.dry_run) {
		error_set(&err, -ERR_USAGE,
			"run: --json is for --dry-run; --report FILE.json has what a run did");
		exit_code = run_fail(&r, EXIT_AGENT_FAILED, &err, false);
	} else if (argv[1 + rest] == NULL) {
		error_set(&err, -ERR_USAGE,
			"run: no command; usage: stagerun run [OPTIONS] [--] COMMAND [ARG...]");
		exit_code = run_fail(&r, EXIT_AGENT_FAILED, &err, false);
	} else if (argv[1 + rest][0] == '-') {
		error_set(&err, -ERR_USAGE,
			"run: the command '%s' begins with '-', so it is an option, and the program before it is missing: stagerun run [OPTIONS] -- PROGRAM %s ...; a program of that name is run as ./%s",
			argv[1 + rest], argv[1 + rest], argv[1 + rest]);
		exit_code = run_fail(&r, EXIT_AGENT_FAILED, &err, false);
	} else {
		exit_code = prepare_and_work(&r, argv + 1 + rest, in);
	}
	telemetry_end(&r.telemetry);
	run_done(&r);
	return exit_code;
}
