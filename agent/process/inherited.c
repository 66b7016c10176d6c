/* SPDX-License-Identifier: MIT */
/* The state that this process was started with: recorded first in main(), restored between fork and
 * exec and right before the final exec.
 *
 * The agent opens every descriptor with close-on-exec. libcurl 7.88 does not do that for its
 * wake-up pairs and those of its resolver threads, and it opens them at any time, on any thread. So
 * everything that was not inherited is set close-on-exec (sealed) in the child, where no other
 * thread runs, and before the final exec. */
#include "defer.h"
#include "job.h"
#include "process.h"
#include "process_private.h"
#include "text.h"
#include "umask.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <linux/ioprio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS         "/proc/self/fd"
#define FIRST       (STDERR_FILENO + 1)
#define FDS_CHECKED 1024 /* descriptors to check where /proc is missing */

/* Many sources, each with open connections and directories, exceed the usual soft limit of 1024. */
enum { AGENT_OPEN_FILES = 65536 };

/* If standard error is closed, the next file that the agent opens becomes descriptor 2, and the log
 * is written into that file. The replacement is close-on-exec, so that the stream is closed for the
 * command as well. Standard output is replaced read-only, because output to a closed stream must
 * fail. */
static void occupy_standard_streams(void)
{
	int fd;

	for (int i = STDIN_FILENO; i <= STDERR_FILENO; i++) {
		if (fcntl(i, F_GETFD) >= 0)
			continue;
		fd = open("/dev/null", (i == STDOUT_FILENO ? O_RDONLY : O_RDWR) | O_CLOEXEC);
		if (fd >= 0 && fd != i) /* all below are open */
			close(fd);
	}
}

static bool is_passed_on(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	return fd >= FIRST && flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

/* Inserts it in ascending order. */
static void add_descriptor(struct inherited *in, int fd)
{
	size_t at = in->n_descriptors++;

	in->descriptors =
		reallocarray(in->descriptors, in->n_descriptors, sizeof(*in->descriptors));
	if (in->descriptors == NULL)
		abort();
	for (; at > 0 && in->descriptors[at - 1] > fd; at--)
		in->descriptors[at] = in->descriptors[at - 1];
	in->descriptors[at] = fd;
}

static void list_descriptors(struct inherited *in)
{
	_closedir_ DIR *dir = opendir(FDS);
	struct dirent *entry;

	for (int fd = FIRST; dir == NULL && fd < FDS_CHECKED; fd++)
		if (is_passed_on(fd))
			add_descriptor(in, fd);
	/* No other thread runs yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		int fd = (int)strtol(entry->d_name, NULL, 10); /* "." and ".." read as 0 */

		if (is_passed_on(fd))
			add_descriptor(in, fd);
	}
}

/* strtol() is not async-signal-safe. Returns -1 when name is no number. */
static int parse_fd(const char *name)
{
	int n = 0;

	if (*name < '0' || *name > '9')
		return -1;
	for (; *name >= '0' && *name <= '9'; name++)
		n = 10 * n + (*name - '0');
	return n;
}

/* entries: one result of getdents64(). */
static void seal_listed(const char *entries, long len, int first, int last)
{
	const struct dirent64 *entry;

	for (long at = 0; at < len; at += entry->d_reclen) {
		int fd;

		entry = (const struct dirent64 *)(entries + at);
		fd = parse_fd(entry->d_name);
		if (fd >= first && fd <= last)
			fcntl(fd, F_SETFD, FD_CLOEXEC);
	}
}

/* Linux before 5.11 lacks close_range() or its flag CLOSE_RANGE_CLOEXEC. opendir() is not
 * async-signal-safe. */
