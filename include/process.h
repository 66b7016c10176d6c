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

/* Child processes, and the final exec that replaces the agent by the command. A child starts with
 * the signal dispositions, signal mask, umask, limits and descriptors that the agent itself
 * inherited, not with those that the agent set for itself. The agent calls fork and exec itself
 * because uv_spawn() cannot choose the process group and installs its own handler for SIGCHLD. Loop
 * thread only. */

typedef struct uv_loop_s uv_loop_t;

/* The process state that the agent inherited. inherited_record() is the first call in main(),
 * before anything changes that state. */
struct inherited {
	sigset_t mask;
	struct sigaction actions[65]; /* by signal number; handlers cannot be inherited */
	mode_t umask;
	struct rlimit nofile;
	int *descriptors; /* ascending, without the standard streams; never freed */
	size_t n_descriptors;
};

/* Records the state, then sets this process up for the agent: the umask is 0; SIGPIPE is ignored;
 * SIGCHLD has its default action and is blocked (the reaper reads it from a descriptor); PID 1 also
 * blocks every signal that the agent may read later; the limit of open files is raised to 65536, as
 * far as the hard limit allows; /dev/null (close-on-exec) replaces each standard stream that was
 * closed. */
void inherited_record(struct inherited *in);
/* Sets close-on-exec on every open descriptor that was not inherited, except for the standard
 * streams. Async-signal-safe. */
void inherited_seal(const struct inherited *in);

/* Lowers the priority of the calling thread and of the threads that it starts from now on: nice 10,
 * and the lowest best-effort I/O priority. Returns 0 or a negative code. */
int process_lower_priority(struct error *err);

/* Replaces this process by the command; does not return on success. env is NULL-terminated. The
 * program is searched for as a shell does: along PATH of env; a name with '/' is used as it is;
 * /bin/sh runs a script without #!. known: the path that process_check() returned, if nothing can
 * have changed since, which spares the search; NULL: unknown. Descriptors without close-on-exec are
 * passed on, so call inherited_seal() before. On failure returns the exit code, 127 (not found) or
 * 126 (cannot be executed), and err holds the reason and where the program was searched for. The
 * inherited state has been restored then, so the caller can only report the failure and exit. */
int process_exec(const struct inherited *in, char *const argv[], char *const env[], char *known,
	struct error *err);

/* Returns the path (heap) of the program that process_exec() would run for name; NULL: there is
 * none. */
char *process_find(const char *name, char *const env[]);

/* What process_exec() would return for the command, as far as the files show it without executing
 * one: 0: there is a program, which may still fail, and *ret_path (heap; ret_path may be NULL) is
 * its path; otherwise 127 or 126, and err is set as there. Any thread. */
int process_check(char *const argv[], char *const env[], char **ret_path, struct error *err);

/* Appends the paths that process_exec() would try for name, in their order. Any thread. */
void process_candidates(struct strings *to, const char *name, char *const env[]);

struct child;

struct child_end {
	int wait_status; /* as of waitpid(2) */
	bool timed_out;
	bool left_processes; /* its group outlived it, and was ended by signals */
};

struct child_options {
	char *const *argv;
	char *const *env;
	const char *cwd; /* NULL: this process's */
	const struct inherited *inherited;
	uint64_t timeout_ms; /* after this child_kill(SIGTERM) is called; 0: no limit */
	/* Called for each line of stdout and stderr, without its newline. The last line may lack
	 * its newline; a line over 64 KiB is delivered in pieces. NULL: the child inherits both
	 * streams. */
	void (*on_line)(void *ctx, const char *line, size_t len);
	/* Called once, from the loop, after all output was delivered. The child's process group has
	 * ended by then: the processes left in it got SIGTERM, and SIGKILL 1 s later. Only a
	 * process that created its own session (setsid) stays; its later output is not waited
	 * for. */
	void (*on_exit)(void *ctx, const struct child_end *end);
	void *ctx;
};

/* Starts a child in its own session, and so in its own process group, with /dev/null as its
 * standard input: it can neither consume the command's input nor be stopped for reading from a
 * terminal whose foreground it is not in. opts is copied; only inherited and ctx must stay valid.
 * Returns 0 or a negative code; the failure of exec itself is returned here, too. */
int child_start(
	uv_loop_t *loop, const struct child_options *opts, struct child **ret, struct error *err);

/* Sends the signal to the child's whole group. SIGKILL follows the first SIGTERM after 5 s. */
void child_kill(struct child *c, int signal);
void child_free(struct child *c); /* in or after on_exit; accepts NULL */

/* "exit status 3", "signal 9 (Killed)". Heap string. Any thread. */
char *process_describe_status(int wait_status);
/* The exit code that a shell would return for it: the status, or 128+n. Any thread. */
int process_status_code(int wait_status);

/* An environment that is edited before it is passed to a child: NAME=VALUE strings (heap; freed by
 * text_strings_done()). One thread at a time. */
void environment_copy(struct strings *ret, char *const *env);
void environment_set(struct strings *env, const char *name, const char *value);
void environment_unset(struct strings *env, const char *name);
const char *environment_get(
	const struct strings *env, const char *name); /* borrowed; NULL: not set */

#endif
