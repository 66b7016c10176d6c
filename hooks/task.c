/* SPDX-License-Identifier: MIT */
/* Runs a program with what the contract promises, and fetches the variables it left in $STAGERUN_ENV.
 * Loop thread. It does not decide what a failure means. */
#include "task.h"
#include "defer.h"
#include "environment_file.h"
#include "log.h"
#include <string.h>

struct task {
	struct task_options opts;
	char *variables; /* path of the file that $STAGERUN_ENV names */
	struct child *child;
};

static bool has_succeeded(const struct child_end *end)
{
	return !end->timed_out && end->wait_status == 0;
}

static int explain_failure(const struct task *t, const struct child_end *end, struct error *err)
{
	_free_ char *status = describe_wait_status(end->wait_status);
	char limit[32];

	if (end->timed_out)
		return error_set(err, -ERR_COMMAND,
			"it took longer than its timeout of %s and was ended",
			print_duration(t->opts.timeout_ms * 1000000, limit));
	return error_set(err, -ERR_COMMAND, "%s", status);
}

/* What it sets may be a secret from now on, like what was there before. */
static int read_variables(const struct task *t, struct error *err)
{
	int code = environment_file_read(t->variables, t->opts.who, t->opts.environment, err);

	settings_hide_secrets(t->opts.settings, t->opts.environment->v);
	return code;
}

static void on_exit_of_task(void *ctx, const struct child_end *end)
{
	struct task *t = ctx;
	struct error err = {0};
	int code;

	if (has_succeeded(end))
		code = read_variables(t, &err);
	else
		code = explain_failure(t, end, &err);
	if (end->left_processes && code == 0)
		log_warn("%s left processes in the background, which were ended with it (to keep "
			 "one: "
			 "setsid COMMAND &)",
			t->opts.who);
	t->opts.on_done(t->opts.ctx, code, &err);
}

static void on_line(void *ctx, const char *line, size_t len)
{
	const struct task *t = ctx;

	log_output(t->opts.prefix, line, len);
}

/* Where its own temporary files would go. */
static const char *temporary_directory(const struct strings *environment)
{
	const char *dir = environment_get(environment, "TMPDIR");

	return dir == NULL || *dir == '\0' ? "/tmp" : dir;
}

static int start_child(struct task *t, struct error *err)
{
	struct strings env = {0};
	struct child_options child = {.argv = t->opts.argv,
		.inherited = t->opts.inherited,
		.timeout_ms = t->opts.timeout_ms,
		.on_line = t->opts.prefix != NULL ? on_line : NULL,
		.on_exit = on_exit_of_task,
		.ctx = t};
	int r;

	if (t->opts.environment->n > 0)
		environment_copy(&env, t->opts.environment->v);
	contract_apply(t->opts.facts, t->opts.point, t->variables, &env);
	child.env = env.v;
	r = child_start(t->opts.loop, &child, &t->child, err);
	strings_done(&env);
	return r;
}

int task_start(const struct task_options *opts, struct task **ret, struct error *err)
{
	struct task *t = zalloc(sizeof(*t));
	int r;

	t->opts = *opts;
	r = environment_file_create(temporary_directory(opts->environment), &t->variables, err);
	if (r == 0)
		r = start_child(t, err);
	if (r < 0) {
		task_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

void task_kill(struct task *t, int signal)
{
	child_kill(t->child, signal);
}

void task_free(struct task *t)
{
	if (t == NULL)
		return;
	if (t->variables != NULL)
		unlink(t->variables);
	free(t->variables);
	child_free(t->child);
	free(t);
}
