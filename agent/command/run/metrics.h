/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_COMMAND_METRICS_H
#define STAGERUN_COMMAND_METRICS_H

#include "cache.h"
#include "error.h"
#include "stage.h"
#include "text.h"
#include <stdint.h>

/* What prewarm has done, as a file for the textfile collector of Prometheus' node_exporter
 * (https://prometheus.io/docs/instrumenting/exposition_formats/). Counters continue from the file
 * that an earlier process wrote, since a prewarm that a timer starts has one round. Loop thread. */

enum { METRICS_SERIES_MAX = 32 };

struct metrics {
	const char *path; /* NULL: nothing is counted and written */
	double values[METRICS_SERIES_MAX];
	struct text destinations; /* the lines of the present round */
	bool any_failed;          /* a destination of the present round */
	uint64_t began_ns;        /* the present round */
	uint64_t evicted;         /* entries, as the cache counts them, up to the last round */
	bool has_cache;
};

/* The collector reads only files whose names end in ".prom"; NULL is valid. Returns 0 or
 * -ERR_USAGE. */
int metrics_check_path(const char *path, struct error *err);

/* path is borrowed; NULL: the functions below do nothing. Reads the counters of an earlier
 * process. */
void metrics_open(struct metrics *m, const char *path);
void metrics_close(struct metrics *m);

void metrics_begin_round(struct metrics *m);
void metrics_add(struct metrics *m, const struct stage_result *r);
/* code: 0, or why the round failed. c: the node cache, or NULL. Writes the file, which appears
 * whole by a rename; a failure is logged as a warning. */
void metrics_end_round(struct metrics *m, int code, const struct cache *c);

#endif
