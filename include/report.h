/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REPORT_H
#define STAGERUN_REPORT_H

#include "progress.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* Reports of stages and runs: the progress of each source while it is staged, one sentence in the
 * log when it is done, and the reason of a failed run in the file where a cluster looks for it. */

typedef struct uv_loop_s uv_loop_t;

/* What a stage spent most of its time waiting for. */
enum bottleneck {
	WAITED_LITTLE,      /* less than a tenth of the time for each */
	WAITED_FOR_NETWORK, /* no bytes arrived for more than half of the time */
	/* the unpacker waited for decoded bytes, and longer than for the disk */
	WAITED_FOR_DECODING,
	WAITED_FOR_DISK,
};

/* A source that is watched, as of the last tick. Strings are borrowed. */
struct monitor_source {
	const char *name; /* without secrets, valid UTF-8, no control characters */
	const char *to;   /* the destination; NULL: there is none */
	enum progress_state state;
	uint64_t received, total; /* bytes; total is 0 while unknown */
	double bytes_per_second;
	double seconds_left; /* negative: not known */
	enum bottleneck waits_for;
};

struct monitor_options {
	enum progress_mode mode;
	uint64_t interval_ms; /* between two lines */
	int fd;               /* the stream; borrowed */
	/* Called ten times a second, with NULL, and for each source that is removed. May be NULL;
	 * else there is a monitor also for PROGRESS_NONE. */
	void (*on_tick)(void *ctx, const struct monitor_source *removed);
	void *on_tick_ctx;
};

/* Shows the progress of sources: as a live display, redrawn ten times a second, or as a log line
 * when one starts, after 5 s, and once in every interval. On both, incidents are logged at once.
 * Loop thread. At most one monitor exists at a time. monitor_new() returns NULL for PROGRESS_NONE
 * without on_tick; the other functions accept NULL. */
struct monitor;

struct monitor *monitor_new(uv_loop_t *loop, const struct monitor_options *opts);
/* p is borrowed until monitor_remove() */
void monitor_add(struct monitor *m, struct progress *p);
void monitor_remove(struct monitor *m, const struct progress *p);
void monitor_close(struct monitor *m); /* erases the display; the loop frees it */

/* network_ns, decode_ns and disk_ns as in struct progress, during wall_ns. Any thread. */
enum bottleneck report_bottleneck(
	uint64_t network_ns, uint64_t decode_ns, uint64_t disk_ns, uint64_t wall_ns);
const char *report_bottleneck_name(enum bottleneck b); /* "little", "network", "decode", "disk" */

/* Calls each() for every source. */
void monitor_each(const struct monitor *m,
	void (*each)(void *ctx, const struct monitor_source *source), void *ctx);
/* Logs one line about all sources that are active. Returns false if there is none. */
bool monitor_print(const struct monitor *m);

/* Any thread. Logs the line about a source that was published in the directory to: size, time,
 * rate, and what it waited for. format: such as "tar.gz", or NULL. warm: it was there already. */
void report_source_done(const struct progress *p, const char *to, const char *format,
	uint64_t elapsed_ns, bool warm);

/* Any thread. Logs that a source was delivered from the node cache. how: such as "symlink". */
void report_source_cached(const struct progress *p, const char *to, const char *how);

/* How a run ended, as a word for machines: "reason" of the termination message. */
#define END_REASONS(X) \
	X(END_COMPLETED, "completed")       /* the command exited with 0 */ \
	X(END_FAILED, "failed")             /* with another status */ \
	X(END_SIGNALED, "signaled")         /* killed by a signal, not sent through the agent */ \
	X(END_OOM_KILLED, "oom_killed")     /* killed by the kernel for memory */ \
	X(END_TERMINATED, "terminated")     /* the agent was asked to end */ \
	X(END_START_FAILED, "start_failed") /* the command was never started */

enum end_reason {
#define X(id, name) id,
	END_REASONS(X)
#undef X
};

const char *report_reason_name(enum end_reason reason);

/* A source that was staged. */
struct termination_source {
	char *name;
	char *version;  /* NULL or "": not known */
	uint64_t bytes; /* received; 0 where all was there already */
	uint64_t ns;    /* how long it took */
};

/* No more of them could fit. */
enum { TERMINATION_SOURCES_MAX = 80 };

/* How a run ended, for the termination message. Strings are borrowed; NULL ones are left out. */
struct termination {
	const char *phase; /* "config", "stage", "start", "exec", "command" */
	const char *item;  /* the source, action, hook or file of the failure (error_item()) */
	int exit_code;     /* the agent's */
	int signal;        /* that ended the run, or 0 */
	enum end_reason reason;
	const char *message; /* a sentence */
	const struct termination_source *staged;
	size_t n_staged;
};

/* Loop thread. Writes t to the file path as one line of JSON: valid UTF-8, at most 4096 bytes (what
 * Kubernetes stores), with the message shortened to fit, and as many of the first sources as there
 * is room for. Without create, only an existing file is
 * written. If path is NULL or "", nothing is. Failures are logged as warnings. */
void termination_message(const char *path, bool create, const struct termination *t);

/* The state of the file before the command was started. If the command has written a reason of its
 * own, that one is not overwritten. */
struct termination_mark {
	bool exists;
	struct stat st;
};

/* path: as for termination_message(). */
void termination_remember(const char *path, struct termination_mark *ret);

/* Whether the file is not empty and was written or replaced since. False for a pipe or a device,
 * since it cannot be known. */
bool termination_was_written(const char *path, const struct termination_mark *since);

#endif
