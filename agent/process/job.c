/* SPDX-License-Identifier: MIT */
/* The command as a child of the agent: it gets the signals that the agent receives and the terminal
 * that the agent is in the foreground of. When the command has ended, the rest of its process group
 * is ended, too. Loop thread. */
#include "job.h"
#include "defer.h"
#include "process_private.h"
#include "text.h"
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

/* The controlling terminal and its foreground process group. All signals, or at least SIGTTOU, must
 * be blocked when terminal_give() is called. */
struct terminal {
	int fd; /* -1: there is none */
};

static void terminal_open(struct terminal *t)
{
	t->fd = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (t->fd < 0 && tcgetpgrp(STDIN_FILENO) > 0) /* an image without /dev/tty */
		t->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

static void terminal_close(struct terminal *t)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

/* Whether the group (0: this process's) is in the foreground. */
static bool terminal_belongs_to(const struct terminal *t, pid_t group)
{
	return t->fd >= 0 && tcgetpgrp(t->fd) == (group != 0 ? group : getpgrp());
}

/* group 0: this process's. */
static void terminal_give(const struct terminal *t, pid_t group)
{
	if (t->fd >= 0)
		tcsetpgrp(t->fd, group != 0 ? group : getpgrp());
}

/* Whether standard input and output are a terminal, and so a person uses it. */
static bool terminal_is_interactive(void)
{
	return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1;
}

enum {
	TICK_MS = 50,         /* how often the rest of the group is checked */
	KILL_AFTER_MS = 1000, /* from SIGTERM to SIGKILL */
	LOST_AFTER_MS = 3000, /* a process that survives SIGKILL this long is stuck in the kernel */
	EARLY_MS = 20,        /* first interval of checks for the handlers of early signals */
	EARLY_MAX_MS = 1000,  /* the interval doubles up to this */
};

enum job_state {
	JOB_RUNS,
	JOB_WAITS,      /* the command has ended; its group has group_wait_ms to end by itself */
	JOB_TERMINATES, /* the group got SIGTERM */
	JOB_KILLS,      /* the group got SIGKILL */
	JOB_GONE,
};

struct job {
	/* Set at creation. */
	struct job_options opts; /* argv and env are NULL */

	enum job_state state;
	struct reaped process; /* its pid is also its group's */
	struct terminal terminal;
	bool stopped;           /* by SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU */
	bool left;              /* signals were sent to end the rest of the group */
	bool sigterm_forwarded; /* to the group, after the command's end */
	bool stopping;          /* job_stop(): the group gets SIGTERM without a wait */
	uint64_t entered_ms;    /* when the state was entered, by the loop's clock */
	uv_timer_t tick;        /* while the command runs: for early; then for its group */

	/* Signals that arrived before the command could handle them. */
	struct signalfd_siginfo *early;
	size_t n_early;
	uint64_t early_ms;   /* the interval of the checks */
	uint64_t blocked[2]; /* by the command, at the last two checks */
};

void job_free(struct job *j)
{
	if (j == NULL)
		return;
	free(j->early);
	free(j);
}

/* The end of the group. */

static void job_enter(struct job *j, enum job_state to)
{
	j->state = to;
	j->entered_ms = uv_now(j->opts.loop);
}

static void on_tick_closed(uv_handle_t *h)
{
	struct job *j = h->data;

	if (j->state == JOB_RUNS)
		job_free(j); /* it never started */
	else
		j->opts.on_gone(j->opts.ctx, j->left);
}

static void job_close(struct job *j)
{
	terminal_close(&j->terminal);
	reap_forget(j->opts.loop, &j->process);
	uv_close((uv_handle_t *)&j->tick, on_tick_closed);
}

static void signal_group(struct job *j, enum job_state to, int signal)
{
	j->left = true;
	child_group_signal(j->process.pid, signal);
	job_enter(j, to);
}

/* In a stop the group has until job_kill(). With JOB_FORWARD_GROUP it received SIGTERM already, and
 * with JOB_FORWARD_NONE the sender signals all processes. */
static void stop_group(struct job *j)
{
	if (j->opts.forward == JOB_FORWARD_COMMAND && !j->sigterm_forwarded)
		child_group_signal(j->process.pid, SIGTERM);
	job_enter(j, JOB_TERMINATES);
}

static void on_tick(uv_timer_t *h)
{
	struct job *j = h->data;
	uint64_t for_ms = uv_now(j->opts.loop) - j->entered_ms;

	if (child_group_is_gone(j->process.pid) ||
		(j->state == JOB_KILLS && for_ms >= LOST_AFTER_MS)) {
		job_enter(j, JOB_GONE);
		job_close(j);
	} else if (j->state == JOB_WAITS && j->stopping) {
		stop_group(j);
	} else if (j->state == JOB_WAITS && for_ms >= j->opts.group_wait_ms) {
		signal_group(j, JOB_TERMINATES, SIGTERM);
	} else if (j->state == JOB_TERMINATES && !j->stopping && for_ms >= KILL_AFTER_MS) {
		signal_group(j, JOB_KILLS, SIGKILL);
	}
}

static void on_end(struct reaped *r, int wait_status)
{
	struct job *j = container_of(r, struct job, process);

	if (terminal_belongs_to(&j->terminal, j->process.pid))
		terminal_give(&j->terminal, 0);
	job_enter(j, JOB_WAITS);
	uv_timer_start(&j->tick, on_tick, 0, TICK_MS);
	j->opts.on_end(j->opts.ctx, wait_status);
}

void job_stop(struct job *j)
{
	j->stopping = true;
}

pid_t job_group(const struct job *j)
{
	return j->process.pid;
}

void job_kill(struct job *j)
{
	if (j->state == JOB_GONE)
		return;
	child_group_signal(j->process.pid, SIGKILL);
	if (j->state != JOB_RUNS)
		signal_group(j, JOB_KILLS, SIGKILL);
}

/* Job control. */

static void continue_command(struct job *j)
{
	if (terminal_belongs_to(&j->terminal, 0) && terminal_is_interactive())
		terminal_give(&j->terminal, j->process.pid);
	j->stopped = false;
	child_group_signal(j->process.pid, SIGCONT);
}

/* Whether it stopped because it needs the terminal, which the agent can pass to it. */
static bool wants_the_terminal(const struct job *j, int signal)
{
	return (signal == SIGTTIN || signal == SIGTTOU) && terminal_belongs_to(&j->terminal, 0);
}

/* The shell that started the agent does not know the command: it sees a stopped job only if the
 * agent stops, too. Where nobody could continue the agent, Ctrl-Z would stop the run forever, so
 * the command is continued. */
static void on_stop(struct reaped *r, int signal)
{
	struct job *j = container_of(r, struct job, process);
	bool had_terminal = terminal_belongs_to(&j->terminal, j->process.pid);

	j->stopped = true;
	if (signal == SIGSTOP)
		return; /* the sender will continue it */
	if (wants_the_terminal(j, signal)) {
		terminal_give(&j->terminal, j->process.pid);
		j->stopped = false;
		child_group_signal(j->process.pid, SIGCONT);
		return;
	}
	if (had_terminal)
		terminal_give(&j->terminal, 0);
	if (!signals_stop_here(signal, had_terminal) && had_terminal)
		continue_command(j);
}

/* Signals. */

static void forward(const struct job *j, const struct signalfd_siginfo *info)
{
	pid_t pid = j->process.pid;
	int signal = (int)info->ssi_signo;

	if (j->opts.forward == JOB_FORWARD_GROUP)
		kill(-pid, signal);
	else if (info->ssi_code == SI_QUEUE)
		sigqueue(
			pid, signal, (union sigval){.sival_ptr = (void *)(uintptr_t)info->ssi_ptr});
	else
		kill(pid, signal);
}

static void pass_to_group(struct job *j, int signal)
{
	j->sigterm_forwarded |= signal == SIGTERM;
	child_group_signal(j->process.pid, signal);
}

void job_signal(struct job *j, const struct signalfd_siginfo *info)
{
	if (j->state == JOB_GONE)
		return;
	if (j->state == JOB_RUNS && info->ssi_signo == SIGCONT && j->stopped)
		continue_command(j);
	else if (j->opts.forward == JOB_FORWARD_NONE)
		return;
	else if (j->state == JOB_RUNS)
		forward(j, info);
	else
		pass_to_group(j, (int)info->ssi_signo);
}

/* Early signals. */

/* A process's signals: signal n is bit n - 1, as in /proc/PID/status (proc(5)). */
struct process_signals {
	uint64_t handled; /* caught, ignored, or waited for by sigwait() */
	uint64_t blocked; /* perhaps only briefly: fork() of the C library blocks all */
};

static void add_mask(const char *line, const char *name, uint64_t *to)
{
	size_t len = strlen(name);

	if (strncmp(line, name, len) == 0)
		*to |= strtoull(line + len, NULL, 16);
}

/* In sigwait() a process does not block the signals that it waits for; they are only in the
 * argument of the system call. Returns 0 where the argument must not be read. */
static uint64_t read_sigwait_set(pid_t pid)
{
	_free_ char *path = text_format("/proc/%ld/syscall", (long)pid);
	_fclose_ FILE *f = fopen(path, "re");
	unsigned long set;
	uint64_t signals = 0;
	long number;

	if (f == NULL || fscanf(f, "%ld %lx", &number, &set) != 2 || number != SYS_rt_sigtimedwait)
		return 0;
	const struct iovec to = {&signals, sizeof(signals)};
	const struct iovec from = {
		(void *)set, sizeof(signals)}; /* NOLINT(performance-no-int-to-ptr) */

	return process_vm_readv(pid, &to, 1, &from, 1, 0) == (ssize_t)sizeof(signals) ? signals : 0;
}

/* Stores zeros when the process is gone. */
static void read_signals(pid_t pid, struct process_signals *ret)
{
	_free_ char *path = text_format("/proc/%ld/status", (long)pid);
	_fclose_ FILE *f = fopen(path, "re");
	char line[1024];

	*ret = (struct process_signals){.handled = read_sigwait_set(pid)};
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		add_mask(line, "SigIgn:", &ret->handled);
		add_mask(line, "SigCgt:", &ret->handled);
		add_mask(line, "SigBlk:", &ret->blocked);
	}
}