static void seal_range(int first, int last)
{
	_Alignas(struct dirent64) char entries[4096];
	long len;
	int fd;

	if (first > last || close_range((unsigned)first, (unsigned)last, CLOSE_RANGE_CLOEXEC) == 0)
		return;
	fd = open(FDS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (fd >= 0 && (len = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0)
		seal_listed(entries, len, first, last);
	if (fd >= 0)
		close(fd);
}

void inherited_seal(const struct inherited *in)
{
	int first = FIRST;

	for (size_t i = 0; i < in->n_descriptors; i++) {
		seal_range(first, in->descriptors[i] - 1);
		first = in->descriptors[i] + 1;
	}
	seal_range(first, INT_MAX);
}

static void raise_open_files(const struct rlimit *inherited)
{
	struct rlimit raised = *inherited;

	raised.rlim_cur = raised.rlim_max < AGENT_OPEN_FILES ? raised.rlim_max : AGENT_OPEN_FILES;
	if (raised.rlim_cur > inherited->rlim_cur)
		setrlimit(RLIMIT_NOFILE, &raised);
}

static void set_disposition(int signal, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler};

	/* Fails, as intended, for SIGKILL, SIGSTOP and the two signals that the C library
	 * reserves. */
	sigaction(signal, &action, NULL);
}

static void exit_by_signal(int signal)
{
	_exit(128 + signal);
}

/* The kernel discards signals with the default action that are sent to PID 1. Until the agent reads
 * the ending signals from a signalfd (signals_open() blocks them then), a handler ends PID 1, even
 * while it waits for a config.yml that is a FIFO or for a file system that hangs. */
static void exit_on_ending_signals(const struct inherited *in, sigset_t *blocked)
{
	static const int ending_signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};

	for (size_t i = 0; i < sizeof(ending_signals) / sizeof(ending_signals[0]); i++) {
		if (in->actions[ending_signals[i]].sa_handler == SIG_IGN)
			continue;
		set_disposition(ending_signals[i], exit_by_signal);
		sigdelset(blocked, ending_signals[i]);
	}
}

void inherited_record(struct inherited *in)
{
	sigset_t blocked;

	memset(in, 0, sizeof(*in));
	occupy_standard_streams();
	list_descriptors(in);
	for (int s = 1; s < NSIG; s++)
		sigaction(s, NULL, &in->actions[s]);
	set_disposition(SIGPIPE, SIG_IGN);
	set_disposition(SIGCHLD, SIG_DFL); /* if it were ignored, exit statuses would be lost */
	/* The kernel discards signals to PID 1 that it neither handles nor blocks, and so those for
	 * the command that arrive before agent_outlive(). */
	sigemptyset(&blocked);
	if (getpid() == 1) {
		signals_forwardable(in, &blocked);
		exit_on_ending_signals(in, &blocked);
	}
	/* The reaper reads it from a signalfd; it would be lost in a thread that does not block
	 * it. */
	sigaddset(&blocked, SIGCHLD);
	pthread_sigmask(SIG_SETMASK, &blocked, &in->mask);
	in->umask = umask_set_aside();
	if (getrlimit(RLIMIT_NOFILE, &in->nofile) == 0)
		raise_open_files(&in->nofile);
}

void inherited_restore(const struct inherited *in)
{
	if (in->nofile.rlim_max != 0)
		setrlimit(RLIMIT_NOFILE, &in->nofile);
	umask(in->umask);
	for (int s = 1; s < NSIG; s++)
		set_disposition(s, in->actions[s].sa_handler == SIG_IGN ? SIG_IGN : SIG_DFL);
	/* Last, so that a pending signal meets the disposition that the agent inherited. */
	pthread_sigmask(SIG_SETMASK, &in->mask, NULL);
}

enum { NICE_VALUE = 10, IO_LEVEL_LOWEST = 7 };

/* Not the idle I/O class: on a disk that is never idle it would make no progress. */
int process_lower_priority(struct error *err)
{
	int io = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, IO_LEVEL_LOWEST);

	errno = 0;
	if (getpriority(PRIO_PROCESS, 0) < NICE_VALUE &&
		setpriority(PRIO_PROCESS, 0, NICE_VALUE) != 0)
		return error_set(err, -errno, "cannot lower the priority: %m");
	if (syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, io) != 0)
		return error_set(err, -errno, "cannot lower the priority of I/O: %m");
	return 0;
}

/* The final exec: the command replaces this process. Other threads end with the exec. Descriptors
 * are not changed: the caller has sealed them. */

int process_exec(const struct inherited *in, char *const argv[], char *const env[], char *known,
	struct error *err)
{
	struct program program;
	struct exec_failure failure;
	int exit_code;

	program_prepare(&program, argv, env, NULL);
	program.known = known;
	inherited_restore(in);
	failure = program_exec(&program);
	/* The reason must still be logged, perhaps to a pipe whose reader has gone. */
	sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	exit_code = program_explain(&program, &failure, err);
	program_done(&program);
	return exit_code;
}
