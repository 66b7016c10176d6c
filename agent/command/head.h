/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HEAD_H
#define STAGERUN_HEAD_H

#include "agent.h"
#include "dependencies.h"

/* What comes before the first shell action, as steps of the agent. Loop thread. d may be NULL: nothing is
 * installed. environment: the run's. 0, or the failure; -ECANCELED after a signal. */

/* Before anything is staged: can d be installed at all? */
int agent_check_dependencies(struct agent *a, const struct dependencies *d,
	const struct strings *environment, struct error *err);

/* Stages all n and installs d, at once; when one fails, the other is cancelled. Reasons were logged. */
int agent_head(struct agent *a, const struct stage_spec *specs, size_t n,
	const struct dependencies *d, const struct strings *environment, struct error *err);

#endif
