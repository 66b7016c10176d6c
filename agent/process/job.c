/* SPDX-License-Identifier: MIT */
/* The command as our child: it gets the signals that come to us, the terminal that we are in the
 * foreground of, and when it has ended, what is left of its group is ended too. Loop thread. */
#include "job.h"
#include "defer.h"
#include "group.h"
#include "program.h"
#include "reap.h"
#include "spawn.h"
#include "terminal.h"
#include <stddef.h>
#include <uv.h>

enum {
	TICK_MS = 50,         /* how often the rest of the group is looked at */
	KILL_AFTER_MS = 1000, /* from SIGTERM to SIGKILL */
	LOST_AFTER_MS = 3000, /* what survives SIGKILL is stuck in the kernel */
};

enum job_state {
	JOB_RUNS,
	JOB_WAITS,      /* the command has ended; its group may end by itself */
	JOB_TERMINATES, /* the group got SIGTERM */
	JOB_KILLS,      /* the group got SIGKILL */
	JOB_GONE,
};

struct job {
	/* Set at creation. */
	struct job_options opts; /* but for argv and env */

	enum job_state state;
	struct reaped process; /* its pid is also its group's */
	struct terminal terminal;
	bool stopped, left;
	uint64_t entered_ms; /* this state */
	uv_timer_t tick;
};

void job_free(struct job *j)
{
	free(j);
}

/* The end of the group. */

static void job_enter(struct job *j, enum job_state to)
{
	j->state = to;
	j->entered_ms = uv_now(j->opts.loop);
}

static void on_tick_closed(uv_handle_t *h)
{
	struct job *j = h->data;

	if (j->state == JOB_RUNS)
		job_free(j); /* it never started */
	else
		j->opts.on_gone(j->opts.ctx, j->left);
}

static void job_close(struct job *j)
{
	terminal_close(&j->terminal);
	reap_forget(j->opts.loop, &j->process);
	uv_close((uv_handle_t *)&j->tick, on_tick_closed);
}

static void end_group(struct job *j, enum job_state to, int signal)
{
	j->left = true;
	group_signal(j->process.pid, signal);
	job_enter(j, to);
}

static void on_tick(uv_timer_t *h)
{
	struct job *j = h->data;
	uint64_t for_ms = uv_now(j->opts.loop) - j->entered_ms;

	if (group_is_gone(j->process.pid) || (j->state == JOB_KILLS && for_ms >= LOST_AFTER_MS)) {
		job_enter(j, JOB_GONE);
		job_close(j);
	} else if (j->state == JOB_WAITS && for_ms >= j->opts.group_wait_ms) {
		end_group(j, JOB_TERMINATES, SIGTERM);
	} else if (j->state == JOB_TERMINATES && for_ms >= KILL_AFTER_MS) {
		end_group(j, JOB_KILLS, SIGKILL);
	}
}

static void on_end(struct reaped *r, int wait_status)
{
	struct job *j = container_of(r, struct job, process);

	if (terminal_belongs_to(&j->terminal, j->process.pid))
		terminal_give(&j->terminal, 0);
	job_enter(j, JOB_WAITS);
	uv_timer_start(&j->tick, on_tick, 0, TICK_MS);
	j->opts.on_end(j->opts.ctx, wait_status);
}

void job_kill(struct job *j)
{
	if (j->state == JOB_GONE)
		return;
	group_signal(j->process.pid, SIGKILL);
	if (j->state != JOB_RUNS)
		end_group(j, JOB_KILLS, SIGKILL);
}

/* Job control. */

static void resume(struct job *j)
{
	if (terminal_belongs_to(&j->terminal, 0) && terminal_is_interactive())
		terminal_give(&j->terminal, j->process.pid);
	j->stopped = false;
	group_signal(j->process.pid, SIGCONT);
}

/* It stopped for wanting a terminal that is ours to give. */
static bool wants_the_terminal(const struct job *j, int signal)
{
	return (signal == SIGTTIN || signal == SIGTTOU) && terminal_belongs_to(&j->terminal, 0);
}

/* The shell that started us knows us, not the command: it sees a stopped job when we stop too. Where
 * nobody could continue us, a terminal's Ctrl-Z would be the end of the run: then it has no effect. */
static void on_stop(struct reaped *r, int signal)
{
	struct job *j = container_of(r, struct job, process);
	bool had_terminal = terminal_belongs_to(&j->terminal, j->process.pid);

	j->stopped = true;
	if (signal == SIGSTOP)
		return; /* by somebody who will continue it */
	if (wants_the_terminal(j, signal)) {
		terminal_give(&j->terminal, j->process.pid);
		j->stopped = false;
		group_signal(j->process.pid, SIGCONT);
		return;
	}
	if (had_terminal)
		terminal_give(&j->terminal, 0);
	if (!signals_stop_here(signal, had_terminal) && had_terminal)
		resume(j);
}

/* Signals. */

static void forward(const struct job *j, const struct signalfd_siginfo *info)
{
	pid_t pid = j->process.pid;
	int signal = (int)info->ssi_signo;

	if (j->opts.forward_group)
		kill(-pid, signal);
	else if (info->ssi_code == SI_QUEUE)
		sigqueue(
			pid, signal, (union sigval){.sival_ptr = (void *)(uintptr_t)info->ssi_ptr});
	else
		kill(pid, signal);
}

void job_signal(struct job *j, const struct signalfd_siginfo *info)
{
	if (j->state == JOB_GONE)
		return;
	if (j->state != JOB_RUNS)
		group_signal(j->process.pid, (int)info->ssi_signo);
	else if (info->ssi_signo == SIGCONT && j->stopped)
		resume(j);
	else
		forward(j, info);
}

/* The start. */

static bool takes_the_terminal(const struct job *j)
{
	return terminal_is_interactive() && terminal_belongs_to(&j->terminal, 0);
}

static int launch(
	struct job *j, const struct job_options *opts, int *ret_exit_code, struct error *err)
{
	int terminal_fd = takes_the_terminal(j) ? j->terminal.fd : -1;
	const struct spawn_options spawning = {.argv = opts->argv,
		.env = opts->env,
		.inherited = opts->inherited,
		.as_job = true,
		.terminal_fd = terminal_fd};
	int r = spawn(&spawning, &j->process.pid, ret_exit_code, err);

	if (r < 0 && terminal_fd >= 0)
		terminal_give(&j->terminal, 0);
	return r;
}

int job_start(
	const struct job_options *opts, struct job **ret, int *ret_exit_code, struct error *err)
{
	struct job *j = zalloc(sizeof(*j));
	int r;

	*ret_exit_code = EXIT_NOT_EXECUTABLE;
	j->opts = *opts;
	j->opts.argv = j->opts.env = NULL;
	j->process.on_end = on_end;
	j->process.on_stop = on_stop;
	r = reap_watch(opts->loop, &j->process, err);
	if (r < 0) {
		job_free(j);
		return r;
	}
	terminal_open(&j->terminal);
	uv_timer_init(opts->loop, &j->tick);
	j->tick.data = j;
	r = launch(j, opts, ret_exit_code, err);
	if (r < 0) {
		job_close(j);
		return r;
	}
	*ret = j;
	return 0;
}
