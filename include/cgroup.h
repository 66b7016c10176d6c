/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CGROUP_H
#define STAGERUN_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

/* Limits and usage of memory, processors and processes of this process's control group, v1 and v2
 * (cgroups(7)). Limits are the strictest of the group's and its ancestors'. root is "" in
 * production; tests pass a directory with fake /proc and /sys trees. Any thread. */

/* The memory limit in bytes (v2 memory.max, v1 memory.limit_in_bytes); UINT64_MAX: none. */
uint64_t cgroup_memory_limit(const char *root);

/* Bytes that can still be used before the group, or an ancestor, reaches its limit. Cached pages of
 * files count as free. UINT64_MAX: there is no limit. */
uint64_t cgroup_memory_left(const char *root);

struct cgroup_memory {
	uint64_t tree_limit_bytes; /* as cgroup_memory_limit() */
	uint64_t peak_bytes; /* the group's maximum usage; 0: not known (v2 before Linux 5.19) */
	uint64_t oom_kills;  /* processes of the group that the kernel has killed for memory */
	bool counts_kills;   /* oom_kills is known: not in the root group, nor before Linux 4.13 */
};

struct cgroup_memory cgroup_memory_read(const char *root);

/* Number of processors that the group's CPU quota allows (v2 cpu.max, v1 cpu.cfs_quota_us), rounded
 * up. UINT64_MAX: there is no quota. */
uint64_t cgroup_processors(const char *root);

/* Limit of processes and threads (pids.max), of the group that is nearest to its limit. UINT64_MAX:
 * there is no limit. */
struct cgroup_pids {
	uint64_t limit;
	uint64_t left; /* number that may still be started */
};

struct cgroup_pids cgroup_pids_read(const char *root);

#endif
