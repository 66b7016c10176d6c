/* SPDX-License-Identifier: MIT */
/* The actions of one lifecycle point, as items of a runner: scripts and stages. Loop thread. */
#include "actions.h"
#include "defer.h"
#include "hooks_private.h"
#include "log.h"
#include "redact.h"
#include <stddef.h>
#include <string.h>

enum { SHOWN_SCRIPT_BYTES = 72 };

struct action_run {
	struct runner runner;
	struct action_env env;
	const struct actions *actions;
};

static struct action_run *run_of(struct runner *r)
{
	return container_of(r, struct action_run, runner);
}

static const struct action *current_item(const struct action_run *run)
{
	return &run->actions->v[run->runner.at];
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

/* Appends which script failed. */
static void explain_failure(struct runner *r)
{
	const struct action *a = current_item(run_of(r));

	if (a->kind == ACTION_RUN) {
		_free_ char *ran = first_line(a->script);
		size_t len = strlen(r->err.msg);

		snprintf(r->err.msg + len, sizeof(r->err.msg) - len, "; it ran: %s", ran);
	}
}

static void set_cancelled(struct runner *r)
{
	error_set(&r->err, -ECANCELED, "%s was cancelled", r->point);
}

static char *choose_shell(const struct action_run *run)
{
	const char *chosen = run->env.items.settings->shell;
	_free_ char *bash = NULL;

	if (chosen != NULL && *chosen != '\0')
		return text_copy(chosen);
	bash = process_find("bash", run->env.items.environment->v);
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
	const char *options = run->env.items.settings->shell_options;

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
	const struct log_field fields[] = {log_field_word("point", run->runner.point),
		log_field_text("item", run->runner.label), log_field_text("command", line),
		log_field_integer("attempt", run->runner.failures + 1)};
	struct strings words = {0};
	int code;

	build_shell_argv(run, shell, a->script, &words);
	log_event(LOG_INFO, EVENT_ACTION_STARTED, fields, ARRAY_LEN(fields), "%s: %s",
		run->runner.label, line);
	code = runner_start_task(&run->runner, words.v,
		a->timeout_ms != 0 ? a->timeout_ms : run->env.items.settings->action_timeout_ms,
		err);
	text_strings_done(&words);
	return code;
}

static void on_staged(void *ctx, int code, const struct error *err)
{
	struct action_run *run = ctx;

	runner_item_done(&run->runner, code, err);
}

static int start_stage(struct action_run *run, const struct action *a, struct error *err)
{
	return run->env.stage(run->env.stage_ctx, &a->stage, on_staged, run, err);
}

static int (*const starters[])(struct action_run *, const struct action *, struct error *) = {
	[ACTION_RUN] = start_script,
	[ACTION_STAGE] = start_stage,
};

static int start_item(struct runner *r, struct error *err)
{
	struct action_run *run = run_of(r);
	const struct action *a = current_item(run);
	_free_ char *number = text_format("%u", a->number);

	runner_set_label(r,
		text_format(
			"%s action %s (%s:%u)", r->point, number, run->env.config_path, a->line),
		number);
	r->retries = a->retries;
	return starters[a->kind](run, a, err);
}

static void free_run(struct runner *r)
{
	struct action_run *run = run_of(r);

	free(run);
}

static const struct runner_ops action_ops = {.start = start_item,
	.explain = explain_failure,
	.set_cancelled = set_cancelled,
	.free = free_run};

int actions_check_temporary(const struct strings *environment, struct error *err)
{
	return task_environment_check(environment, err);
}

struct runner *actions_start(const struct action_env *env, enum lifecycle_point point,
	const struct actions *actions, size_t first)
{
	struct action_run *run = zalloc(sizeof(*run));

	run->env = *env;
	run->actions = actions;
	run->runner = (struct runner){.ops = &action_ops,
		.env = env->items,
		.point = runfile_point_name(point),
		.at = first,
		.n = actions->n,
		.keep_going = env->keep_going,
		.failure_level = LOG_ERROR,
		.span_kind = SPAN_ACTION,
		.cancel_wins = true};
	runner_start(&run->runner);
	return &run->runner;
}
