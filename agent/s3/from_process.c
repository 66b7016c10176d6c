/* SPDX-License-Identifier: MIT */
/* credential_process: a command of the user's that prints credentials. It runs on a worker thread, where
 * nobody tells its end: so it is waited for by looking again. It gets no descriptor but the three, and a
 * group of its own, to end it with all it started. */
#include "chain.h"
#include "defer.h"
#include "progress.h"
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

enum { PATIENCE_MS = 60000, LOOK_AROUND_MS = 50, OUTPUT_MAX = 256 * 1024 };

struct process {
	pid_t pid;
	int out, err; /* our ends; -1: ended */
	struct text said, complained;
	uint64_t deadline_ns;
	const struct cancel *cancel;
	bool ended;
	int status; /* of waitpid(); -1: somebody else fetched it */
};

static int spawn(struct process *p, const char *command, const int out[2], const int err[2],
	char *const *env)
{
	char *argv[] = {"sh", "-c", (char *)command, NULL};
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

static int start(struct process *p, const char *command, char *const *env, struct error *err)
{
	static char *const nothing[] = {NULL};
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
	if (code < 0) {
		errno = -code;
		error_set(err, code, "credential_process: start /bin/sh: %m");
	}
	return code;
}

static void take(int *fd, struct text *into)
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

/* As PID 1 the reaper on the loop thread may take our child for an orphan, and its status is gone. */
static void look(struct process *p)
{
	pid_t pid = waitpid(p->pid, &p->status, WNOHANG);

	if (pid == p->pid) {
		p->ended = true;
	} else if (pid < 0 && errno == ECHILD) {
		p->ended = true;
		p->status = -1;
	}
}

/* What it printed is complete when it has ended: what it left behind may hold the pipes for ever. */
static void drain(struct process *p)
{
	struct pollfd fds[] = {{.fd = p->out, .events = POLLIN}, {.fd = p->err, .events = POLLIN}};

	while (now_ns() < p->deadline_ns && poll(fds, 2, 0) > 0) {
		if (fds[0].revents != 0)
			take(&p->out, &p->said);
		if (fds[1].revents != 0)
			take(&p->err, &p->complained);
		fds[0].fd = p->out;
		fds[1].fd = p->err;
	}
}

static int wait_for_end(struct process *p, struct error *err)
{
	while (!p->ended) {
		struct pollfd fds[] = {
			{.fd = p->out, .events = POLLIN}, {.fd = p->err, .events = POLLIN}};
		/* Without an end that could be heard, nothing is left but to look again. */
		int nap = p->out < 0 && p->err < 0 ? 1 : LOOK_AROUND_MS;

		poll(fds, 2, nap);
		look(p);
		drain(p);
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

static void end(struct process *p)
{
	if (p->pid > 0 && !p->ended) {
		kill(-p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	if (p->out >= 0)
		close(p->out);
	if (p->err >= 0)
		close(p->err);
	if (p->said.s != NULL)
		explicit_bzero(p->said.s, p->said.len);
	text_done(&p->said);
	text_done(&p->complained);
}

static char *last_line(const struct text *t)
{
	const char *s = t->s != NULL ? t->s : "";
	size_t end = strlen(s), begin;

	while (end > 0 && strchr(" \t\r\n", s[end - 1]) != NULL)
		end--;
	for (begin = end; begin > 0 && s[begin - 1] != '\n';)
		begin--;
	return format_text("%.*s", (int)(end - begin), s + begin);
}

static int failed(const struct process *p, struct error *err)
{
	_free_ char *line = last_line(&p->complained);
	const char *says = *line != '\0' ? line : "nothing on standard error";

	if (WIFSIGNALED(p->status))
		return error_set(err, -ERR_COMMAND, "credential_process was ended by signal %d: %s",
			WTERMSIG(p->status), says);
	return error_set(err, -ERR_COMMAND, "credential_process exited with %d: %s",
		WEXITSTATUS(p->status), says);
}

static int check_version(const struct text *said, struct error *err)
{
	json_t *root = json_loadb(said->s != NULL ? said->s : "", said->len, 0, NULL);
	json_t *version = json_object_get(root, "Version");
	int code = 0;

	if (root != NULL && json_integer_value(version) != 1)
		code = error_set(err, -ERR_FORMAT, "the answer is not of Version 1");
	json_decref(root);
	return code;
}

static int judge(const struct process *p, struct found *ret, struct error *err)
{
	int code;

	if (p->status > 0)
		return failed(p, err);
	code = check_version(&p->said, err);
	if (code == 0)
		code = found_parse(p->said.s, p->said.len, "SessionToken", ret, err);
	return code < 0 ? error_prefix(err, "credential_process") : 0;
}

int credential_process_find(
	struct search *s, const char *command, struct found *ret, struct error *err)
{
	struct process p = {.out = -1,
		.err = -1,
		.deadline_ns = now_ns() + PATIENCE_MS * 1000000ull,
		.cancel = s->cancel};
	int code = start(&p, command, s->opts->environment, err);

	if (code == 0)
		code = wait_for_end(&p, err);
	if (code == 0)
		code = judge(&p, ret, err);
	end(&p);
	return code;
}
