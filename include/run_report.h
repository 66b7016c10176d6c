/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RUN_REPORT_H
#define STAGERUN_RUN_REPORT_H

#include "error.h"

/* Reports of a whole run, made from its timeline at its end: for programs (JSON; the schema is in
 * docs/report.md), for trace viewers (Chrome's trace event format, which Perfetto opens) and for
 * people (one page of HTML, without a script and without anything from the network). Names in a
 * timeline are from outside and may contain any bytes. Loop thread. */

struct timeline;

/* Returns -ERR_USAGE, naming the endings that there are, if the name of the file does not say what
 * it shall be: .json, .trace.json or .html. Names in /dev without an ending are JSON. */
int report_check_path(const char *path, struct error *err);

/* Writes the report. A regular file appears whole, by a rename; anything else, such as /dev/stdout
 * or a pipe, is written to. A failure is logged as a warning. */
void report_write(const char *path, struct timeline *t);

#endif
