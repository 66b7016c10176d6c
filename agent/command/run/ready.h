/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_COMMAND_READY_H
#define STAGERUN_COMMAND_READY_H

#include <stdint.h>

/* What the start of a run was spent on, for one line at its end. Loop thread. */

struct stage_result;

struct ready {
	uint64_t begun_ns;        /* CLOCK_MONOTONIC */
	uint64_t dependencies_ns; /* 0: none were installed */
	uint64_t actions_ns;      /* 0: there were none */

	uint64_t bytes; /* that were brought into directories; 0: all was there already */
	/* What the stage waited for that took longest. */
	uint64_t stage_ns, network_ns, decode_ns, disk_ns;
};

/* As stage_env.on_result, with a struct ready as ctx. */
void ready_add_stage(void *ready, const struct stage_result *r);

/* Logs how long the start took, and its parts; nothing where there was nothing to do. */
void ready_log(const struct ready *r);

#endif