static bool has_harmless_default(int signal)
{
	return signal == SIGWINCH || signal == SIGURG;
}

/* A signal that is blocked at three checks in a row is meant for another thread or a signalfd. */
static uint64_t read_handled(struct job *j)
{
	struct process_signals now;
	uint64_t waited_for;

	read_signals(j->process.pid, &now);
	waited_for = now.blocked & j->blocked[0] & j->blocked[1];
	j->blocked[1] = j->blocked[0];
	j->blocked[0] = now.blocked;
	return now.handled | waited_for;
}

static void deliver_early(struct job *j)
{
	uint64_t handled = read_handled(j);
	size_t kept = 0;

	for (size_t i = 0; i < j->n_early; i++) {
		int signal = (int)j->early[i].ssi_signo;

		if (has_harmless_default(signal) || (handled >> (signal - 1) & 1) != 0)
			forward(j, &j->early[i]);
		else
			j->early[kept++] = j->early[i];
	}
	j->n_early = kept;
}

static void on_early_check(uv_timer_t *h)
{
	struct job *j = h->data;

	deliver_early(j);
	if (j->n_early == 0)
		return;
	j->early_ms = j->early_ms * 2 < EARLY_MAX_MS ? j->early_ms * 2 : EARLY_MAX_MS;
	uv_timer_start(&j->tick, on_early_check, j->early_ms, 0);
}

