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
	X(STAGE_FAILED, "stage_failed") \
	X(STAGE_WAITS, "stage_waits") \
	X(HOST_LATE, "host_late") \
	X(ACTION_STARTED, "action_started") \
	X(ACTION_DONE, "action_done") \
	X(HOOK_STARTED, "hook_started") \
	X(HOOK_DONE, "hook_done") \
	X(DEPENDENCIES_STARTED, "dependencies_started") \
	X(DEPENDENCIES_DONE, "dependencies_done") \
	X(START_FAILED, "start_failed") \
	X(COMMAND_STARTED, "command_started") \
	X(COMMAND_ENDED, "command_ended") \
	X(CACHE_USED, "cache_used") \
	X(CACHE_FILLED, "cache_filled") \
	X(CACHE_EVICTED, "cache_evicted") \
	X(DATASTORE_CREATED, "datastore_created") \
	X(DATASTORE_STAGED, "datastore_staged") \
	X(DATASTORE_DELETED, "datastore_deleted") \
	X(DATASTORE_COLLECTED, "datastore_collected") \
	X(DATASTORE_PURGED, "datastore_purged") \
	X(READY, "ready")

enum log_event {
#define X(id, name) EVENT_##id,
	LOG_EVENTS(X)
#undef X
};

#endif
