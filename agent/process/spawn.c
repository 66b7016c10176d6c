/* SPDX-License-Identifier: MIT */
/* fork and exec. Other threads may run in this process, so the child calls only async-signal-safe
 * functions between the two. It reports a failure through a close-on-exec pipe; end of file without
 * a report means that the program runs. Loop thread, which must not wait for a file system that
 * hangs: after START_MS, or when an ending signal is pending, the program counts as running, and
 * the child itself prints what fails later. */
#include "defer.h"
#include "process_private.h"
#include "thread.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* How long the parent waits for the report, and how often it checks for an ending signal
 * meanwhile. */
enum { START_MS = 2000, CHECK_MS = 20 };

enum spawn_step { STEP_STDIN, STEP_OUTPUT, STEP_CWD, STEP_EXEC };

struct report {
	enum spawn_step step;
	struct exec_failure failure; /* only its error is set, except for STEP_EXEC */
};

static int connect_streams(int output_fd, enum spawn_step *ret_step)
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

/* Runs in the child. SIGTTOU is blocked, as all signals are, so a background process may call
 * tcsetpgrp(). */
static int set_up_group_and_streams(const struct spawn_options *opts, enum spawn_step *ret_step)
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

/* For a failure after the parent has stopped waiting for the report. */
static _Noreturn void report_on_stderr(const struct spawn_options *opts, const struct report *r)
{
	const char *parts[] = {"stagerun: cannot run '", opts->argv[0],
		"': ", strerrordesc_np(r->failure.error), "\n"};
	bool missing = r->step == STEP_EXEC && !r->failure.found;

	for (size_t i = 0; i < ARRAY_LEN(parts); i++)
		if (parts[i] != NULL)
			(void)!write(STDERR_FILENO, parts[i], strlen(parts[i]));
	_exit(missing ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

/* The child's side of the fork. It must not allocate: another thread may have held the allocator's
 * lock during fork. */
static _Noreturn void run_child(struct program *p, const struct spawn_options *opts, int report_fd)
{
	struct report r = {.step = STEP_STDIN};
	sigset_t all;

	if (set_up_group_and_streams(opts, &r.step) < 0) {
		r.failure.error = errno;
	} else if (opts->cwd != NULL && chdir(opts->cwd) < 0) {
		r.step = STEP_CWD;
		r.failure.error = errno;
	} else {
		inherited_seal(opts->inherited);
		inherited_restore(opts->inherited);
		r.step = STEP_EXEC;
		r.failure = program_exec(p);
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL); /* SIGPIPE: the parent may have closed the pipe */
	if (write(report_fd, &r, sizeof(r)) != (ssize_t)sizeof(r))
		report_on_stderr(opts, &r);
	_exit(EXIT_NOT_FOUND);
}

/* A signal handler of the agent must not run in the child, where it would write into the parent's
 * pipes, so signals stay blocked until the child has restored the inherited dispositions. */
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

static int explain_failure(const struct program *p, const struct spawn_options *opts,
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

/* The agent blocks these signals, since the loop reads them. */
static bool is_ending_signal_pending(void)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	sigset_t pending;

	sigpending(&pending);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		if (sigismember(&pending, signals[i]) == 1)
			return true;
	return false;
}

/* Returns false when there is neither a report nor end of file yet. */
static bool wait_for_report(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	for (int ms = 0; ms < START_MS && !is_ending_signal_pending(); ms += CHECK_MS)
		if (poll(&p, 1, CHECK_MS) > 0)
			return true;
	return poll(&p, 1, 0) > 0;
}

/* Returns 0 when the program runs or may still start to; -1 with a report. */
static int read_report(int fd, struct report *ret)
{
	ssize_t n;

	if (!wait_for_report(fd))
		return 0;
	do {
		n = read(fd, ret, sizeof(*ret));
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*ret) ? -1 : 0;
}

static int fork_and_exec(struct program *p, const struct spawn_options *opts, pid_t *ret_pid,
	int *ret_exit_code, struct error *err)
{
	int fds[2];
	_close_ int report = -1;
	char why[THREAD_WHY_SIZE];
	struct report r;
	sigset_t mask;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_set(err, -errno, "cannot run '%s': make a pipe: %m", opts->argv[0]);
	report = fds[0];
	pid = fork_with_signals_blocked(&mask);
	if (pid == 0) {
		close(fds[0]); /* so that write() fails once the parent has closed it */
		run_child(p, opts, fds[1]);
	}
	close(fds[1]);
	/* The child does so, too: whoever is first. Else a signal for the group could come before
	 * there is one, since a report is not waited for when a signal ends the run. */
	if (pid > 0 && opts->as_job)
		setpgid(pid, pid);
	if (pid < 0)
		return error_set(err, -errno, "cannot run '%s': fork: %s", opts->argv[0],
			thread_explain_start(errno, why));
	if (read_report(report, &r) < 0) {
		waitpid(pid, NULL, 0);
		return explain_failure(p, opts, &r, ret_exit_code, err);
	}
	*ret_pid = pid;
	return 0;
}

int spawn(const struct spawn_options *opts, pid_t *ret_pid, int *ret_exit_code, struct error *err)
{
	struct program program;
	int code;

	program_prepare(&program, opts->argv, opts->env, opts->cwd);
	if (ret_exit_code != NULL)
		*ret_exit_code = EXIT_NOT_EXECUTABLE; /* fork itself may fail */
	code = fork_and_exec(&program, opts, ret_pid, ret_exit_code, err);
	program_done(&program);
	return code;
}
