/* SPDX-License-Identifier: MIT */
/* The event loop and what is attached to it: signals, the time limit, and the steps that run it.
 * Two kinds of step are here as well: a blocking function on its own thread, and a pause. Loop
 * thread, except for that function. */
#include "agent.h"
#include "cache.h"
#include "cancel.h"
#include "command.h"
#include "defer.h"
#include "log.h"
#include "patience.h"
#include "report.h"
#include "thread.h"
#include "throttle.h"
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/* How long work may take to stop after a signal, and to end after it was killed. Together they stay
 * below the second that the documentation promises. */
enum { STOP_MS = 700, KILL_MS = 150 };

static const int ending_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
/* Launchers send these to warn the command. */
static const int warning_signals[] = {SIGUSR1, SIGUSR2};
static const int stopping_signals[] = {SIGTSTP, SIGTTIN, SIGTTOU};

static bool is_one_of(int signal, const int *signals, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (signals[i] == signal)
			return true;
	return false;
}

bool agent_signal_ends(int signal)
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

void agent_step_cancel(struct agent *a, bool hard)
{
	if (a->step.ops != NULL)
		a->step.ops->cancel(a->step.work, hard);
}

void agent_step_skip(struct agent *a, bool hard)
{
	if (a->step.ops != NULL && a->step.ops->skip != NULL)
		a->step.ops->skip(a->step.work, hard);
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
	agent_step_cancel(a, again);
}

/* The signal is also stored for the command. */
static void print_status(const struct agent *a)
{
	if (!monitor_print(a->monitor))
		log_info("SIGUSR2: no source is being staged now");
}

static void on_signal(void *ctx, const struct signalfd_siginfo *info)
{
	struct agent *a = ctx;
	int signum = (int)info->ssi_signo;

	uv_update_time(&a->loop);
	if (a->on_signal == NULL && signum == SIGUSR2)
		print_status(a);
	if (a->on_signal != NULL)
		a->on_signal(a->on_signal_ctx, info);
	else if (agent_signal_ends(signum))
		stop_work(a, signum);
	else if (is_one_of(signum, stopping_signals, ARRAY_LEN(stopping_signals)))
		signals_stop_here(signum, false);
	else if (signum != SIGCONT && a->n_early < EARLY_SIGNALS_MAX)
		a->early[a->n_early++] = *info;
}

/* Signals that were ignored when the agent was started (nohup) stay ignored. */
static int watch_signals(struct agent *a, struct error *err)
{
	sigset_t which;

	sigemptyset(&which);
	for (size_t i = 0; i < ARRAY_LEN(ending_signals); i++)
		if (a->inherited->actions[ending_signals[i]].sa_handler != SIG_IGN)
			sigaddset(&which, ending_signals[i]);
	for (size_t i = 0; i < ARRAY_LEN(warning_signals); i++)
		if (a->inherited->actions[warning_signals[i]].sa_handler != SIG_IGN)
			sigaddset(&which, warning_signals[i]);
	return signals_open(&a->loop, &which, on_signal, a, &a->signals, err);
}

int agent_open(
	struct agent *a, const struct settings *s, const struct inherited *in, struct error *err)
{
	char why[THREAD_WHY_SIZE];
	int code;

	*a = (struct agent){
		.settings = s, .inherited = in, .resources.network = agent_network_options(s)};
	code = uv_loop_init(&a->loop);
	if (code < 0)
		return error_set(err, code, "cannot start the event loop: %s",
			thread_explain_call(-code, "epoll_create1() or eventfd2()", why));
	a->opened = true;
	a->resources.network.throttle = throttle_new(s->network.max_rate);
	a->resources.network.patience = patience_new(s->network.patience_ms);
	uv_timer_init(&a->loop, &a->deadline);
	uv_unref((uv_handle_t *)&a->deadline);
	return watch_signals(a, err);
}

int agent_outlive(struct agent *a, struct error *err)
{
	sigset_t which;
	int code = process_orphans_adopt(&a->loop, err);

	if (code < 0)
		return code;
	a->outlives = true;
	prctl(PR_SET_NAME, "stagerun"); /* for `ps`: in a bundle it would be the loader's name */
	signals_dispatch(a->signals);
	signals_close(take_ptr(&a->signals));
	signals_forwardable(a->inherited, &which);
	return signals_open(&a->loop, &which, on_signal, a, &a->signals, err);
}

/* Whether nothing may be freed, because threads may still use it; see agent_leave(). */
static bool must_not_free(const struct agent *a)
{
	return a->out_of_time || a->abandoned;
}

/* Signals after signals_dispatch() stay blocked and pending until the command's dispositions are
 * set. */
void agent_close(struct agent *a)
{
	if (!a->opened || must_not_free(a))
		return;
	agent_release_resources(a);
	if (must_not_free(a))
		return;
	if (a->signals != NULL) {
		signals_dispatch(a->signals);
		signals_close(take_ptr(&a->signals));
	}
	if (!a->policy.cache_keeps)
		cache_close(take_ptr(&a->resources.cache));
	if (a->outlives)
		process_orphans_leave(&a->loop);
	monitor_close(take_ptr(&a->monitor));
	uv_close((uv_handle_t *)&a->deadline, NULL);
	uv_run(&a->loop, UV_RUN_DEFAULT);
	uv_loop_close(&a->loop);
	throttle_free(take_ptr(&a->resources.network.throttle));
	patience_free(take_ptr(&a->resources.network.patience));
}

int agent_leave(const struct agent *a, int exit_code)
{
	if (must_not_free(a)) {
		_exit(output_end(exit_code));
	}
	return exit_code;
}

struct outcome *agent_outcome_new(struct error *err)
{
	struct outcome *o = zalloc(sizeof(*o));

