/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_OOM_H
#define STAGERUN_OOM_H

#include "cgroup.h"

/* Decides whether the kernel killed the run, or a part of it, for memory: from the group's counter
 * before the command was started and after it has ended, and from the command's status. The counter
 * counts every process of the group, so it alone does not show which one was killed. Any thread. */

enum oom_verdict {
	OOM_NONE,    /* the counter is unchanged, or there is none */
	OOM_COMMAND, /* the command itself: it died of SIGKILL */
	OOM_WORKER,  /* another process of the run; the command ended in another way */
};

/* wait_status is the command's, from waitpid(2). Exit status 137 counts as SIGKILL: a shell, or
 * another wrapper, exits with it when its child was killed. Must not be called if the agent itself
 * sent SIGKILL to the command. */
enum oom_verdict oom_classify(
	const struct cgroup_memory *before, const struct cgroup_memory *after, int wait_status);

/* The message: "killed by the kernel for memory: limit 8 GiB, peak 8 GiB". Heap; NULL for
 * OOM_NONE. */
char *oom_sentence(enum oom_verdict verdict, const struct cgroup_memory *after);

#endif
