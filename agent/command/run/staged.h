/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_COMMAND_STAGED_H
#define STAGERUN_COMMAND_STAGED_H

#include "report.h"
#include "stage.h"

/* What a run has staged, for its termination message. Loop thread. Zero-initialized by the
 * caller. */
struct staged {
	struct termination_source *v; /* its strings are on the heap */
	size_t n;
};

/* As stage_env.on_result, with a struct staged as ctx: adds each source of a stage that
 * succeeded. */
void staged_add(void *staged, const struct stage_result *r);
void staged_done(struct staged *s);

#endif
