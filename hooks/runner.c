/* SPDX-License-Identifier: MIT */
/* Each item, and each retry, is started by the timer turn, so that runner_start() never calls
 * on_done itself. The timer is closed last, and its close callback calls on_done. Loop thread. */
#include "defer.h"
#include "hooks_private.h"
#include <signal.h>

enum { LONGEST_PAUSE_S = 60 };

/* The end of an item, and of the run. */

static void on_turn_closed(uv_handle_t *h)
{
	struct runner *r = h->data;

	r->env.on_done(r->env.on_done_ctx, r->err.code, &r->err);
}

static void finish(struct runner *r)
{
	r->finished = true;
	uv_close((uv_handle_t *)&r->turn, on_turn_closed);
}

static void finish_cancelled(struct runner *r)
{
	r->ops->set_cancelled(r);
	finish(r);
}

static void on_turn(uv_timer_t *h);

static void schedule_next_item(struct runner *r)
{
	r->at++;
	r->failures = r->retries = 0;
	r->started = r->skipped = false;
	r->err = (struct error){0};
	uv_timer_start(&r->turn, on_turn, 0, 0);
}

static void fail_item(struct runner *r)
{
	error_prefix(&r->err, "%s failed", r->label);
	error_item(&r->err, "%s", r->label);
	if (r->ops->explain != NULL)
		r->ops->explain(r);
	if (r->keep_going) {
		log_line(r->failure_level, "%s", r->err.msg);
		schedule_next_item(r);
	} else {
		finish(r);
	}
}

/* One item. */

static void schedule_retry(struct runner *r)
{
	unsigned pause_s = r->failures > 6 ? LONGEST_PAUSE_S : 1U << (r->failures - 1);

	if (pause_s > LONGEST_PAUSE_S)
		pause_s = LONGEST_PAUSE_S;
	log_warn("%s failed: %s; trying again in %u s (%u of %u)", r->label, r->err.msg, pause_s,
		r->failures, r->retries);
	uv_timer_start(&r->turn, on_turn, (uint64_t)pause_s * 1000, 0);
}

void runner_item_done(struct runner *r, int code, const struct error *err)
{
	r->running = false;
	if (r->cancelled && (code != 0 || r->cancel_wins)) {
		finish_cancelled(r);
	} else if (code == 0) {
		schedule_next_item(r);
	} else {
		r->err = *err;
		r->err.code = code;
		if (r->failures++ < r->retries && !r->skipped)
			schedule_retry(r);
		else
			fail_item(r);
	}
}

static void on_task_done(void *ctx, int code, const struct error *err)
{
	struct runner *r = ctx;

	task_free(take_ptr(&r->task));
	runner_item_done(r, code, err);
}

int runner_start_task(struct runner *r, char *const *argv, uint64_t timeout_ms, struct error *err)
{
	const struct task_options opts = {.loop = r->env.loop,
		.settings = r->env.settings,
		.inherited = r->env.inherited,
		.argv = argv,
		.environment = r->env.environment,
		.facts = r->env.facts,
		.recorder = r->env.recorder,
		.span_kind = r->span_kind,
		.attempt = r->failures + 1,
		.point = r->point,
		.timeout_ms = timeout_ms,
		.variables_optional = r->keep_going,
		.label = r->label,
		.prefix = r->prefix,
		.on_done = on_task_done,
		.ctx = r};

	return task_start(&opts, &r->task, err);
}

void runner_set_label(struct runner *r, char *label, const char *name)
{
	free(r->label);
	r->label = label;
	free(r->prefix);
	r->prefix = r->env.settings->prefix_output ? text_format("[%s %s] ", r->point, name) : NULL;
}

static void start_item(struct runner *r)
{
	struct error err = {0};
	int code;

	r->started = r->running = true;
	code = r->ops->start(r, &err);
	if (code < 0) {
		r->running = false;
		r->err = err;
		r->err.code = code;
		fail_item(r);
	}
}

static void on_turn(uv_timer_t *h)
{
	struct runner *r = h->data;

	if (r->cancelled && (r->at < r->n || r->cancel_wins))
		finish_cancelled(r);
	else if (r->at >= r->n)
		finish(r);
	else if (r->skipped)
		fail_item(r); /* it was skipped while it waited for a retry */
	else
		start_item(r);
}

void runner_start(struct runner *r)
{
	uv_timer_init(r->env.loop, &r->turn);
	r->turn.data = r;
	uv_timer_start(&r->turn, on_turn, 0, 0);
}

/* Ends the task that runs, or the pause before an item or a retry. Whoever runs an item that is
 * not a task ends it. */
static void cut_short(struct runner *r, bool hard)
{
	if (r->task != NULL)
		task_kill(r->task, hard ? SIGKILL : SIGTERM);
	else if (!r->running)
		uv_timer_start(&r->turn, on_turn, 0, 0);
}

void runner_cancel(struct runner *r, bool hard)
{
	if (r->finished)
		return;
	r->cancelled = true;
	cut_short(r, hard);
}

void runner_skip(struct runner *r, bool hard)
{
	if (r->finished || !r->started || (hard && !r->skipped))
		return;
	r->skipped = true;
	cut_short(r, hard);
}

size_t runner_reached(const struct runner *r, bool *ret_started)
{
	*ret_started = r->started;
	return r->at;
}

void runner_free(struct runner *r)
{
	if (r == NULL)
		return;
	free(r->label);
	free(r->prefix);
	r->ops->free(r);
}