void job_signal_early(struct job *j, const struct signalfd_siginfo *info, size_t n)
{
	if (n == 0 || j->state != JOB_RUNS)
		return;
	j->early = zalloc(n * sizeof(*j->early));
	memcpy(j->early, info, n * sizeof(*j->early));
	j->n_early = n;
	j->early_ms = EARLY_MS;
	on_early_check(&j->tick);
}

/* The start. */

static bool takes_the_terminal(const struct job *j)
{
	return terminal_is_interactive() && terminal_belongs_to(&j->terminal, 0);
}

static int spawn_command(
	struct job *j, const struct job_options *opts, int *ret_exit_code, struct error *err)
{
	int terminal_fd = takes_the_terminal(j) ? j->terminal.fd : -1;
	const struct spawn_options spawning = {.argv = opts->argv,
		.env = opts->env,
		.inherited = opts->inherited,
		.as_job = true,
		.terminal_fd = terminal_fd};
	int code = spawn(&spawning, &j->process.pid, ret_exit_code, err);

	if (code < 0 && terminal_fd >= 0)
		terminal_give(&j->terminal, 0);
	return code;
}

int job_start(
	const struct job_options *opts, struct job **ret, int *ret_exit_code, struct error *err)
{
	struct job *j = zalloc(sizeof(*j));
	int code;

	*ret_exit_code = EXIT_NOT_EXECUTABLE;
	j->opts = *opts;
	j->opts.argv = j->opts.env = NULL;
	j->process.on_end = on_end;
	j->process.on_stop = on_stop;
	code = reap_watch(opts->loop, &j->process, err);
	if (code < 0) {
		job_free(j);
		return code;
	}
	terminal_open(&j->terminal);
	uv_timer_init(opts->loop, &j->tick);
	j->tick.data = j;
	code = spawn_command(j, opts, ret_exit_code, err);
	if (code < 0) {
		job_close(j);
		return code;
	}
	*ret = j;
	return 0;
}

/* Memory of a parent that only waits. */

/* The kernel reads the code and constants of a library from its file again when they are used.
 * Memory that was written to lies in segments with PF_W. */
static int drop_code(struct dl_phdr_info *library, size_t size, void *ctx)
{
	const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

	(void)size;
	(void)ctx;
	for (int i = 0; i < library->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &library->dlpi_phdr[i];
		uintptr_t from = library->dlpi_addr + segment->p_vaddr;
		uintptr_t start = from & ~(page - 1);

		if (segment->p_type == PT_LOAD && (segment->p_flags & PF_W) == 0)
			madvise((void *)start, from + segment->p_memsz - start, MADV_DONTNEED);
	}
	return 0;
}

void process_trim(void)
{
	malloc_trim(0);
	dl_iterate_phdr(drop_code, NULL);
}
