/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_JOB_H
#define STAGERUN_JOB_H

#include "process.h"
#include <sys/signalfd.h>

/* The command as a child of an agent that outlives it: its signals, its terminal, its group, and the
 * orphans it makes. Loop thread only. */

/* Signals as events of the loop. Those watched are blocked in this thread, and in those that it starts
 * from then on, until inherited_restore(): nothing is lost in between. */

struct signals;

/* on_signal: from the loop, or from signals_hear(). */
int signals_open(uv_loop_t *loop, const sigset_t *which,
	void (*on_signal)(void *ctx, const struct signalfd_siginfo *info), void *ctx,
	struct signals **ret, struct error *err);
void signals_hear(struct signals *s); /* those that came, now, without the loop */
/* Whether the loop goes on for their sake; not, at first. */
void signals_hold_loop(struct signals *s, bool hold);
void signals_close(struct signals *s); /* they stay blocked; its memory goes by the loop */

/* What a parent passes on: all but SIGKILL, SIGSTOP, SIGCHLD, the two that the C library keeps to itself,
 * and what was ignored when this process was started. A fault of our own ends us all the same: the kernel
 * does not ask whether its signal is blocked. */
void signals_forwardable(const struct inherited *in, sigset_t *ret);

/* This process (its whole group: or_group) stops as if the signal had its default action: SIGTSTP, SIGTTIN
 * or SIGTTOU. Returns when it was continued: true; at once when nobody could continue it (as PID 1,
 * or without a shell that knows of jobs): false. */
bool signals_stop_here(int signal, bool or_group);

/* The command: a process group of its own, with our standard streams, in the foreground of the terminal
 * where we are. */

struct job;

struct job_options {
	uv_loop_t *loop;
	char *const *argv;
	char *const *env;
	const struct inherited *inherited;
	bool forward_group;     /* signals go to the whole group, not to the command alone */
	uint64_t group_wait_ms; /* what its group has, once it has ended, to end by itself */
	/* From the loop, once: the command has ended. The terminal is ours again; what is left of its group
	 * has group_wait_ms, then SIGTERM, and SIGKILL 1 s later. */
	void (*on_end)(void *ctx, int wait_status);
	/* From the loop, last, once: nothing of its group runs any more. left: some of it was told to end. */
	void (*on_gone)(void *ctx, bool left);
	void *ctx;
};

/* On failure the exit code for it as of process_exec(), in the same words, and no callback. What opts
 * points to is not needed after this, inherited and ctx aside. */
int job_start(
	const struct job_options *opts, struct job **ret, int *ret_exit_code, struct error *err);

/* Passes on a signal that came to us: to the command, or as forward_group says; once it has ended, to what
 * is left of its group. SIGCONT gives it the terminal again, if that is ours. */
void job_signal(struct job *j, const struct signalfd_siginfo *info);
void job_kill(struct job *j); /* SIGKILL to all of its group */
void job_free(struct job *j); /* in or after on_gone; accepts NULL */

/* Gives back the memory that a parent which only waits does not need: free heap, code and constants. */
void process_trim(void);

/* Orphans: what our descendants leave behind becomes our child, as PID 1 or as sub-reaper, and is waited
 * for at once when it ends. Once on a loop. */
int orphans_adopt(uv_loop_t *loop, struct error *err);
void orphans_leave(uv_loop_t *loop);

/* Sends the signal to all that is left below this process; as PID 1 to everything there is. */
void orphans_signal(int signal);
bool orphans_are_gone(void); /* no child is left */

#endif
