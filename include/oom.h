/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_OOM_H
#define STAGERUN_OOM_H

#include "cgroup.h"

/* Whether the kernel killed the run, or a part of it, for memory: told from the group's counter
 * before the command was started and after it has ended, and from how it ended. The counter counts
 * every process of the group, so it alone does not say whom it was about. Any thread. */

enum oom_verdict {
	OOM_NONE,    /* the counter stands, or there is none */
	OOM_COMMAND, /* the command itself: it died of SIGKILL */
	OOM_WORKER,  /* some other process of the run; the command ended in another way */
};

/* wait_status is the command's, as of waitpid(2). Exit status 137 counts as SIGKILL: that is how a
 * shell, or any other wrapper, passes on that what it ran was killed. Who sent SIGKILL to the command
 * itself knows better, and does not ask. */
enum oom_verdict oom_judge(
	const struct cgroup_memory *before, const struct cgroup_memory *after, int wait_status);

/* The sentence for it: "killed by the kernel for memory: limit 8 GiB, peak 8 GiB". On the heap;
 * NULL for OOM_NONE. */
char *oom_sentence(enum oom_verdict verdict, const struct cgroup_memory *after);

#endif
