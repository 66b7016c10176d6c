/* SPDX-License-Identifier: MIT */
/* The loop and what hangs on it: signals, the budget, the transfer engine. */
#include "agent.h"
#include "defer.h"
#include "log.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* After a signal, work has this long to stop; whoever waits for us was promised one second. */
enum { STOP_MS = 700, KILL_MS = 150 };

static const int ending_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};

static void on_deadline(uv_timer_t *timer)
{
	struct agent *a = container_of(timer, struct agent, deadline);

	a->out_of_time = true;
}

static void on_signal(uv_signal_t *handle, int signum)
{
	struct agent *a = handle->data;
	bool again = a->signal != 0;

	if (!again) {
		a->signal = signum;
		log_info("SIG%s: stopping", sigabbrev_np(signum));
		uv_timer_start(&a->deadline, on_deadline, STOP_MS, 0);
	}
	if (a->cancel != NULL)
		a->cancel(a->work, again);
}

/* Signals that were ignored when we were started (nohup) stay ignored. */
static int watch_signals(struct agent *a)
{
	int code = 0;

	for (size_t i = 0; i < ARRAY_LEN(ending_signals); i++) {
		uv_signal_t *handle = &a->signals[i];
		int signum = ending_signals[i];

		uv_signal_init(&a->loop, handle);
		handle->data = a;
		if (a->inherited->actions[signum].sa_handler != SIG_IGN && code == 0)
			code = uv_signal_start(handle, on_signal, signum);
		uv_unref((uv_handle_t *)handle);
	}
	return code;
}

int agent_open(
	struct agent *a, const struct settings *s, const struct inherited *in, struct error *err)
{
	int code;

	*a = (struct agent){.settings = s, .inherited = in};
	code = uv_loop_init(&a->loop);
	if (code < 0)
		return error_set(err, code, "cannot start the event loop: %s", uv_strerror(code));
	a->opened = true;
	uv_timer_init(&a->loop, &a->deadline);
	uv_unref((uv_handle_t *)&a->deadline);
	code = watch_signals(a);
	if (code < 0)
		error_set(err, code, "cannot watch for signals: %s", uv_strerror(code));
	a->budget = budget_new(s->memory_budget);
	return code;
}

static void on_transfer_closed(void *closed)
{
	*(bool *)closed = true;
}

/* Takes notice of signals that came while nobody ran the loop: a handle that is closed forgets them.
 * Those that come later wait, blocked, for the dispositions that the command gets. */
static void hear_last_signals(struct agent *a)
{
	sigset_t ending;

	sigemptyset(&ending);
	for (size_t i = 0; i < ARRAY_LEN(ending_signals); i++)
		sigaddset(&ending, ending_signals[i]);
	pthread_sigmask(SIG_BLOCK, &ending, NULL);
	/* A loop of nothing but handles without a reference does not look. */
	for (size_t i = 0; i < ARRAY_LEN(a->signals); i++)
		uv_ref((uv_handle_t *)&a->signals[i]);
	uv_run(&a->loop, UV_RUN_NOWAIT);
}

void agent_close(struct agent *a)
{
	bool closed = a->transfer == NULL;

	if (!a->opened || a->out_of_time)
		return; /* threads may still use what would be freed: agent_signal_code() */
	if (!closed)
		transfer_close(a->transfer, on_transfer_closed, &closed);
	while (!closed && !a->out_of_time)
		uv_run(&a->loop, UV_RUN_ONCE);
	if (!closed)
		return;
	hear_last_signals(a);
	for (size_t i = 0; i < ARRAY_LEN(a->signals); i++)
		uv_close((uv_handle_t *)&a->signals[i], NULL);
	uv_close((uv_handle_t *)&a->deadline, NULL);
	uv_run(&a->loop, UV_RUN_DEFAULT);
	uv_loop_close(&a->loop);
	budget_free(a->budget);
}

int agent_signal_code(const struct agent *a)
{
	if (a->out_of_time) {
		fflush(stdout);
		_exit(128 + a->signal);
	}
	return 128 + a->signal;
}

int agent_need_transfer(struct agent *a, struct error *err)
{
	if (a->transfer != NULL)
		return 0;
	return transfer_new(
		&a->loop, &a->settings->network, budget_network_half(a->budget), &a->transfer, err);
}

/* The outcome of one step. */
struct outcome {
	bool done;
	int code;
	struct error *err;
};

static void on_step_done(void *ctx, int code, const struct error *err)
{
	struct outcome *o = ctx;

	o->done = true;
	o->code = code;
	if (code < 0 && o->err != NULL)
		*o->err = *err;
}

