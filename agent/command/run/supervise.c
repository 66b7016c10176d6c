/* SPDX-License-Identifier: MIT */
/* The agent as the command's parent, and PID 1 of many containers. The command gets the signals,
 * the terminal and the exit code that it would have without the agent; the agent waits for orphans,
 * gives a stop its grace period, and then runs the end actions and hooks. Loop thread. In order:
 *
 *   process/inherited.c  the inherited state; until agent_open() a handler ends PID 1
 *   agent.c              agent_open(), agent_outlive(): a signalfd reads all signals from here on
 *   process/signals.c    the signalfd, and which signals can be forwarded
 *   process/reap.c       sub-reaper; the only code that reads SIGCHLD and waits for orphans
 *   run.c                stages, runs the start actions, then calls the functions below
 *   supervise.c          starts the command, forwards signals, enforces the grace period
 *   process/job.c        the command's process group, its terminal and stops
 *   process/spawn.c      fork and exec
 *   run.c                end actions, hooks, the termination message, remaining processes
 *   process/child.c      each action and hook is such a child, with a time limit
 *
 * First: whether the agent must outlive the command at all. */
#include "defer.h"
#include "log.h"
#include "run.h"
#include <string.h>
#include <sys/wait.h>

/* Returns, for people, what has to run after the command, or NULL. *ret_first (heap): the first of
 * it. */
static const char *find_end_work(const struct plan *p, const struct hooks *hooks, char **ret_first)
{
	const struct actions *end = plan_actions(p, POINT_EXPERIMENT_END);

	if (end->n > 0) {
		*ret_first = text_format("%s:%u", p->runfile->path, end->v[0].line);
		return "there are on_experiment_end actions";
	}
	if (hooks_any(hooks, HOOK_EXPERIMENT_END)) {
		*ret_first = text_copy(hooks->at[HOOK_EXPERIMENT_END].v[0].path);
		return "there are on_experiment_end hooks";
	}
	return NULL;
}

/* Hooks of on_failure also run when the command fails, but process.supervise = never may disable
 * that. */
static const char *find_reason(const struct settings *s, const struct hooks *hooks)
{
	if (s->supervise == SUPERVISE_ALWAYS)
		return "process.supervise is always";
	if (s->supervise == SUPERVISE_NEVER)
		return NULL;
	if (hooks_any(hooks, HOOK_FAILURE))
		return "there are on_failure hooks";
	return getpid() == 1 ? "the agent is PID 1" : NULL;
}

int supervise_decide(const struct settings *s, const struct plan *p, const struct hooks *hooks,
	const char **ret_why, struct error *err)
{
	_free_ char *first = NULL;

	*ret_why = NULL;
	if (p->command.n == 0)
		return 0;
	*ret_why = find_end_work(p, hooks, &first);
	if (*ret_why != NULL && s->supervise == SUPERVISE_NEVER)
		return error_set(err, -ERR_CONFIG,
			"%s, which need an agent that outlives the command (the first: %s), but process.supervise is never: set it to auto",
			*ret_why, first);
	if (*ret_why == NULL || s->supervise == SUPERVISE_ALWAYS)
		*ret_why = find_reason(s, hooks);
	return 0;
}

/* How the grace period is divided. */

enum {
	COMMAND_PERCENT = 70,
	RESERVE_MS = 2000,  /* for the end of the end actions, the reports and the orphans, */
	RESERVE_SHARE = 10, /* but at most a tenth of the period */
};

void supervise_grace_begin(struct grace *g, uint64_t now_ms)
{
	if (g->running)
		return;
	g->running = true;
	g->began_ms = now_ms;
}

static uint64_t reserve_ms(const struct grace *g)
{
	uint64_t share = g->period_ms / RESERVE_SHARE;

	return share < RESERVE_MS ? share : RESERVE_MS;
}

static uint64_t time_after(const struct grace *g, uint64_t after_ms)
{
	return g->running ? g->began_ms + after_ms : UINT64_MAX;
}

uint64_t supervise_grace_command_ends(const struct grace *g)
{
	return time_after(g, g->period_ms * COMMAND_PERCENT / 100);
}

uint64_t supervise_grace_actions_end(const struct grace *g)
{
	return time_after(g, g->period_ms - reserve_ms(g));
}

