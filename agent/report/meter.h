/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REPORT_METER_H
#define STAGERUN_REPORT_METER_H

#include "progress.h"
#include "report.h"
#include "text.h"
#include <stdbool.h>

/* How fast one source is, and what it waits for: averages over some five seconds. Loop thread. */
struct meter {
	struct progress *progress; /* borrowed */
	char *name;                /* valid UTF-8 without control characters */

	uint64_t active_ns; /* when it was first seen active; 0: not yet */
	uint64_t grown_ns;  /* when its bytes were last seen to grow */

	/* As of the last sample. */
	uint64_t sampled_ns, received, network_ns, decode_ns, disk_ns;
	double bytes_per_second;
	double network, decode, disk; /* shares of the time that it waited, 0 to 1 */

	/* What was logged; for progress_lines.c. */
	bool start_logged, stall_logged;
	unsigned notes_logged;
	uint64_t note_logged_ns; /* when the last one was; 0: none */
};

void meter_init(struct meter *m, struct progress *p);
void meter_done(struct meter *m);

/* Updates the averages with what happened since the last sample. at_ns: now_ns(). */
void meter_sample(struct meter *m, uint64_t at_ns);

enum bottleneck meter_waits_for(const struct meter *m);

/* Seconds that the rest will take at this rate; negative: not known. */
double meter_seconds_left(const struct meter *m);

/* All sources together. */
struct meter_total {
	size_t queued, active, done;
	uint64_t received;
	uint64_t total; /* 0: not known of every source */
	double bytes_per_second;
	double seconds_left;         /* negative: not known */
	const struct meter *slowest; /* the active one that will take longest; NULL: none */
};

void meter_add_up(const struct meter *meters, size_t n, struct meter_total *ret);

/* Texts for people. "41%": percent of done in total, or "" where total is 0. "6.6 of 16.0 GB", or
 * "6.6 GB". "18 s left", or "". All heap. */
char *meter_print_percent(uint64_t done, uint64_t total);
char *meter_print_amount(uint64_t done, uint64_t total);
char *meter_print_left(double seconds);
char *meter_print_rate(double bytes_per_second);

#endif
