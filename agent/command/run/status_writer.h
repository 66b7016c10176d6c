/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_COMMAND_STATUS_WRITER_H
#define STAGERUN_COMMAND_STATUS_WRITER_H

#include "../agent.h"
#include "run_status.h"

/* Writes what the run is doing to its file in the state directory, for `stagerun status`: each
 * phase at once, and progress once a second. Where no such file can be written there is none, and
 * one line of debugging. Loop thread. All functions do nothing before status_writer_open(). */
struct status_writer {
	bool opened;
	bool refused;              /* there is no state directory */
	int directory_fd;          /* -1 before the first write */
	const struct agent *agent; /* borrowed; NULL before status_writer_watch() */
	struct run_status status;
	uint64_t begin_ns, written_ns; /* CLOCK_MONOTONIC */
};

/* The run begins. Nothing is written yet, so a start without anything to do costs one write. */
void status_writer_open(struct status_writer *w, bool is_prewarm);
void status_writer_close(struct status_writer *w); /* accepts a zeroed one; the file stays */

/* After agent_open(): the progress of what the agent stages is written. */
void status_writer_watch(struct status_writer *w, struct agent *a);

/* The phase begins. PHASE_COMMAND: the start is done. */
void status_writer_enter(struct status_writer *w, enum run_phase phase);

/* A round of a prewarm that stays has ended. message: why it failed; NULL: it did not. */
void status_writer_round(struct status_writer *w, const char *message, uint64_t next_ms);

/* How it ended. phase and message are those of a failure. */
void status_writer_end(
	struct status_writer *w, int exit_code, const char *phase, const char *message);

#endif
