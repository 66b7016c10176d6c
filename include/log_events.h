/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_LOG_EVENTS_H
#define STAGERUN_LOG_EVENTS_H

/* What a line of the log is about, as a word for programs: the member "event" of a JSON line. The
 * section EVENTS of stagerun(1) describes each of them, with its members. */
#define LOG_EVENTS(X) \
	X(MESSAGE, "message") /* a line without an event of its own */ \
	X(STAGE_STARTED, "stage_started") \
	X(STAGE_PROGRESS, "stage_progress") \
	X(STAGE_RETRIED, "stage_retried") \
	X(STAGE_STALLED, "stage_stalled") \
	X(STAGE_DONE, "stage_done") \
	X(DATASTORE_STAGED, "datastore_staged") \
	X(READY, "ready") /* the start of a run has ended */

enum log_event {
#define X(id, name) EVENT_##id,
	LOG_EVENTS(X)
#undef X
};

#endif