	o->err = err;
	return o;
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

/* The loop runs on for a moment, so that the killed action's $STAGERUN_ENV file, which may contain
 * secrets, is removed. */
static void kill_step(struct agent *a, struct outcome *o)
{
	agent_step_cancel(a, true);
	agent_limit(a, KILL_MS);
	agent_run_until(a, &o->done);
	if (o->done)
		return;
	a->abandoned = true;
	error_set(o->err, -ECANCELED, "stopped by a signal");
	o->err = NULL; /* the caller's err is gone when the step ends */
}

static int await_step(struct agent *a, struct outcome *o)
{
	if (a->cancelled)
		agent_step_cancel(a, false); /* the signal arrived between two steps */
	agent_run_until(a, &o->done);
	if (!o->done)
		kill_step(a, o);
	a->step = (struct agent_step){0};
	return o->done ? o->code : -ECANCELED;
}

int agent_step_run(
	struct agent *a, const struct step_ops *ops, void *work, struct outcome *o, int started)
{
	int code = started;

	if (started == 0 && work != NULL) {
		a->step = (struct agent_step){.ops = ops, .work = work};
		code = await_step(a, o);
		if (!o->done)
			return code; /* it was abandoned and still uses both */
	}
	if (ops->free != NULL)
		ops->free(work);
	free(o);
	return code;
}

struct monitor *agent_monitor(struct agent *a)
{
	const struct monitor_options opts = {.mode = a->settings->progress,
		.interval_ms = a->settings->progress_interval_ms,
		.fd = STDERR_FILENO,
		.on_tick = a->policy.on_progress,
		.on_tick_ctx = a->policy.on_progress_ctx};

	if (a->monitor == NULL)
		a->monitor = monitor_new(&a->loop, &opts);
	return a->monitor;
}

/* A blocking function on its own thread. */

struct agent_work {
	/* Set at creation. */
	agent_work_fn run;
	void *ctx;
	pthread_t thread;

	/* Any thread. */
	struct cancel cancel;
	uv_async_t ended;

	/* Written by the thread; read by the loop thread after it has ended. */
	int code;
	struct error err;

	/* Loop thread. */
	struct monitor *monitor;   /* NULL: no progress is displayed */
	struct progress *progress; /* what is displayed, or NULL */
	struct outcome *outcome;
};

static void *work_thread_main(void *arg)
{
	struct agent_work *w = arg;

	w->code = w->run(w->ctx, &w->cancel, &w->err);
	uv_async_send(&w->ended);
	return NULL;
}

static void on_ended_closed(uv_handle_t *h)
{
	struct agent_work *w = container_of((uv_async_t *)h, struct agent_work, ended);

	agent_step_done(w->outcome, w->code, &w->err);
}

static void on_ended(uv_async_t *async)
{
	struct agent_work *w = container_of(async, struct agent_work, ended);

	pthread_join(w->thread, NULL);
	monitor_remove(w->monitor, w->progress);
	uv_close((uv_handle_t *)async, on_ended_closed);
}

static void cancel_work(void *work, bool hard)
{
	(void)hard;
	cancel_request(&((struct agent_work *)work)->cancel);
}

static void show_progress(struct agent *a, struct agent_work *w, struct progress *progress)
{
	if (progress == NULL)
		return;
	progress_enter(progress, PROGRESS_ACTIVE);
	w->progress = progress;
	w->monitor = agent_monitor(a);
	monitor_add(w->monitor, progress);
}

static int start_work(struct agent *a, struct agent_work *w, struct error *err)
{
	int code = uv_async_init(&a->loop, &w->ended, on_ended);

	if (code < 0)
		return error_set(err, code, "cannot watch a thread: %s", uv_strerror(code));
	code = thread_start(&w->thread, work_thread_main, w, err);
	if (code == 0)
		return 0;
	uv_close((uv_handle_t *)&w->ended, NULL);
	uv_run(&a->loop, UV_RUN_NOWAIT);
	return code;
}

static void free_work(void *work)
{
	cancel_done(&((struct agent_work *)work)->cancel);
	free(work);
}

int agent_work(
	struct agent *a, agent_work_fn run, void *ctx, struct progress *progress, struct error *err)
{
	static const struct step_ops ops = {.cancel = cancel_work, .free = free_work};
	struct agent_work *w = zalloc(sizeof(*w));
	int code;

	w->run = run;
	w->ctx = ctx;
	w->outcome = agent_outcome_new(err);
	cancel_init(&w->cancel);
	code = start_work(a, w, err);
	if (code == 0)
		show_progress(a, w, progress);
	return agent_step_run(a, &ops, w, w->outcome, code);
}

/* A pause. */

struct pause {
	uv_timer_t timer;
	struct outcome *outcome;
};

static void on_pause_closed(uv_handle_t *h)
{
	struct pause *p = container_of((uv_timer_t *)h, struct pause, timer);

	agent_step_done(p->outcome, 0, NULL);
}

static void on_pause_over(uv_timer_t *timer)
{
	if (!uv_is_closing((uv_handle_t *)timer))
		uv_close((uv_handle_t *)timer, on_pause_closed);
}

static void cancel_pause(void *pause, bool hard)
{
	(void)hard;
	on_pause_over(&((struct pause *)pause)->timer);
}

void agent_pause(struct agent *a, uint64_t ms)
{
	static const struct step_ops ops = {.cancel = cancel_pause, .free = free};
	struct pause *p = zalloc(sizeof(*p));

	p->outcome = agent_outcome_new(NULL);
	uv_timer_init(&a->loop, &p->timer);
	uv_update_time(&a->loop);
	uv_timer_start(&p->timer, on_pause_over, ms, 0);
	(void)agent_step_run(a, &ops, p, p->outcome, 0);
}
