/* SPDX-License-Identifier: MIT */
/* The items of one lifecycle point, one after another. Loop thread. Each step starts from the timer,
 * so that nothing is ever called from inside actions_start(), and the last thing to close is the timer,
 * whose end is the end of the run. */
#include "actions.h"
#include "defer.h"
#include "log.h"
#include "redact.h"
#include "task.h"
#include <stddef.h>
#include <string.h>
#include <uv.h>

enum { LONGEST_PAUSE_S = 60, SHOWN_SCRIPT_BYTES = 72 };

struct action_run {
	/* Set at creation. */
	struct action_env env;
	enum lifecycle_point point;
	const struct actions *actions;

	size_t at;         /* the item under way, or next */
	unsigned failures; /* of this item */
	char *who;         /* "on_experiment_start action 2 (config.yml:14)" */
	char *prefix;      /* "[on_experiment_start 2] " or NULL */
	bool begun;        /* it started, if only a first try */
	bool skipped;      /* it has no further try */
	bool cancelled, finished;
	struct task *task; /* while a script runs */
	bool staging;      /* while a stage runs, of spec */
	struct stage_spec spec;
	uv_timer_t turn; /* starts the next item, or the next try */
	struct error err;
};

static const struct action *current(const struct action_run *run)
{
	return &run->actions->v[run->at];
}

/* The first line that is not blank, shortened, for people to recognise. Half of a secret would not be
 * known for one, so they are hidden before. */
static char *first_line(const char *script)
{
	_free_ char *safe = redact_own(copy_text(script));
	const char *s = safe + strspn(safe, " \t\r\n");
	size_t len = strcspn(s, "\r\n"), shown = len;

	if (len > SHOWN_SCRIPT_BYTES)
		for (shown = SHOWN_SCRIPT_BYTES; shown > 0 && (s[shown] & 0xc0) == 0x80; shown--)
			; /* not in the middle of a character */
	return format_text("%.*s%s", (int)shown, s,
		s[shown + strspn(s + shown, " \t\r\n")] != '\0' ? " ..." : "");
}

/* The end. */

static void on_turn_closed(uv_handle_t *h)
{
	struct action_run *run = h->data;

	run->env.on_done(run->env.on_done_ctx, run->err.code, &run->err);
}

static void finish(struct action_run *run)
{
	run->finished = true;
	uv_close((uv_handle_t *)&run->turn, on_turn_closed);
}

static void on_turn(uv_timer_t *h);

static void next_item(struct action_run *run)
{
	run->at++;
	run->failures = 0;
	run->begun = run->skipped = false;
	uv_timer_start(&run->turn, on_turn, 0, 0);
}

static void fail(struct action_run *run, int code, const struct error *why)
{
	run->err = *why;
	run->err.code = code;
	error_prefix(&run->err, "%s failed", run->who);
	error_item(&run->err, "%s", run->who);
	if (current(run)->kind == ACTION_RUN) {
		_free_ char *ran = first_line(current(run)->script);
		size_t used = strlen(run->err.msg);

		snprintf(run->err.msg + used, sizeof(run->err.msg) - used, "; it ran: %s", ran);
	}
	if (run->env.keep_going) {
		log_error("%s", run->err.msg);
		run->err = (struct error){0};
		next_item(run);
	} else {
		finish(run);
	}
}

static void finish_cancelled(struct action_run *run)
{
	error_set(&run->err, -ECANCELED, "%s was cancelled", lifecycle_point_name(run->point));
	finish(run);
}

/* One item. */

static void retry(struct action_run *run, const struct error *why)
{
	unsigned pause_s = run->failures > 6 ? LONGEST_PAUSE_S : 1U << (run->failures - 1);

	if (pause_s > LONGEST_PAUSE_S)
		pause_s = LONGEST_PAUSE_S;
	log_warn("%s failed: %s; trying again in %u s (%u of %u)", run->who, why->msg, pause_s,
		run->failures, current(run)->retries);
	uv_timer_start(&run->turn, on_turn, (uint64_t)pause_s * 1000, 0);
}

static void on_item_done(void *ctx, int code, const struct error *err)
{
	struct action_run *run = ctx;

	task_free(take_ptr(&run->task));
	run->staging = false;
	stage_spec_done(&run->spec);
	run->spec = (struct stage_spec){0};
	if (run->cancelled) {
		finish_cancelled(run);
	} else if (code == 0) {
		next_item(run);
	} else if (run->failures++ < current(run)->retries && !run->skipped) {
		retry(run, err);
	} else {
		fail(run, code, err);
	}
}

