/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SUMMARY_H
#define STAGERUN_SUMMARY_H

#include "stage.h"

/* What a prewarm, or one round of it, came to: one line of JSON for schedulers. Loop thread. */

struct summary {
	struct text destinations; /* JSON, without the brackets */
	unsigned ends[5];         /* how many of each enum stage_end */
	uint64_t received, bytes, entries;
	uint64_t began_ns;
};

void summary_begin(struct summary *s); /* also for the next round */
void summary_add(void *summary, const struct stage_result *r);
/* exit_code: what the process ends with, or would. reason: of a failure; NULL or "": none. */
char *summary_text(const struct summary *s, int exit_code, const char *reason);
void summary_done(struct summary *s);

#endif