/* Runs the loop until the step is done, or a signal's deadline has passed. */
static int await(struct agent *a, struct outcome *o)
{
	if (a->signal != 0)
		a->cancel(a->work, false); /* the signal came between two steps */
	while (!o->done && !a->out_of_time)
		uv_run(&a->loop, UV_RUN_ONCE);
	a->cancel = NULL;
	if (!o->done)
		return error_set(o->err, -ECANCELED, "stopped by a signal");
	return o->code;
}

static unsigned threads(const struct settings *s)
{
	cpu_set_t cpus;

	if (s->threads > 0)
		return s->threads;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		return (unsigned)CPU_COUNT(&cpus);
	return 1;
}

/* on_done and its ctx are the caller's to fill in. */
static void fill_stage_env(struct agent *a, struct stage_env *env)
{
	const struct settings *s = a->settings;

	*env = (struct stage_env){.loop = &a->loop,
		.transfer = a->transfer,
		.budget = a->budget,
		.tree = {.limits = s->limits,
			.same_owner = s->same_owner,
			.uid = s->owner_uid,
			.gid = s->owner_gid},
		.threads = threads(s),
		.parallel = s->parallel_stages,
		.show_progress = s->progress && s->log_format == LOG_TEXT};
}

static void cancel_stages(void *set, bool hard)
{
	(void)hard;
	stage_set_cancel(set);
}

int agent_stage(struct agent *a, const struct stage_spec *specs, size_t n, struct error *err)
{
	struct outcome outcome = {.err = err};
	struct stage_env env;
	struct stage_set *set = NULL;
	int code = agent_need_transfer(a, err);

	fill_stage_env(a, &env);
	env.log_failures = true;
	env.on_done = on_step_done;
	env.on_done_ctx = &outcome;
	if (code == 0)
		code = stage_set_start(&env, specs, n, &set, err);
	if (code < 0) {
		log_error("%s", err->msg);
		return code;
	}
	a->cancel = cancel_stages;
	a->work = set;
	code = await(a, &outcome);
	if (outcome.done)
		stage_set_free(set);
	return code;
}

/* A stage item between shell actions: its set lives as long as the item. */
struct stage_item {
	struct agent *agent;
	const struct runfile *runfile;
	struct stage_set *set;
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *ctx;
};

static void on_item_staged(void *ctx, int code, const struct error *err)
{
	struct stage_item *item = ctx;
	struct error why = *err; /* the set's own, and goes with it */

	stage_set_free(take_ptr(&item->set));
	item->on_done(item->ctx, code, &why);
}

static int stage_item(void *ctx, struct stage_spec *spec,
	void (*on_done)(void *ctx, int code, const struct error *err), void *done_ctx,
	struct error *err)
{
	struct stage_item *item = ctx;
	struct stage_env env;
	int code = agent_need_transfer(item->agent, err);

	if (code < 0)
		return code;
	fill_stage_env(item->agent, &env);
	runfile_limit_stage(item->runfile, spec);
	item->on_done = on_done;
	item->ctx = done_ctx;
	env.on_done = on_item_staged;
	env.on_done_ctx = item;
	return stage_set_start(&env, spec, 1, &item->set, err);
}

struct action_step {
	struct stage_item item;
	struct action_run *run;
};

static void cancel_actions(void *work, bool hard)
{
	struct action_step *step = work;

	if (step->item.set != NULL)
		stage_set_cancel(step->item.set);
	actions_cancel(step->run, hard);
}

/* What ignored the signal is killed, and has a last moment to be cleaned up after: the file behind
 * $STAGERUN_ENV may hold secrets. */
static void kill_actions(struct agent *a, struct action_step *step, const struct outcome *outcome)
{
	actions_cancel(step->run, true);
	a->out_of_time = false;
	uv_timer_start(&a->deadline, on_deadline, KILL_MS, 0);
	while (!outcome->done && !a->out_of_time)
		uv_run(&a->loop, UV_RUN_ONCE);
	a->out_of_time = !outcome->done;
}

int agent_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	size_t first, struct strings *environment, struct error *err)
{
	struct action_step step = {.item = {.agent = a, .runfile = f}};
	struct outcome outcome = {.err = err};
	const struct action_env env = {.loop = &a->loop,
		.settings = a->settings,
		.inherited = a->inherited,
		.facts = &a->facts,
		.config_path = f->path,
		.stage = stage_item,
		.stage_ctx = &step.item,
		.environment = environment,
		.on_done = on_step_done,
		.on_done_ctx = &outcome};
	int code = actions_start(&env, point, &f->actions[point], first, &step.run, err);

	if (code < 0)
		return code;
	a->cancel = cancel_actions;
	a->work = &step;
	code = await(a, &outcome);
	if (a->out_of_time)
		kill_actions(a, &step, &outcome);
	if (outcome.done)
		actions_free(step.run);
	return code;
}
