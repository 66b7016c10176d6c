/* SPDX-License-Identifier: MIT */
/* Runs the items of one lifecycle point, one after another. Loop thread. Each item and each retry
 * is started by the timer turn, so that actions_start() never calls on_done itself. The timer is
 * closed last, and its close callback calls on_done. */
#include "actions.h"
#include "defer.h"
#include "hooks_private.h"
#include "log.h"
#include "redact.h"
#include <stddef.h>
#include <string.h>
#include <uv.h>

enum { LONGEST_PAUSE_S = 60, SHOWN_SCRIPT_BYTES = 72 };

struct action_run {
	/* Set at creation. */
	struct action_env env;
	enum lifecycle_point point;
	const struct actions *actions;

	size_t at;         /* index of the running item, or of the next one */
	unsigned failures; /* failed attempts of this item */
	char *label;       /* "on_experiment_start action 2 (config.yml:14)" */
	char *prefix;      /* "[on_experiment_start 2] " or NULL */
	bool started;      /* the first attempt of this item was started */
	bool skipped;      /* this item gets no further attempt */
	bool cancelled, finished;
	struct task *task; /* not NULL while a script runs */
	bool staging;      /* env.stage() was called with spec, and is not done */
	struct stage_spec spec;
	uv_timer_t turn; /* starts the next item, or the next attempt */
	struct error err;
};

static const struct action *current_item(const struct action_run *run)
{
	return &run->actions->v[run->at];
}

/* The first line of the script that is not blank, shortened, for messages; heap. Secrets are
 * hidden before the line is cut, because half of a secret would not be recognised. */
static char *first_line(const char *script)
{
	_free_ char *safe = redact_own(text_copy(script));
	const char *s = safe + strspn(safe, " \t\r\n");
	size_t len = strcspn(s, "\r\n"), shown = len;

	if (len > SHOWN_SCRIPT_BYTES)
		for (shown = SHOWN_SCRIPT_BYTES; shown > 0 && (s[shown] & 0xc0) == 0x80; shown--)
			; /* does not cut inside a UTF-8 character */
	return text_format("%.*s%s", (int)shown, s,
		s[shown + strspn(s + shown, " \t\r\n")] != '\0' ? " ..." : "");
}

/* The end of an item, and of the run. */

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

static void schedule_next_item(struct action_run *run)
{
	run->at++;
	run->failures = 0;
	run->started = run->skipped = false;
	uv_timer_start(&run->turn, on_turn, 0, 0);
}

static void fail_item(struct action_run *run, int code, const struct error *why)
{
	run->err = *why;
	run->err.code = code;
	error_prefix(&run->err, "%s failed", run->label);
	error_item(&run->err, "%s", run->label);
	if (current_item(run)->kind == ACTION_RUN) {
		_free_ char *ran = first_line(current_item(run)->script);
		size_t len = strlen(run->err.msg);

		snprintf(run->err.msg + len, sizeof(run->err.msg) - len, "; it ran: %s", ran);
	}
	if (run->env.keep_going) {
		log_error("%s", run->err.msg);
		run->err = (struct error){0};
		schedule_next_item(run);
	} else {
		finish(run);
	}
}

static void finish_cancelled(struct action_run *run)
{
	error_set(&run->err, -ECANCELED, "%s was cancelled", runfile_point_name(run->point));
	finish(run);
}

/* One item. */

static void schedule_retry(struct action_run *run, const struct error *why)
{
	unsigned pause_s = run->failures > 6 ? LONGEST_PAUSE_S : 1U << (run->failures - 1);

	if (pause_s > LONGEST_PAUSE_S)
		pause_s = LONGEST_PAUSE_S;
	log_warn("%s failed: %s; trying again in %u s (%u of %u)", run->label, why->msg, pause_s,
		run->failures, current_item(run)->retries);
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
		schedule_next_item(run);
	} else if (run->failures++ < current_item(run)->retries && !run->skipped) {
		schedule_retry(run, err);
	} else {
		fail_item(run, code, err);
	}
}

static char *choose_shell(const struct action_run *run)
{
	const char *chosen = run->env.settings->shell;
	_free_ char *bash = NULL;

	if (chosen != NULL && *chosen != '\0')
		return text_copy(chosen);
	bash = process_find("bash", run->env.environment->v);
	return text_copy(bash != NULL ? "bash" : "/bin/sh");
}

static bool is_bash(const char *shell)
{
	const char *slash = strrchr(shell, '/');

	return strcmp(slash != NULL ? slash + 1 : shell, "bash") == 0;
}

