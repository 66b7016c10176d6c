/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REPORT_PROGRESS_LINES_H
#define STAGERUN_REPORT_PROGRESS_LINES_H

#include "meter.h"

/* Progress as log lines. as_json: they are JSON objects also where the log is text. Loop thread. */

/* Logs that the source has started, as soon as its size is known, but at the latest after a
 * second. */
void progress_lines_start(struct meter *m, uint64_t at_ns, bool as_json);

/* Logs an incident of the source, such as a failed attempt, and when no bytes arrive any more. */
void progress_lines_incidents(struct meter *m, uint64_t at_ns, bool as_json);

/* Logs one line about all that are active. */
void progress_lines_heartbeat(const struct meter *meters, size_t n, bool as_json);

#endif
