/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_JOB_H
#define STAGERUN_JOB_H

#include "process.h"
#include <sys/signalfd.h>

/* The command as a child of an agent that outlives it: the signals to forward, the terminal, the
 * command's process group, and the orphans that it leaves. Loop thread only. */

/* Signals as events of the loop. The watched signals are blocked in the calling thread, and in the
 * threads that it starts from then on, until inherited_restore(), so that none is lost. */

struct signals;

/* on_signal is called from the loop or from signals_dispatch(). Returns 0 or a negative code. */
int signals_open(uv_loop_t *loop, const sigset_t *which,
	void (*on_signal)(void *ctx, const struct signalfd_siginfo *info), void *ctx,
	struct signals **ret, struct error *err);
void signals_dispatch(
	struct signals *s); /* delivers the pending signals now, without running the loop */
/* The signals stay blocked. The loop frees s, so it must run after this. */
void signals_close(struct signals *s);

/* The signals that a parent forwards: all except SIGKILL, SIGSTOP, SIGCHLD, the two that the C
 * library reserves, and those that were ignored when this process was started. Blocking SIGSEGV and
 * the like does no harm: the kernel kills a process that causes one of these itself even if it is
 * blocked. */
void signals_forwardable(const struct inherited *in, sigset_t *ret);

/* Stops this process (or_group: its whole process group) as the default action of the signal
 * (SIGTSTP, SIGTTIN or SIGTTOU) would. Returns true after it was continued, and false at once when
 * it could not be stopped because nobody could continue it (as PID 1, or without a shell with job
 * control). */
bool signals_stop_here(int signal, bool or_group);

/* The command: it runs in its own process group, with the agent's standard streams, and in the
 * foreground of the terminal if the agent was in the foreground. */

struct job;

/* Where job_signal() forwards signals to. */
enum job_forward {
	JOB_FORWARD_COMMAND,
	JOB_FORWARD_GROUP, /* the command's whole process group */
	JOB_FORWARD_NONE,  /* nowhere: the sender signals the command itself, too */
};

struct job_options {
	uv_loop_t *loop;
	char *const *argv;
	char *const *env;
	const struct inherited *inherited;
	enum job_forward forward;
	uint64_t group_wait_ms; /* how long its group may run on after the command has ended */
	/* Called once, from the loop, when the command has ended. The agent has the terminal again.
	 * The rest of the group gets SIGTERM after group_wait_ms, and SIGKILL 1 s later. */
	void (*on_end)(void *ctx, int wait_status);
	/* Called once, from the loop, as the last callback: no process of the group runs any more.
	 * left: SIGTERM or SIGKILL was sent to the rest of the group. */
	void (*on_gone)(void *ctx, bool left);
	void *ctx;
};

/* opts is copied; only inherited and ctx must stay valid. On failure returns a negative code, calls
 * no callback, and *ret_exit_code and err are as process_exec() sets them. */
int job_start(
	const struct job_options *opts, struct job **ret, int *ret_exit_code, struct error *err);

/* Forwards a signal that this process received, as opts.forward says; after the command has ended,
 * to the rest of its group. SIGCONT also continues a stopped command, in the foreground of the
 * terminal if the agent is in the foreground. */
void job_signal(struct job *j, const struct signalfd_siginfo *info);

/* Forwards signals (copied) that arrived before the command was started. Each is held back until
 * the command catches or ignores it, or blocks it to wait for it: the default action would end a
 * program that has not yet installed its handlers. */
void job_signal_early(struct job *j, const struct signalfd_siginfo *info, size_t n);

/* Stops the run, within a time budget that the caller enforces. Once the command has ended, the
 * rest of its group gets SIGTERM at once, not after group_wait_ms, and SIGKILL only by job_kill().
 * With JOB_FORWARD_GROUP and JOB_FORWARD_NONE no SIGTERM is sent, because the group already
 * received it. */
void job_stop(struct job *j);
pid_t job_group(const struct job *j);
void job_kill(struct job *j); /* sends SIGKILL to its whole group */
void job_free(struct job *j); /* in or after on_gone; accepts NULL */

/* Returns memory that a parent which only waits does not need to the kernel: the free heap, and the
 * pages of code and constants. No other thread may run. */
void process_trim(void);

/* Orphans: processes that descendants of this process leave behind become its children, because it
 * is PID 1 or a sub-reaper, and are waited for as soon as they end. At most once per loop. Returns
 * 0 or a negative code. */
int process_orphans_adopt(uv_loop_t *loop, struct error *err);
void process_orphans_leave(uv_loop_t *loop);

/* Sends the signal to every descendant of this process; as PID 1 to every process. */
void process_orphans_signal(int signal);

/* Sends the signal to the descendants of this process outside of that process group. Returns how
 * many processes it was sent to. */
size_t process_orphans_signal_outside(pid_t group, int signal);
bool process_orphans_are_gone(void); /* this process has no child left */

#endif
