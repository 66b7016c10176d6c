/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_PRIVATE_H
#define STAGERUN_PROCESS_PRIVATE_H

#include "error.h"
#include "process.h"
#include "text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

/* Child processes, the final exec, and the duties of PID 1. Loop thread only, where a declaration
 * does not say otherwise; the room starts no thread.
 *
 *   inherited.c    the state that this process was started with; the final exec
 *   program.c      search along PATH, exec, and the sentence about why exec failed
 *   spawn.c        fork and exec of one child
 *   child.c        a child with a time limit and captured output (actions, hooks, pip)
 *   job.c          the command as a child: terminal, stops, forwarded signals
 *   reap.c         SIGCHLD, waitpid(), orphans; what /proc says about processes
 *   signals.c      signals as events of the loop
 *   environment.c  NAME=VALUE lists */

/* --- inherited.c --- */

/* Restores everything but the descriptors. Async-signal-safe: used between fork and exec. */
void inherited_restore(const struct inherited *in);

/* --- signals.c --- */

/* Whether the handle keeps the loop running; initially it does not. */
struct signals;
void signals_hold_loop(struct signals *s, bool hold);

/* --- program.c --- */

enum { EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 }; /* as in a shell */

/* A program to execute. program_prepare() allocates everything before fork, so that program_exec()
 * is async-signal-safe. */
struct program {
	char *const *argv, *const *env; /* borrowed */
	char *known; /* borrowed; where it probably is, tried before the others; NULL: unknown */
	const char *cwd; /* borrowed; the directory it will run in; NULL: this process's */
	struct strings candidates; /* the paths to try, in PATH's order */
	char **shell_argv;         /* /bin/sh, a slot for the candidate, the arguments */
};

/* Why none of the candidates could be executed. Plain data: it is written to a pipe. */
struct exec_failure {
	int error;        /* errno */
	size_t candidate; /* if found: the index of the candidate that error is about */
	bool found;       /* a file exists, but could not be executed */
};

void program_prepare(struct program *p, char *const argv[], char *const env[], const char *cwd);
void program_done(struct program *p);

/* Async-signal-safe. Returns only when no candidate could be executed. */
struct exec_failure program_exec(struct program *p);

/* Stores a sentence about f in err. Returns the shell's exit code for it: 126 or 127. */
int program_explain(const struct program *p, const struct exec_failure *f, struct error *err);

/* --- spawn.c --- */

struct spawn_options {
	char *const *argv;
	char *const *env;
	const char *cwd; /* NULL: this process's */
	const struct inherited *inherited;
	/* true: the child gets its own process group in this session, and inherits the standard
	 * streams. false: it gets its own session, and /dev/null as standard input. */
	bool as_job;
	int terminal_fd; /* as_job: the child's group becomes its foreground group; -1: none */
	int output_fd;   /* not as_job: standard output and error; -1: inherited */
};

/* Forks and executes. Returns 0 once the program runs. When it could not be executed, returns a
 * negative code: there is no child then, and *ret_exit_code (may be NULL) is 126 or 127 as of
 * process_exec(). If neither is known after 2 s, or when an ending signal is pending, also returns
 * 0: if exec fails after that, the child writes the reason to its standard error and exits with
 * that code. */
int spawn(const struct spawn_options *opts, pid_t *ret_pid, int *ret_exit_code, struct error *err);

/* --- reap.c --- */

/* Every loop has at most one reaper, which owns loop->data. It is shared by all that watch a
 * process on this loop, and freed when the last of them calls reap_forget(). */

/* One watched process; embedded in the owner's struct. */
struct reaped {
	struct reaped *next;
	pid_t pid; /* 0: not started yet */
	/* Called once, from the loop: the process was waited for and is not watched any more.
	 * Status as of waitpid(2); exit status 255 when other code has already waited for it. */
	void (*on_end)(struct reaped *r, int wait_status);
	void (*on_stop)(struct reaped *r, int signal); /* each time it is stopped; may be NULL */
};

/* Call it before the fork, since the process may end at once, and set r->pid after the fork.
 * Returns 0 or a negative code. */
int reap_watch(uv_loop_t *loop, struct reaped *r, struct error *err);
/* Call it once for each reap_watch(), whether or not the process has ended. r is not accessed after
 * this. The loop must run after the last call, to close the reaper's handle. */
void reap_forget(uv_loop_t *loop, struct reaped *r);

struct process_stat {
	pid_t pid, parent, group;
	bool runs; /* it is no zombie, or a zombie whose other threads still run */
};

/* Reads /proc/PID/stat; pid is the number as text. Returns -1 when there is no such process. Any
 * thread. */
int process_stat_read(const char *pid, struct process_stat *ret);

/* --- child.c --- */

/* The process group that a child led; the child itself has been waited for. */

/* Whether no process of the group runs any more. Waits for those that are children of this
 * process. */
bool child_group_is_gone(pid_t group);

void child_group_signal(pid_t group, int signal);

#endif