uint64_t supervise_grace_actions_killed(const struct grace *g)
{
	return time_after(g, g->period_ms - reserve_ms(g) / 2);
}

uint64_t supervise_grace_over(const struct grace *g)
{
	return time_after(g, g->period_ms);
}

enum { STEP_KILL_MS = 1000, ORPHANS_WAIT_MS = 1000 };

/* Signals, and the timers of the grace period. */

static uint64_t now_ms(const struct supervision *s)
{
	return uv_now(&s->agent->loop);
}

static void start_budget_timer(struct supervision *s, uint64_t at_ms, uv_timer_cb on_time)
{
	uint64_t now = now_ms(s);

	uv_timer_start(&s->budget, on_time, at_ms > now ? at_ms - now : 0, 0);
}

static void kill_command(struct supervision *s)
{
	s->killed = s->killed || !s->ended;
	s->may_kill_orphans = true;
	job_kill(s->job);
}

/* In a stop, the processes that the command left, such as workers in their own sessions, get
 * SIGTERM as soon as the command has ended: they may save checkpoints, and share the rest of its
 * time. */
static void stop_remaining_processes(struct supervision *s)
{
	size_t n = 0;
	char left[32];
	uint64_t over = supervise_grace_command_ends(&s->grace), now = now_ms(s);

	job_stop(s->job);
	if (!s->ended)
		return;
	if (s->settings->forward != FORWARD_NONE)
		n = process_orphans_signal_outside(job_group(s->job), SIGTERM);
	if (n > 0)
		log_info(
			"the command left %zu processes in other process groups: SIGTERM, and %s to end",
			n, units_print_duration((over > now ? over - now : 0) * 1000000, left));
}

static void on_command_share_over(uv_timer_t *h)
{
	struct supervision *s = h->data;
	char share[32], period[32];

	log_warn("%s did not end within %s, 70 %% of the grace period of %s: killing it",
		s->ended ? "the command's group" : "the command",
		units_print_duration(
			(supervise_grace_command_ends(&s->grace) - s->grace.began_ms) * 1000000,
			share),
		units_print_duration(s->grace.period_ms * 1000000, period));
	kill_command(s);
}

static void on_actions_kill_time(uv_timer_t *h)
{
	const struct supervision *s = h->data;

	agent_step_cancel(s->agent, true);
}

static void on_actions_time_over(uv_timer_t *h)
{
	struct supervision *s = h->data;

	s->agent->cancelled = true;
	agent_step_cancel(s->agent, false);
	start_budget_timer(s, supervise_grace_actions_killed(&s->grace), on_actions_kill_time);
}

static void watch_budget(struct supervision *s)
{
	if (!s->grace.running)
		return;
	if (s->job != NULL)
		start_budget_timer(
			s, supervise_grace_command_ends(&s->grace), on_command_share_over);
	else
		start_budget_timer(s, supervise_grace_actions_end(&s->grace), on_actions_time_over);
	agent_limit(s->agent, supervise_grace_over(&s->grace) > now_ms(s)
				      ? supervise_grace_over(&s->grace) - now_ms(s)
				      : 0);
}

static void start_grace(struct supervision *s, int signum)
{
	char period[32];

	supervise_grace_begin(&s->grace, now_ms(s));
	log_info("SIG%s: everything ends within %s", sigabbrev_np(signum),
		units_print_duration(s->grace.period_ms * 1000000, period));
	watch_budget(s);
	if (s->job != NULL)
		stop_remaining_processes(s);
}

static void on_step_kill(uv_timer_t *h)
{
	struct supervision *s = h->data;

	if (s->job != NULL)
		kill_command(s);
	else
		agent_step_skip(s->agent, true);
}

static void end_step_early(struct supervision *s, int signum)
{
	log_info("SIG%s again: the step under way has 1 s", sigabbrev_np(signum));
	if (s->job == NULL)
		agent_step_skip(s->agent, false);
	uv_timer_start(&s->step_kill, on_step_kill, STEP_KILL_MS, 0);
}

/* While the command runs, only SIGTERM starts the grace period: an interactive command handles
 * SIGINT and the like and continues. After the command, and if it never started, each of them
 * does. */
