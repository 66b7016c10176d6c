/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CGROUP_H
#define STAGERUN_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

/* What the control group of this process says about memory, v1 and v2 (cgroups(7)). root is "" in
 * production; tests pass a directory that holds fake /proc and /sys trees. Any thread. */

/* The memory limit that binds this process (v2 memory.max, v1 memory.limit_in_bytes): the smallest of
 * its group's and its ancestors'; UINT64_MAX: none. */
uint64_t cgroup_memory_limit(const char *root);

struct cgroup_memory {
	uint64_t limit_bytes; /* as cgroup_memory_limit() */
	uint64_t peak_bytes; /* the most the group ever used; 0: not known (v2 before Linux 5.19) */
	uint64_t oom_kills;  /* processes of the group that the kernel ever killed for memory */
	bool counts_kills;   /* oom_kills is known: not in the root group, nor before Linux 4.13 */
};

struct cgroup_memory cgroup_memory_read(const char *root);

#endif
