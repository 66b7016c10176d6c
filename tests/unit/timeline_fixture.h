/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_TIMELINE_FIXTURE_H
#define STAGERUN_TEST_TIMELINE_FIXTURE_H

#include "timeline.h"

/* Timelines of runs that never were, to look at what is made of them. Owned by the caller. */

/* Three sources, of which the largest waits for the network for 41 of 48.2 seconds. */
struct timeline *timeline_of_cold_start(void);
/* One source with small files, on a slow disk. */
struct timeline *timeline_of_slow_disk(void);
/* Everything was there already. */
struct timeline *timeline_of_warm_start(void);
/* One of two sources is not there; the other is cancelled. */
struct timeline *timeline_of_failed_start(void);
/* One source, action, holder and warning, each of whose texts is hostile. */
struct timeline *timeline_of_hostile_names(void);

struct timeline_sample {
	const char *name;
	struct timeline *(*make)(void);
};

/* All of them; the last one has no name. */
extern const struct timeline_sample timeline_samples[];

#endif