static void handle_ending_signal(struct supervision *s, int signum)
{
	bool same = s->end_signal != 0 && now_ms(s) - s->end_signal_ms < SAME_SIGNAL_MS;

	s->end_signal = signum;
	s->end_signal_ms = now_ms(s);
	if (!s->grace.running && (signum == SIGTERM || s->ended || s->job == NULL))
		start_grace(s, signum);
	else if (s->grace.running && !same && (signum == SIGTERM || signum == SIGINT))
		end_step_early(s, signum);
}

static void on_signal(void *ctx, const struct signalfd_siginfo *info)
{
	struct supervision *s = ctx;
	int signum = (int)info->ssi_signo;

	if (s->job != NULL)
		job_signal(s->job, info);
	else if (signum == SIGTSTP || signum == SIGTTIN || signum == SIGTTOU)
		signals_stop_here(signum, false);
	if (agent_signal_ends(signum))
		handle_ending_signal(s, signum);
}

/* Open and close. */

static void init_timer(struct supervision *s, uv_timer_t *timer)
{
	uv_timer_init(&s->agent->loop, timer);
	uv_unref((uv_handle_t *)timer);
	timer->data = s;
}

/* After a signal ended the start. The grace period counts from it, since its sender waits that
 * long. */
static void resume_grace(struct supervision *s)
{
	uv_update_time(&s->agent->loop);
	s->end_signal = s->agent->signal;
	s->end_signal_ms = s->agent->signal_ms;
	s->agent->cancelled = false;
	supervise_grace_begin(&s->grace, s->agent->signal_ms);
	watch_budget(s);
}

void supervise_open(struct supervision *s, struct agent *a)
{
	*s = (struct supervision){.agent = a,
		.settings = a->settings,
		.grace = {.period_ms = a->settings->grace_period_ms}};
	init_timer(s, &s->budget);
	init_timer(s, &s->step_kill);
	a->on_signal = on_signal;
	a->on_signal_ctx = s;
	if (a->signal != 0)
		resume_grace(s);
}

static void on_timer_closed(uv_handle_t *h)
{
	struct supervision *s = h->data;

	s->timers_closed = ++s->n_closed == 2;
}

void supervise_close(struct supervision *s)
{
	s->agent->on_signal = NULL;
	uv_close((uv_handle_t *)&s->budget, on_timer_closed);
	uv_close((uv_handle_t *)&s->step_kill, on_timer_closed);
	agent_run_until(s->agent, &s->timers_closed);
}

/* The command. */

static void on_command_end(void *ctx, int wait_status)
{
	struct supervision *s = ctx;

	s->ended = true;
	s->ended_by = s->end_signal;
	s->terminated = s->grace.running;
	s->wait_status = wait_status;
	if (s->grace.running)
		stop_remaining_processes(s);
}

static void on_group_gone(void *ctx, bool left)
{
	struct supervision *s = ctx;

	s->gone = true;
	if (left)
		log_warn("the command left processes in its group, which were ended");
}

/* The command or its group was killed but still exists when the time is over: it is stuck in the
 * kernel, or a debugger holds it. */
static void abandon_command(struct supervision *s)
{
	log_warn("%s was killed, but is still there: is it stuck in a driver or a file system?",
		s->ended ? "the command's group" : "the command");
	if (!s->ended)
		on_command_end(s, SIGKILL);
	s->job = NULL;
	s->agent->abandoned = true;
}

static int start_command(
	struct supervision *s, const struct plan *p, int *ret_exit_code, struct error *err)
{
	static const enum job_forward forwards[] = {[FORWARD_COMMAND] = JOB_FORWARD_COMMAND,
		[FORWARD_GROUP] = JOB_FORWARD_GROUP,
		[FORWARD_NONE] = JOB_FORWARD_NONE};
	const struct job_options opts = {.loop = &s->agent->loop,
		.argv = p->command.v,
		.env = p->environment.v,
		.inherited = s->agent->inherited,
		.forward = forwards[s->settings->forward],
		.group_wait_ms = s->settings->group_wait_ms,
		.on_end = on_command_end,
		.on_gone = on_group_gone,
		.ctx = s};

	return job_start(&opts, &s->job, ret_exit_code, err);
}

