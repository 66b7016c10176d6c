/* SPDX-License-Identifier: MIT */
/* Runs a script in a shell that stops at the first command that fails, and fetches the variables it
 * left in $STAGERUN_ENV. Loop thread. It does not decide what a failure means. */
#include "shell.h"
#include "defer.h"
#include "environment_file.h"
#include "log.h"
#include <poll.h>
#include <string.h>

struct shell {
	struct shell_options opts;
	char *variables; /* path of the file that $STAGERUN_ENV names */
	struct child *child;
};

static bool has_succeeded(const struct child_end *end)
{
	return !end->timed_out && end->wait_status == 0;
}

static int explain_failure(const struct shell *s, const struct child_end *end, struct error *err)
{
	_free_ char *status = describe_wait_status(end->wait_status);
	char limit[32];

	if (end->timed_out)
		return error_set(err, -ERR_COMMAND,
			"it took longer than its timeout of %s and was ended",
			print_duration(s->opts.timeout_ms * 1000000, limit));
	return error_set(err, -ERR_COMMAND, "%s", status);
}

static void on_exit_of_shell(void *ctx, const struct child_end *end)
{
	struct shell *s = ctx;
	struct error err = {0};
	int code;

	if (has_succeeded(end))
		code = environment_file_read(s->variables, s->opts.who, s->opts.environment, &err);
	else
		code = explain_failure(s, end, &err);
	if (end->left_processes && code == 0)
		log_warn("%s left processes in the background, which were ended with it (to keep "
			 "one: "
			 "setsid COMMAND &)",
			s->opts.who);
	s->opts.on_done(s->opts.ctx, code, &err);
}

static void write_whole(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EAGAIN)
			poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
		else if (n < 0 && errno != EINTR)
			return; /* nobody reads it */
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
}

static void on_line(void *ctx, const char *line, size_t len)
{
	const struct shell *s = ctx;
	struct text out = {0};

	text_add(&out, s->opts.prefix);
	text_add_bytes(&out, line, len);
	text_add(&out, "\n");
	write_whole(STDERR_FILENO, out.s, out.len);
	text_done(&out);
}

/* Where its own temporary files would go. */
static const char *temporary_directory(const struct strings *environment)
{
	const char *dir = environment_get(environment, "TMPDIR");

	return dir == NULL || *dir == '\0' ? "/tmp" : dir;
}

static char *choose_shell(const struct settings *settings, char *const env[])
{
	_free_ char *bash = process_find("bash", env);

	if (settings->shell != NULL && *settings->shell != '\0')
		return copy_text(settings->shell);
	return copy_text(bash != NULL ? "bash" : "/bin/sh");
}

static int start_child(struct shell *s, struct error *err)
{
	struct strings env = {0};
	_free_ char *program = choose_shell(s->opts.settings, s->opts.environment->v);
	char *argv[] = {program, "-e", "-c", (char *)s->opts.script, NULL};
	struct child_options child = {.argv = argv,
		.inherited = s->opts.inherited,
		.timeout_ms = s->opts.timeout_ms,
		.on_line = s->opts.prefix != NULL ? on_line : NULL,
		.on_exit = on_exit_of_shell,
		.ctx = s};
	int r;

	if (s->opts.environment->n > 0)
		environment_copy(&env, s->opts.environment->v);
	environment_set(&env, "STAGERUN_ENV", s->variables);
	child.env = env.v;
	r = child_start(s->opts.loop, &child, &s->child, err);
	strings_done(&env);
	return r;
}

int shell_start(const struct shell_options *opts, struct shell **ret, struct error *err)
{
	struct shell *s = zalloc(sizeof(*s));
	int r;

	s->opts = *opts;
	r = environment_file_create(temporary_directory(opts->environment), &s->variables, err);
	if (r == 0)
		r = start_child(s, err);
	if (r < 0) {
		shell_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void shell_kill(struct shell *s, int signal)
{
	child_kill(s->child, signal);
}

void shell_free(struct shell *s)
{
	if (s == NULL)
		return;
	if (s->variables != NULL)
		unlink(s->variables);
	free(s->variables);
	child_free(s->child);
	free(s);
}
