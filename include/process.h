/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_H
#define STAGERUN_PROCESS_H

#include "error.h"
#include "text.h"
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Child processes and the final exec. A child starts with what the agent itself was started with
 * (signal dispositions and mask, umask, limits), not with what the agent made of it. Own fork/exec:
 * uv_spawn has no process group of its own choosing and would own SIGCHLD. Loop thread only. */

typedef struct uv_loop_s uv_loop_t;

/* What the agent inherited. Taken first thing in main(), before anything changes it. */
struct inherited {
	sigset_t mask;
	struct sigaction actions[65]; /* by signal number; handlers cannot be inherited */
	mode_t umask;
	struct rlimit nofile;
};

/* Also makes of this process what the agent wants: umask 0, SIGPIPE ignored, SIGCHLD not but blocked (the
 * reaper reads it), and as PID 1 everything blocked that may be heard later; more open files where the
 * hard limit allows, and /dev/null (close-on-exec) in the place of a standard stream that was closed. */
void inherited_take(struct inherited *in);
void inherited_restore(
	const struct inherited *in); /* async-signal-safe: used between fork and exec */

/* From here on this thread, and all that it starts, lets others go first: nice 10, and the lowest best-effort
 * priority for the disk. */
int process_make_way(struct error *err);

/* Replaces this process by the command: never returns on success. env NULL-terminated. On failure
 * the exit code for it: 127 not found, 126 cannot be executed; err says why and where it was looked
 * for (PATH of env, as the shell would: a name with '/' is used as it is; a script without #! is
 * run by /bin/sh). After a failure all that is left to do is to say so and exit: what was inherited
 * has been restored. */
int process_exec(
	const struct inherited *in, char *const argv[], char *const env[], struct error *err);

/* The program that process_exec() would run for name, as a path on the heap; NULL: none. */
char *process_find(const char *name, char *const env[]);

struct child;

struct child_end {
	int wait_status; /* as of waitpid(2) */
	bool timed_out;
	bool left_processes; /* some of its group outlived it, and were killed */
};

struct child_options {
	char *const *argv;
	char *const *env;
	const char *cwd; /* NULL: this one's */
	const struct inherited *inherited;
	uint64_t timeout_ms; /* 0: none; then as child_kill(SIGTERM) */
	/* Called for each line of stdout and stderr (without its newline; partial last lines too;
	 * lines over 64 KiB in pieces), or NULL: both are inherited, bytes pass as they come. */
	void (*on_line)(void *ctx, const char *line, size_t len);
	/* Once, from the loop, after all output was delivered. Its process group is gone by then:
	 * what it left behind got SIGTERM, and SIGKILL 1 s later. Only a process that made a
	 * session of its own (setsid) stays; its later output is not waited for. */
	void (*on_exit)(void *ctx, const struct child_end *end);
	void *ctx;
};

/* Starts a child in a session, and so a process group, of its own, reading /dev/null: it can
 * neither eat the command's input nor be stopped for asking a terminal that is not its. What opts
 * points to is not needed after this, inherited and ctx aside. The failure of exec itself is
 * reported here. */
int child_start(
	uv_loop_t *loop, const struct child_options *opts, struct child **ret, struct error *err);

/* To its whole group. The first SIGTERM is followed by SIGKILL 5 s later. */
void child_kill(struct child *c, int signal);
void child_free(struct child *c); /* in or after on_exit; accepts NULL */

/* "exit status 3", "signal 9 (Killed)". Heap string. */
char *describe_wait_status(int wait_status);
/* The shell's code for it: the status, or 128+n. */
int wait_status_code(int wait_status);

/* An environment that is edited before it is given to a child: NAME=VALUE strings. */
void environment_copy(struct strings *ret, char *const *env);
void environment_set(struct strings *env, const char *name, const char *value);
void environment_unset(struct strings *env, const char *name);
const char *environment_get(const struct strings *env, const char *name); /* NULL: not set */

#endif
