/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REPORT_H
#define STAGERUN_REPORT_H

#include "progress.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* What a person, or the machine that reads the log, is told about the stages: a live line for each
 * source while it is staged, one sentence when it is done, and the reason of a failed run in the file
 * where a cluster looks for it. */

typedef struct uv_loop_s uv_loop_t;

/* Loop thread. The live display on the terminal fd, redrawn ten times a second; it goes out of the way
 * of log lines of any thread. NULL when fd is no terminal, TERM is "dumb" or unset, or NO_COLOR is set
 * and not empty: everything below accepts NULL. One at a time. */
struct display;

struct display *display_new(uv_loop_t *loop, int fd);
void display_add(struct display *d, const struct progress *p); /* p until display_remove() */
void display_remove(struct display *d, const struct progress *p);
void display_close(struct display *d); /* clears it off the terminal; its memory goes by the loop */

/* What a stage mostly waited for. */
enum bottleneck {
	WAITED_LITTLE,      /* none of them took a tenth of the time */
	WAITED_FOR_NETWORK, /* more than half of the time no bytes had arrived */
	WAITED_FOR_DECODING, /* the unpacker slept for want of decoded bytes, more than the disk took */
	WAITED_FOR_DISK,
};

/* network_ns, decode_ns and disk_ns as in struct progress, within wall_ns. */
enum bottleneck bottleneck_of(
	uint64_t network_ns, uint64_t decode_ns, uint64_t disk_ns, uint64_t wall_ns);
const char *bottleneck_name(enum bottleneck b); /* "little", "network", "decode", "disk" */

/* Any thread. The one line about a source that was published in the directory to: its size, time and
 * rate and what it waited for. format as in "tar.gz", or NULL. warm: it was there already. */
void report_source_done(const struct progress *p, const char *to, const char *format,
	uint64_t elapsed_ns, bool warm);

/* It came out of the node cache: how, as in "symlink". */
void report_source_cached(const struct progress *p, const char *to, const char *how);

/* How a run ended, in a word for machines: "reason" of the termination message. */
#define END_REASONS(X) \
	X(END_COMPLETED, "completed") /* the command exited with 0 */ \
	X(END_FAILED, "failed")       /* with something else */ \
	X(END_SIGNALED, "signaled")   /* a signal killed it that nobody sent through the agent */ \
	X(END_OOM_KILLED, "oom_killed")     /* the kernel killed it for memory */ \
	X(END_TERMINATED, "terminated")     /* the agent was asked to end */ \
	X(END_START_FAILED, "start_failed") /* it was never started */

enum end_reason {
#define X(id, name) id,
	END_REASONS(X)
#undef X
};

const char *end_reason_name(enum end_reason reason);

/* How a run ended, for the termination message file. Strings may be NULL: left out. */
struct termination {
	const char *phase; /* "config", "stage", "start", "exec", "command" */
	const char *item;  /* the source, action, hook or file that it was about (error_item()) */
	int exit_code;     /* the agent's */
	int signal;        /* that ended the run, or 0 */
	enum end_reason reason;
	const char *message; /* the sentence */
};

/* Writes t to path as one line of JSON: valid UTF-8, 4096 bytes at most (what Kubernetes keeps), the
 * message shortened to fit. Only into a file that exists, unless create. NULL and "" are no file. Never
 * fails the run: at most it warns. */
void termination_message(const char *path, bool create, const struct termination *t);

/* What the file was like before the command was started, to see afterwards whether the command wrote
 * a reason of its own: then that one stays. */
struct termination_mark {
	bool exists;
	struct stat st;
};

/* path as for termination_message(). */
void termination_remember(const char *path, struct termination_mark *ret);

/* Whether the file holds something, and was written to, or replaced, since. What was written to a pipe
 * or a device cannot be told: false. */
bool termination_was_written(const char *path, const struct termination_mark *since);

#endif
