/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RUN_STATUS_H
#define STAGERUN_RUN_STATUS_H

#include "progress.h"
#include "report.h"
#include "text.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a run is doing, as `stagerun status` shows it: each run has a small file in a state
 * directory, which it replaces by a rename. Its content is one line of JSON, which docs/status.md
 * describes. Nothing in it is secret, so that other users may read it. Any thread, but one at a
 * time for one object. */

/* The name of a phase in the file. */
#define RUN_PHASES(X) \
	X(PHASE_STAGE, "stage")     /* data is staged, dependencies are installed */ \
	X(PHASE_START, "start")     /* hooks and actions before the command */ \
	X(PHASE_COMMAND, "command") /* the command runs */ \
	X(PHASE_WAITING, "waiting") /* prewarm: until it looks at the sources again */ \
	X(PHASE_DONE, "done") \
	X(PHASE_FAILED, "failed")

enum run_phase {
#define X(id, name) id,
	RUN_PHASES(X)
#undef X
};

/* Sources beyond this number are only counted. */
enum { RUN_STATUS_SOURCES_MAX = 256, RUN_STATUS_EXIT_UNKNOWN = -1 };

struct run_status_source {
	char *name;
	char *to; /* NULL: there is none */
	enum progress_state state;
	uint64_t received, total; /* bytes; total is 0 while unknown */
	uint64_t bytes_per_second;
	double seconds_left; /* negative: not known */
	enum bottleneck waits_for;
};

/* The process of a run. A command that replaces the agent is the same process. */
struct run_status_process {
	pid_t pid;
	uint64_t start_ticks;   /* as in /proc/PID/stat; 0: not known */
	uint64_t pid_namespace; /* its inode number; 0: not known */
	char boot[40];          /* the kernel's boot_id; "": not known */
};

/* Times are RFC 3339 with nanoseconds, in UTC, so they compare as strings; "": none. */
enum { RUN_STATUS_TIME = 40 };

struct run_status {
	char id[48]; /* PID-START; the name of the file, without its ending */
	bool is_prewarm;
	struct run_status_process process;
	enum run_phase phase;
	char begun[RUN_STATUS_TIME], updated[RUN_STATUS_TIME];
	bool is_ready;      /* ready_ns is valid */
	uint64_t ready_ns;  /* from the beginning until the command or the end of prewarm */
	int exit_code;      /* once it has ended; RUN_STATUS_EXIT_UNKNOWN */
	char *failed_phase; /* as in the termination message; NULL: it did not fail */
	char *message;      /* the last error, one sentence; NULL: there was none */

	/* Of a prewarm that stays. */
	char last_round[RUN_STATUS_TIME], next_look[RUN_STATUS_TIME];
	bool round_failed;

	struct run_status_source *sources;
	size_t n_sources;
	uint64_t sources_total; /* with those that were left out */
};

void run_status_done(struct run_status *s); /* accepts a zeroed one */

/* Removes the sources but for the first n. */
void run_status_drop_sources(struct run_status *s, size_t n);
void run_status_add_source(struct run_status *s, const struct monitor_source *source);

/* CLOCK_REALTIME, after_ms from now. Returns ret. */
char *run_status_time(uint64_t after_ms, char ret[static RUN_STATUS_TIME]);
const char *run_status_phase_name(enum run_phase phase);

/* --- status_json.c --- */

enum run_alive { RUN_ALIVE_UNKNOWN = -1, RUN_DEAD = 0, RUN_ALIVE = 1 };

/* The line of JSON, without its end. alive: RUN_ALIVE_UNKNOWN leaves that member out, as in the
 * file. Heap. */
char *run_status_print(const struct run_status *s, enum run_alive alive);

/* Parses a file's content, which may be anything. Returns 0, and the caller frees *ret, or
 * -ERR_FORMAT. */
int run_status_parse(const char *bytes, size_t len, struct run_status *ret, struct error *err);

/* --- status_text.c --- */

/* Appends lines for people: one for the run, one for each source. */
void run_status_describe(const struct run_status *s, struct text *to);

/* --- status_process.c --- */

/* This process. */
void run_status_self(struct run_status_process *ret);
/* RUN_ALIVE_UNKNOWN: it is of another PID namespace than self. */
enum run_alive run_status_is_alive(
	const struct run_status_process *p, const struct run_status_process *self);
/* A dead run's phase becomes what is known of its end. */
void run_status_settle(struct run_status *s, enum run_alive alive);

/* --- status_directory.c --- */

/* Adds the places of state directories, the preferred one first. */
void run_status_places(struct strings *to);

/* Opens the directory. create: makes it if it is not there. It is never a link, belongs to this
 * user or (unless create) to root, and nobody else can write it. Returns a descriptor or -errno. */
int run_status_open_directory(const char *path, bool create);

/* Writes the file of the run id, whole. is_first: there is probably none yet; a reader may see a
 * part of it then, which he passes over. Returns 0 or -errno. */
int run_status_write(int directory_fd, const char *id, const char *line, bool is_first);

/* Reads all files that belong to this user or to root, and adds the runs to *ret; what is no status
 * is left out. */
struct run_status_list {
	struct run_status *v;
	size_t n;
};
void run_status_read(int directory_fd, struct run_status_list *ret);
void run_status_list_done(struct run_status_list *l);

/* Removes files of this user whose run is dead, and that are older than a day or not among the 20
 * newest. Of another PID namespace, where that is not known, those that were not written for an
 * hour and are not among the 20 newest. in_a_hurry: does nothing while there are at most 40 files,
 * and in 15 of 16 processes. */
void run_status_clean(int directory_fd, const struct run_status_process *self, bool in_a_hurry);

#endif
