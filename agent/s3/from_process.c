/* SPDX-License-Identifier: MIT */
/* credential_process: a command of the user that prints credentials. It is run by a worker thread,
 * which gets no notification of its end and therefore polls. The command gets no descriptors but
 * the standard three, and a process group of its own, so that all processes that it started can be
 * killed. */
#include "credentials_private.h"
#include "defer.h"
#include "progress.h"
#include "thread.h"
#include "umask.h"
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

enum { PATIENCE_MS = 60000, POLL_MS = 50, OUTPUT_MAX = 256 * 1024 };

struct process {
	pid_t pid;
	int out, err; /* our ends of the pipes; -1: closed */
	struct text output, errors;
	uint64_t deadline_ns;
	const struct cancel *cancel;
	bool ended;
	int status; /* from waitpid(); -1: another thread reaped the process */
};

/* Prefixes the command with the caller's umask (our own is 0), so that files that it creates, such
 * as a cache of credentials, get the modes that the user expects. */
static char *under_callers_umask(const char *command)
{
	mode_t mask = 0777 & ~umask_apply(0777);

	return mask != 0 ? text_format("umask %03o; %s", (unsigned)mask, command)
			 : text_copy(command);
}

static int spawn(struct process *p, const char *command, const int out[2], const int err[2],
	char *const *env)
{
	_free_ char *script = under_callers_umask(command);
	char *argv[] = {"sh", "-c", script, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int code;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, err[1], STDERR_FILENO);
	posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(
		&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	code = posix_spawn(&p->pid, "/bin/sh", &files, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -code;
}

static int start_process(
	struct process *p, const char *command, char *const *env, struct error *err)
{
	static char *const nothing[] = {NULL};
	char why[THREAD_WHY_SIZE];
	int out[2], complaints[2], code;

	if (pipe2(out, O_CLOEXEC) < 0)
		return error_set(err, -errno, "a pipe for credential_process: %m");
	if (pipe2(complaints, O_CLOEXEC) < 0) {
		code = error_set(err, -errno, "a pipe for credential_process: %m");
		close(out[0]);
		close(out[1]);
		return code;
	}
	code = spawn(p, command, out, complaints, env != NULL ? env : nothing);
	close(out[1]);
	close(complaints[1]);
	p->out = out[0];
	p->err = complaints[0];
	if (code < 0)
		error_set(err, code, "credential_process: start /bin/sh: %s",
			thread_explain_start(-code, why));
	return code;
}

static void read_pipe(int *fd, struct text *into)
{
	char buf[4096];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		close(*fd);
		*fd = -1;
	} else if (into->len + (size_t)n <= OUTPUT_MAX) {
		text_add_bytes(into, buf, (size_t)n);
	}
	explicit_bzero(buf, sizeof(buf));
}

/* Polls for the end of the process. If we are PID 1, the reaper on the loop thread may take it for
 * an orphan and reap it; then its status is lost (ECHILD). */
static void check_ended(struct process *p)
{
	pid_t pid = waitpid(p->pid, &p->status, WNOHANG);

	if (pid == p->pid) {
		p->ended = true;
	} else if (pid < 0 && errno == ECHILD) {
		p->ended = true;
		p->status = -1;
	}
}

/* Reads what is in the pipes without waiting for their end: processes that the command left behind
 * may hold them open forever. After the command has ended, its output is complete. */
static void drain_pipes(struct process *p)
{
	struct pollfd fds[] = {{.fd = p->out, .events = POLLIN}, {.fd = p->err, .events = POLLIN}};

	while (now_ns() < p->deadline_ns && poll(fds, 2, 0) > 0) {
		if (fds[0].revents != 0)
			read_pipe(&p->out, &p->output);
		if (fds[1].revents != 0)
			read_pipe(&p->err, &p->errors);
		fds[0].fd = p->out;
		fds[1].fd = p->err;
	}
}

static int wait_for_end(struct process *p, struct error *err)
{
	while (!p->ended) {
		struct pollfd fds[] = {
			{.fd = p->out, .events = POLLIN}, {.fd = p->err, .events = POLLIN}};
		/* With both pipes closed no event is left to wait for. */
		int nap = p->out < 0 && p->err < 0 ? 1 : POLL_MS;

		poll(fds, 2, nap);
		check_ended(p);
		drain_pipes(p);
		if (p->ended)
			return 0;
		if (cancel_requested(p->cancel))
			return error_set(err, -ECANCELED, "cancelled");
		if (now_ns() > p->deadline_ns)
			return error_set(err, -ETIMEDOUT,
				"credential_process has not ended after %d s, and was killed",
				PATIENCE_MS / 1000);
	}
	return 0;
}

static void process_done(struct process *p)
{
	if (p->pid > 0 && !p->ended) {
		kill(-p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	if (p->out >= 0)
		close(p->out);
	if (p->err >= 0)
		close(p->err);
	if (p->output.s != NULL)
		explicit_bzero(p->output.s, p->output.len);
	text_done(&p->output);
	text_done(&p->errors);
}

static char *last_line(const struct text *t)
{
	const char *s = t->s != NULL ? t->s : "";
	size_t end = strlen(s), begin;

	while (end > 0 && strchr(" \t\r\n", s[end - 1]) != NULL)
		end--;
	for (begin = end; begin > 0 && s[begin - 1] != '\n';)
		begin--;
	return text_format("%.*s", (int)(end - begin), s + begin);
}

static int exit_error(const struct process *p, struct error *err)
{
	_free_ char *line = last_line(&p->errors);
	const char *says = *line != '\0' ? line : "nothing on standard error";

	if (WIFSIGNALED(p->status))
		return error_set(err, -ERR_COMMAND, "credential_process was ended by signal %d: %s",
			WTERMSIG(p->status), says);
	return error_set(err, -ERR_COMMAND, "credential_process exited with %d: %s",
		WEXITSTATUS(p->status), says);
}

static int check_version(const struct text *output, struct error *err)
{
	json_t *root = json_loadb(output->s != NULL ? output->s : "", output->len, 0, NULL);
	json_t *version = json_object_get(root, "Version");
	int code = 0;

	if (root != NULL && json_integer_value(version) != 1)
		code = error_set(err, -ERR_FORMAT, "the answer is not of Version 1");
	json_decref(root);
	return code;
}

static int parse_result(const struct process *p, struct credentials_found *ret, struct error *err)
{
	int code;

	if (p->status > 0)
		return exit_error(p, err);
	code = check_version(&p->output, err);
	if (code == 0)
		code = credentials_found_parse(
			p->output.s, p->output.len, "SessionToken", ret, err);
	return code < 0 ? error_prefix(err, "credential_process") : 0;
}

int from_process_find(struct credentials_search *s, const char *command,
	struct credentials_found *ret, struct error *err)
{
	struct process p = {.out = -1,
		.err = -1,
		.deadline_ns = now_ns() + PATIENCE_MS * 1000000ull,
		.cancel = s->cancel};
	int code = start_process(&p, command, s->opts->environment, err);

	if (code == 0)
		code = wait_for_end(&p, err);
	if (code == 0)
		code = parse_result(&p, ret, err);
	process_done(&p);
	return code;
}
