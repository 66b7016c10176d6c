/* SPDX-License-Identifier: MIT */
/* The loop and what hangs on it: signals, the budget, the transfer engine. */
#include "agent.h"
#include "cache.h"
#include "defer.h"
#include "log.h"
#include "throttle.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/* After a signal, work has this long to stop, and to end once it was killed; whoever waits for us was promised
 * one second. */
enum { STOP_MS = 700, KILL_MS = 150 };

static const int ending_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
static const int stopping_signals[] = {SIGTSTP, SIGTTIN, SIGTTOU};

static bool is_one_of(int signal, const int *signals, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (signals[i] == signal)
			return true;
	return false;
}

bool signal_asks_to_end(int signal)
{
	return is_one_of(signal, ending_signals, ARRAY_LEN(ending_signals));
}

static void on_deadline(uv_timer_t *timer)
{
	struct agent *a = container_of(timer, struct agent, deadline);

	a->out_of_time = true;
}

void agent_limit(struct agent *a, uint64_t ms)
{
	a->out_of_time = false;
	uv_timer_start(&a->deadline, on_deadline, ms, 0);
}

static void stop_work(struct agent *a, int signum)
{
	bool again = a->signal != 0;

	if (again && uv_now(&a->loop) - a->signal_ms < SAME_SIGNAL_MS)
		return;
	if (!again) {
		a->signal = signum;
		a->signal_ms = uv_now(&a->loop);
		a->cancelled = true;
		log_info("SIG%s: stopping", sigabbrev_np(signum));
		agent_limit(a, STOP_MS);
	}
	if (a->cancel != NULL)
		a->cancel(a->work, again);
}

static void on_signal(void *ctx, const struct signalfd_siginfo *info)
{
	struct agent *a = ctx;
	int signum = (int)info->ssi_signo;

	uv_update_time(&a->loop);
	if (a->on_signal != NULL)
		a->on_signal(a->on_signal_ctx, info);
	else if (signal_asks_to_end(signum))
		stop_work(a, signum);
	else if (is_one_of(signum, stopping_signals, ARRAY_LEN(stopping_signals)))
		signals_stop_here(signum, false);
	else if (signum != SIGCONT && a->n_kept < KEPT_SIGNALS)
		a->kept[a->n_kept++] = *info;
}

/* Signals that were ignored when we were started (nohup) stay ignored. */
static int watch_signals(struct agent *a, struct error *err)
{
	sigset_t which;

	sigemptyset(&which);
	for (size_t i = 0; i < ARRAY_LEN(ending_signals); i++)
		if (a->inherited->actions[ending_signals[i]].sa_handler != SIG_IGN)
			sigaddset(&which, ending_signals[i]);
	return signals_open(&a->loop, &which, on_signal, a, &a->signals, err);
}

int agent_open(
	struct agent *a, const struct settings *s, const struct inherited *in, struct error *err)
{
	int code;

	*a = (struct agent){.settings = s, .inherited = in, .network = s->network};
	code = uv_loop_init(&a->loop);
	if (code < 0)
		return error_set(err, code, "cannot start the event loop: %s", uv_strerror(code));
	a->opened = true;
	a->network.throttle = throttle_new(s->max_rate);
	uv_timer_init(&a->loop, &a->deadline);
	uv_unref((uv_handle_t *)&a->deadline);
	return watch_signals(a, err);
}

int agent_outlive(struct agent *a, struct error *err)
{
	sigset_t which;
	int code = orphans_adopt(&a->loop, err);

	if (code < 0)
		return code;
	a->outlives = true;
	prctl(PR_SET_NAME, "stagerun"); /* as `ps` shows it: in a bundle it is the loader's name */
	signals_hear(a->signals);
	signals_close(take_ptr(&a->signals));
	signals_forwardable(a->inherited, &which);
	return signals_open(&a->loop, &which, on_signal, a, &a->signals, err);
}

static void on_transfer_closed(void *ctx)
{
	struct agent *a = ctx;

	a->transfer_closed = true;
}

void agent_rest(struct agent *a)
{
	if (a->abandoned)
		return;
	a->transfer_closed = a->transfer == NULL;
	if (!a->transfer_closed)
		transfer_close(a->transfer, on_transfer_closed, a);
	agent_run_until(a, &a->transfer_closed);
	a->abandoned = !a->transfer_closed;
	if (a->abandoned)
		return;
	a->transfer = NULL;
	agent_drop_store(a);
	budget_free(take_ptr(&a->budget));
}

/* Threads may still use what would be freed: agent_leave(). */
static bool leaves_at_once(const struct agent *a)
{
	return a->out_of_time || a->abandoned;
}

/* What comes after signals_hear() waits, blocked, for the dispositions that the command gets. */
void agent_close(struct agent *a)
{
	if (!a->opened || leaves_at_once(a))
		return;
	agent_rest(a);
	if (leaves_at_once(a))
		return;
	if (a->signals != NULL) {
		signals_hear(a->signals);
		signals_close(take_ptr(&a->signals));
	}
	if (!a->cache_keeps)
		cache_close(take_ptr(&a->cache));
	if (a->outlives)
		orphans_leave(&a->loop);
	uv_close((uv_handle_t *)&a->deadline, NULL);
	uv_run(&a->loop, UV_RUN_DEFAULT);
	uv_loop_close(&a->loop);
	throttle_free(take_ptr(&a->network.throttle));
}

int agent_leave(const struct agent *a, int exit_code)
{
	if (leaves_at_once(a)) {
		fflush(stdout);
		_exit(exit_code);
	}
	return exit_code;
}

int agent_need_transfer(struct agent *a, struct error *err)
{
	if (a->budget == NULL)
		a->budget = budget_new(a->settings->memory_budget);
	if (a->transfer != NULL)
		return 0;
	return transfer_new(
		&a->loop, &a->network, budget_network_half(a->budget), &a->transfer, err);
}

struct outcome *outcome_new(struct error *err)
{
	struct outcome *o = zalloc(sizeof(*o));

	o->err = err;
	return o;
}

bool outcome_free(struct outcome *o)
{
	bool done = o->done;

	if (done)
		free(o);
	return done;
}

void agent_step_done(void *ctx, int code, const struct error *err)
{
	struct outcome *o = ctx;

	o->done = true;
	o->code = code;
	if (code < 0 && o->err != NULL)
		*o->err = *err;
}

void agent_run_until(struct agent *a, const bool *done)
{
	while (!*done && !a->out_of_time)
		uv_run(&a->loop, UV_RUN_ONCE);
}

/* A file behind $STAGERUN_ENV, which may hold secrets, goes with the action that is killed. */
static void kill_step(struct agent *a, struct outcome *o)
{
	a->cancel(a->work, true);
	agent_limit(a, KILL_MS);
	agent_run_until(a, &o->done);
	if (o->done)
		return;
	a->abandoned = true;
	error_set(o->err, -ECANCELED, "stopped by a signal");
	o->err = NULL; /* whoever waits for it here is gone by then */
}

int agent_await(struct agent *a, struct outcome *o)
{
	if (a->cancelled)
		a->cancel(a->work, false); /* it came between two steps */
	agent_run_until(a, &o->done);
	if (!o->done)
		kill_step(a, o);
	a->cancel = a->skip = NULL;
	return o->done ? o->code : -ECANCELED;
}