static char *choose_shell(const struct action_run *run)
{
	const char *chosen = run->env.settings->shell;
	_free_ char *bash = NULL;

	if (chosen != NULL && *chosen != '\0')
		return copy_text(chosen);
	bash = process_find("bash", run->env.environment->v);
	return copy_text(bash != NULL ? "bash" : "/bin/sh");
}

static int start_script(struct action_run *run, const struct action *a, struct error *err)
{
	_free_ char *line = first_line(a->script);
	_free_ char *shell = choose_shell(run);
	char *argv[] = {shell, "-e", "-c", a->script, NULL};
	struct task_options opts = {.loop = run->env.loop,
		.settings = run->env.settings,
		.inherited = run->env.inherited,
		.argv = argv,
		.environment = run->env.environment,
		.facts = run->env.facts,
		.point = lifecycle_point_name(run->point),
		.timeout_ms =
			a->timeout_ms != 0 ? a->timeout_ms : run->env.settings->action_timeout_ms,
		.who = run->who,
		.prefix = run->prefix,
		.on_done = on_item_done,
		.ctx = run};

	log_info("%s: %s", run->who, line);
	return task_start(&opts, &run->task, err);
}

static const char *look_up(void *ctx, const char *name)
{
	return environment_get(ctx, name);
}

static int start_stage(struct action_run *run, const struct action *a, struct error *err)
{
	int r = runfile_stage(a, look_up, run->env.environment, &run->spec, err);

	if (r < 0)
		return r;
	run->staging = true;
	return run->env.stage(run->env.stage_ctx, &run->spec, on_item_done, run, err);
}

static int (*const starters[])(struct action_run *, const struct action *, struct error *) = {
	[ACTION_RUN] = start_script,
	[ACTION_STAGE] = start_stage,
};

static void name_item(struct action_run *run)
{
	const char *point = lifecycle_point_name(run->point);

	free(run->who);
	run->who = format_text("%s action %u (%s:%u)", point, current(run)->number,
		run->env.config_path, current(run)->line);
	free(run->prefix);
	run->prefix = run->env.settings->prefix_output
			      ? format_text("[%s %u] ", point, current(run)->number)
			      : NULL;
}

static void start_item(struct action_run *run)
{
	struct error err = {0};
	int r;

	name_item(run);
	run->begun = true;
	r = starters[current(run)->kind](run, current(run), &err);
	if (r < 0) {
		run->staging = false;
		fail(run, r, &err);
	}
}

static void on_turn(uv_timer_t *h)
{
	struct action_run *run = h->data;

	if (run->cancelled) {
		finish_cancelled(run);
	} else if (run->skipped) {
		next_item(run); /* it was waiting for another try */
	} else if (run->at >= run->actions->n) {
		finish(run);
	} else {
		start_item(run);
	}
}

/* The whole. */

int actions_start(const struct action_env *env, enum lifecycle_point point,
	const struct actions *actions, size_t first, struct action_run **ret, struct error *err)
{
	struct action_run *run = zalloc(sizeof(*run));
	int r = uv_timer_init(env->loop, &run->turn);

	if (r < 0) {
		free(run);
		return error_set(err, r, "run %s: %s", lifecycle_point_name(point), uv_strerror(r));
	}
	run->env = *env;
	run->point = point;
	run->actions = actions;
	run->at = first;
	run->turn.data = run;
	uv_timer_start(&run->turn, on_turn, 0, 0);
	*ret = run;
	return 0;
}

void actions_cancel(struct action_run *run, bool hard)
{
	if (run->finished)
		return;
	run->cancelled = true;
	if (run->task != NULL)
		task_kill(run->task, hard ? SIGKILL : SIGTERM);
	else if (!run->staging)
		uv_timer_start(&run->turn, on_turn, 0, 0);
}

void actions_skip(struct action_run *run, bool hard)
{
	if (run->finished || !run->begun || (hard && !run->skipped))
		return;
	run->skipped = true;
	if (run->task != NULL)
		task_kill(run->task, hard ? SIGKILL : SIGTERM);
	else if (!run->staging)
		uv_timer_start(&run->turn, on_turn, 0, 0);
}

size_t actions_reached(const struct action_run *run, bool *ret_begun)
{
	*ret_begun = run->begun;
	return run->at;
}

void actions_free(struct action_run *run)
{
	if (run == NULL)
		return;
	stage_spec_done(&run->spec);
	free(run->who);
	free(run->prefix);
	free(run);
}
