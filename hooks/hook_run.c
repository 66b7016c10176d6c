/* SPDX-License-Identifier: MIT */
/* Runs the operators' hooks of one point, one after another. Loop thread. Each hook is started by
 * the timer turn, so that hooks_start() never calls on_done itself. The timer is closed last, and
 * its close callback calls on_done. */
#include "defer.h"
#include "hooks.h"
#include "hooks_private.h"
#include "log.h"
#include <stddef.h>
#include <uv.h>

struct hook_run {
	/* Set at creation. */
	struct hook_env env;
	enum hook_point point;
	const struct hook_list *list;
	bool failure_fails; /* a failed hook fails the run; false: it is only logged */

	size_t at;    /* index of the running hook, or of the next one */
	char *label;  /* "on_stage_start hook /etc/stagerun/hooks/on_stage_start/10-mount" */
	char *prefix; /* "[on_stage_start 10-mount] " or NULL */
	bool skipped; /* hooks_skip() was called for the running hook */
	bool cancelled, finished;
	struct task *task; /* not NULL while a hook runs */
	uv_timer_t turn;   /* starts the next hook */
	struct error err;
};

/* The operator chooses the policy of the points before the command. The hooks of the other points
 * cannot change the result of the run. */
static enum hook_policy policy_of_point(const struct settings *s, enum hook_point point)
{
	switch (point) {
	case HOOK_STAGE_START:
		return s->on_stage_start;
	case HOOK_STAGE_END:
		return s->on_stage_end;
	case HOOK_EXPERIMENT_START:
		return s->on_experiment_start;
	default:
		return HOOK_WARNS;
	}
}

/* The end of a hook, and of the run. */

static void on_turn_closed(uv_handle_t *h)
{
	struct hook_run *run = h->data;

	run->env.on_done(run->env.on_done_ctx, run->err.code, &run->err);
}

static void finish(struct hook_run *run)
{
	run->finished = true;
	uv_close((uv_handle_t *)&run->turn, on_turn_closed);
}

/* The message names the hooks that did not run. */
static void finish_cancelled(struct hook_run *run, bool started)
{
	const char *point = hook_point_name(run->point);
	size_t n_left = run->list->n - run->at;

	error_set(&run->err, -ECANCELED, "%s hook %s was %s%s", point, run->list->v[run->at].path,
		started ? "ended before it was done" : "not run",
		n_left > 1 ? ", nor were those after it run" : "");
	finish(run);
}

static void on_turn(uv_timer_t *h);

static void schedule_next_hook(struct hook_run *run)
{
	run->at++;
	run->skipped = false;
	uv_timer_start(&run->turn, on_turn, 0, 0);
}

static void handle_failure(struct hook_run *run, const struct error *why)
{
	if (!run->failure_fails) {
		log_warn("%s failed: %s", run->label, why->msg);
		schedule_next_hook(run);
		return;
	}
	run->err = *why;
	error_item(&run->err, "%s", run->label);
	error_prefix(&run->err, "%s failed", run->label);
	finish(run);
}

static void on_hook_done(void *ctx, int code, const struct error *err)
{
	struct hook_run *run = ctx;

	task_free(take_ptr(&run->task));
	if (code == 0)
		schedule_next_hook(run);
	else if (run->cancelled)
		finish_cancelled(run, true);
	else
		handle_failure(run, err);
}

static void set_label(struct hook_run *run, const struct hook *hook)
{
	const char *point = hook_point_name(run->point);

	free(run->label);
	run->label = text_format("%s hook %s", point, hook->path);
	free(run->prefix);
	run->prefix = run->env.settings->prefix_output ? text_format("[%s %s] ", point, hook->name)
						       : NULL;
}

static void start_hook(struct hook_run *run)
{
	const struct hook *hook = &run->list->v[run->at];
	struct error err = {0};
	struct task_options opts = {.loop = run->env.loop,
		.settings = run->env.settings,
		.inherited = run->env.inherited,
		.argv = (char *[]){hook->path, NULL},
		.environment = run->env.environment,
		.facts = run->env.facts,
		.recorder = run->env.recorder,
		.span_kind = SPAN_HOOK,
		.attempt = 1,
		.point = hook_point_name(run->point),
		.timeout_ms = run->env.settings->hook_timeout_ms,
		.variables_optional = !run->failure_fails,
		.on_done = on_hook_done,
		.ctx = run};

	set_label(run, hook);
	opts.label = run->label;
	opts.prefix = run->prefix;
	log_info("%s", run->label);
	if (task_start(&opts, &run->task, &err) < 0)
		handle_failure(run, &err);
}

static void on_turn(uv_timer_t *h)
{
	struct hook_run *run = h->data;

	if (run->at >= run->list->n)
		finish(run);
	else if (run->cancelled)
		finish_cancelled(run, false);
	else
		start_hook(run);
}

int hooks_start(const struct hook_env *env, const struct hooks *hooks, enum hook_point point,
	struct hook_run **ret, struct error *err)
{
	struct hook_run *run = zalloc(sizeof(*run));
	int r = uv_timer_init(env->loop, &run->turn);

	if (r < 0) {
		free(run);
		return error_set(
			err, r, "run %s hooks: %s", hook_point_name(point), uv_strerror(r));
	}
	run->env = *env;
	run->point = point;
	run->list = &hooks->at[point];
	run->failure_fails = policy_of_point(env->settings, point) == HOOK_FAILS;
	run->turn.data = run;
	uv_timer_start(&run->turn, on_turn, 0, 0);
	*ret = run;
	return 0;
}

void hooks_cancel(struct hook_run *run, bool hard)
{
	if (run->finished)
		return;
	run->cancelled = true;
	if (run->task != NULL)
		task_kill(run->task, hard ? SIGKILL : SIGTERM);
	else
		uv_timer_start(&run->turn, on_turn, 0, 0);
}

void hooks_skip(struct hook_run *run, bool hard)
{
	if (run->task == NULL || (hard && !run->skipped))
		return;
	run->skipped = true;
	task_kill(run->task, hard ? SIGKILL : SIGTERM);
}

void hook_run_free(struct hook_run *run)
{
	if (run == NULL)
		return;
	free(run->label);
	free(run->prefix);
	free(run);
}