/* The argument vector of a script. The options of bash, by default pipefail, are not passed to
 * other shells, which may not support them. Without pipefail, "curl ... | tar x" would succeed
 * even if the download failed. */
static void build_shell_argv(
	const struct action_run *run, const char *shell, const char *script, struct strings *ret)
{
	const char *options = run->env.settings->shell_options;

	text_strings_add(ret, shell);
	text_strings_add(ret, "-e");
	while (is_bash(shell) && options != NULL && *(options += strspn(options, " \t")) != '\0') {
		size_t len = strcspn(options, " \t");
		_free_ char *word = text_format("%.*s", (int)len, options);

		text_strings_add(ret, "-o");
		text_strings_add(ret, word);
		options += len;
	}
	text_strings_add(ret, "-c");
	text_strings_add(ret, script);
}

static int start_script(struct action_run *run, const struct action *a, struct error *err)
{
	_free_ char *line = first_line(a->script);
	_free_ char *shell = choose_shell(run);
	struct strings words = {0};
	int code;
	struct task_options opts = {.loop = run->env.loop,
		.settings = run->env.settings,
		.inherited = run->env.inherited,
		.environment = run->env.environment,
		.facts = run->env.facts,
		.recorder = run->env.recorder,
		.span_kind = SPAN_ACTION,
		.attempt = run->failures + 1,
		.point = runfile_point_name(run->point),
		.timeout_ms =
			a->timeout_ms != 0 ? a->timeout_ms : run->env.settings->action_timeout_ms,
		.variables_optional = run->env.keep_going,
		.label = run->label,
		.prefix = run->prefix,
		.on_done = on_item_done,
		.ctx = run};

	build_shell_argv(run, shell, a->script, &words);
	opts.argv = words.v;
	log_info("%s: %s", run->label, line);
	code = task_start(&opts, &run->task, err);
	text_strings_done(&words);
	return code;
}

static const char *get_variable(void *ctx, const char *name)
{
	return environment_get(ctx, name);
}

static int start_stage(struct action_run *run, const struct action *a, struct error *err)
{
	int r = runfile_stage(a, get_variable, run->env.environment, &run->spec, err);

	if (r < 0)
		return r;
	run->staging = true;
	return run->env.stage(run->env.stage_ctx, &run->spec, on_item_done, run, err);
}

static int (*const starters[])(struct action_run *, const struct action *, struct error *) = {
	[ACTION_RUN] = start_script,
	[ACTION_STAGE] = start_stage,
};

static void set_label(struct action_run *run)
{
	const char *point = runfile_point_name(run->point);

	free(run->label);
	run->label = text_format("%s action %u (%s:%u)", point, current_item(run)->number,
		run->env.config_path, current_item(run)->line);
	free(run->prefix);
	run->prefix = run->env.settings->prefix_output
			      ? text_format("[%s %u] ", point, current_item(run)->number)
			      : NULL;
}

static void start_item(struct action_run *run)
{
	struct error err = {0};
	int r;

	set_label(run);
	run->started = true;
	r = starters[current_item(run)->kind](run, current_item(run), &err);
	if (r < 0) {
		run->staging = false;
		fail_item(run, r, &err);
	}
}

static void on_turn(uv_timer_t *h)
{
	struct action_run *run = h->data;

	if (run->cancelled) {
		finish_cancelled(run);
	} else if (run->skipped) {
		schedule_next_item(run); /* it was skipped while it waited for a retry */
	} else if (run->at >= run->actions->n) {
		finish(run);
	} else {
		start_item(run);
	}
}

int actions_check_temporary(const struct strings *environment, struct error *err)
{
	return task_environment_check(environment, err);
}

int actions_start(const struct action_env *env, enum lifecycle_point point,
	const struct actions *actions, size_t first, struct action_run **ret, struct error *err)
{
	struct action_run *run = zalloc(sizeof(*run));
	int r = uv_timer_init(env->loop, &run->turn);

	if (r < 0) {
		free(run);
		return error_set(err, r, "run %s: %s", runfile_point_name(point), uv_strerror(r));
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
	if (run->finished || !run->started || (hard && !run->skipped))
		return;
	run->skipped = true;
	if (run->task != NULL)
		task_kill(run->task, hard ? SIGKILL : SIGTERM);
	else if (!run->staging)
		uv_timer_start(&run->turn, on_turn, 0, 0);
}

size_t actions_reached(const struct action_run *run, bool *ret_started)
{
	*ret_started = run->started;
	return run->at;
}

void actions_free(struct action_run *run)
{
	if (run == NULL)
		return;
	stage_spec_done(&run->spec);
	free(run->label);
	free(run->prefix);
	free(run);
}
