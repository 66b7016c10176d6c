/* SPDX-License-Identifier: MIT */
/* fork and exec. Other threads may run in this process, so the child does nothing between the two
 * that is not async-signal-safe; what fails there comes back through a close-on-exec pipe, whose
 * end without a word means that the program runs. Loop thread. */
#include "spawn.h"
#include "defer.h"
#include "program.h"
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>

enum step { STEP_STDIN, STEP_OUTPUT, STEP_CWD, STEP_EXEC };

struct report {
	enum step step;
	struct exec_failure failure; /* but for STEP_EXEC only its error */
};

static int connect_streams(int output_fd, enum step *ret_step)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	*ret_step = STEP_STDIN;
	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		return -1;
	*ret_step = STEP_OUTPUT;
	if (output_fd >= 0 &&
		(dup2(output_fd, STDOUT_FILENO) < 0 || dup2(output_fd, STDERR_FILENO) < 0))
		return -1;
	return 0;
}

/* Every signal is blocked here, and so SIGTTOU: a background process may take the terminal. */
static int take_place(const struct spawn_options *opts, enum step *ret_step)
{
	if (!opts->as_job) {
		setsid();
		return connect_streams(opts->output_fd, ret_step);
	}
	setpgid(0, 0);
	if (opts->terminal_fd >= 0)
		tcsetpgrp(opts->terminal_fd, getpid());
	return 0;
}

/* The child's side of the fork: until exec it shares memory that other threads may have left
 * locked. */
static _Noreturn void become(struct program *p, const struct spawn_options *opts, int report_fd)
{
	struct report r = {.step = STEP_STDIN};
	ssize_t told;

	if (take_place(opts, &r.step) < 0) {
		r.failure.error = errno;
	} else if (opts->cwd != NULL && chdir(opts->cwd) < 0) {
		r.step = STEP_CWD;
		r.failure.error = errno;
	} else {
		inherited_restore(opts->inherited);
		r.step = STEP_EXEC;
		r.failure = program_exec(p);
	}
	told = write(report_fd, &r, sizeof(r));
	_exit(told == (ssize_t)sizeof(r) ? 127 : 126);
}

/* A handler of ours must not run in the child, where it would write into pipes of the parent:
 * signals stay blocked until the child has put the inherited dispositions in place. */
static pid_t fork_with_signals_blocked(sigset_t *ret_mask)
{
	sigset_t all;
	pid_t pid;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, ret_mask);
	pid = fork();
	if (pid != 0)
		pthread_sigmask(SIG_SETMASK, ret_mask, NULL);
	return pid;
}

static int explain(const struct program *p, const struct spawn_options *opts,
	const struct report *r, int *ret_exit_code, struct error *err)
{
	int e = r->failure.error;
	int exit_code = EXIT_NOT_EXECUTABLE;

	switch (r->step) {
	case STEP_STDIN:
		error_set(err, -e, "cannot run '%s': open /dev/null: %s", opts->argv[0],
			strerrordesc_np(e));
		break;
	case STEP_OUTPUT:
		error_set(err, -e, "cannot run '%s': connect its output: %s", opts->argv[0],
			strerrordesc_np(e));
		break;
	case STEP_CWD:
		error_set(err, -e, "cannot run '%s' in '%s': %s", opts->argv[0], opts->cwd,
			strerrordesc_np(e));
		break;
	default:
		exit_code = program_explain(p, &r->failure, err);
	}
	if (ret_exit_code != NULL)
		*ret_exit_code = exit_code;
	return e != 0 ? -e : -ENOEXEC;
}

/* 0: the program runs. */
static int read_report(int fd, struct report *ret)
{
	ssize_t n;

	do {
		n = read(fd, ret, sizeof(*ret));
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*ret) ? -1 : 0;
}

static int start(struct program *p, const struct spawn_options *opts, pid_t *ret_pid,
	int *ret_exit_code, struct error *err)
{
	int fds[2];
	_close_ int report = -1;
	struct report r;
	sigset_t mask;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot run '%s': make a pipe: %m", opts->argv[0]);
	report = fds[0];
	pid = fork_with_signals_blocked(&mask);
	if (pid == 0)
		become(p, opts, fds[1]);
	close(fds[1]);
	if (pid < 0)
		return error_set(err, -errno, "cannot run '%s': fork: %m", opts->argv[0]);
	if (read_report(report, &r) < 0) {
		waitpid(pid, NULL, 0);
		return explain(p, opts, &r, ret_exit_code, err);
	}
	*ret_pid = pid;
	return 0;
}

int spawn(const struct spawn_options *opts, pid_t *ret_pid, int *ret_exit_code, struct error *err)
{
	struct program program;
	int r;

	program_prepare(&program, opts->argv, opts->env, opts->cwd);
	if (ret_exit_code != NULL)
		*ret_exit_code = EXIT_NOT_EXECUTABLE; /* fork itself may fail */
	r = start(&program, opts, ret_pid, ret_exit_code, err);
	program_done(&program);
	return r;
}