static void forward_early_signals(struct supervision *s)
{
	job_signal_early(s->job, s->agent->early, s->agent->n_early);
	s->agent->n_early = 0;
}

/* Whether it was asked to end: by SIGTERM, which starts the grace period, or by another ending
 * signal that its exit code shows (a program that catches SIGINT exits with 130, as a shell
 * would). */
static bool was_terminated(const struct supervision *s, int exit_code)
{
	return s->terminated || (s->ended_by != 0 && exit_code == 128 + s->ended_by);
}

static enum end_reason find_end_reason(
	const struct supervision *s, enum oom_verdict oom, int exit_code)
{
	if (oom == OOM_COMMAND || (oom == OOM_WORKER && exit_code != 0))
		return END_OOM_KILLED;
	if (was_terminated(s, exit_code))
		return END_TERMINATED;
	if (WIFSIGNALED(s->wait_status))
		return END_SIGNALED;
	return exit_code == 0 ? END_COMPLETED : END_FAILED;
}

static void explain_end(const struct supervision *s, const char *oom_sentence, struct error *ret)
{
	_free_ char *status = process_describe_status(s->wait_status);
	_free_ char *after =
		s->ended_by != 0 ? text_format(", after SIG%s", sigabbrev_np(s->ended_by)) : NULL;

	error_set(ret, -ERR_COMMAND, "the command ended with %s%s%s%s%s", status,
		after != NULL ? after : "",
		s->killed ? " (the agent killed it, since it did not end in time)" : "",
		oom_sentence != NULL ? ": " : "", oom_sentence != NULL ? oom_sentence : "");
}

/* oom_sentence: as oom_sentence() returns it; may be NULL. */
static void fill_ending(const struct supervision *s, enum oom_verdict oom, const char *oom_sentence,
	struct run_ending *ret)
{
	ret->exit_code = process_status_code(s->wait_status);
	ret->signal = WIFSIGNALED(s->wait_status) ? WTERMSIG(s->wait_status) : 0;
	ret->reason = find_end_reason(s, oom, ret->exit_code);
	explain_end(s, oom_sentence, &ret->why);
}

static void describe_end(
	const struct supervision *s, const struct cgroup_memory *before, struct run_ending *ret)
{
	struct cgroup_memory after = cgroup_memory_read("");
	enum oom_verdict verdict =
		s->killed ? OOM_NONE : oom_classify(before, &after, s->wait_status);
	_free_ char *why = oom_sentence(verdict, &after);

	fill_ending(s, verdict, why, ret);
}

int supervise_command(
	struct supervision *s, const struct plan *p, struct run_ending *ret, struct error *err)
{
	struct cgroup_memory before = cgroup_memory_read("");
	uint64_t began_ns = now_ns();
	int code = start_command(s, p, &ret->exit_code, err);

	if (code < 0)
		return code;
	run_log_command(p, job_group(s->job));
	forward_early_signals(s);
	process_trim();
	agent_run_until(s->agent, &s->gone);
	if (s->gone && s->grace.running)
		run_await_orphans(s->agent, supervise_orphans_wait_ms(s), &s->may_kill_orphans);
	uv_timer_stop(&s->step_kill);
	uv_timer_stop(&s->budget);
	if (s->gone)
		job_free(take_ptr(&s->job));
	else
		abandon_command(s);
	watch_budget(s);
	describe_end(s, &before, ret);
	ret->elapsed_ns = now_ns() - began_ns;
	return 0;
}

/* After the command. */

void supervise_end_actions(struct supervision *s, struct plan *p)
{
	char period[32], why[96];

	if (plan_actions(p, POINT_EXPERIMENT_END)->n == 0)
		return;
	snprintf(why, sizeof(why), "the grace period of %s is over",
		units_print_duration(s->grace.period_ms * 1000000, period));
	agent_all_actions(s->agent, p->runfile, POINT_EXPERIMENT_END, &p->environment, why);
	agent_release_resources(s->agent);
}

uint64_t supervise_orphans_wait_ms(const struct supervision *s)
{
	uint64_t over = supervise_grace_over(&s->grace), now = now_ms(s);
	uint64_t half = over > now ? (over - now) / 2 : 0;

	return half < ORPHANS_WAIT_MS ? half : ORPHANS_WAIT_MS;
}
