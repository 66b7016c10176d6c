/* SPDX-License-Identifier: MIT */
/* From two readings of the group's memory files to what a person wants to know. Touches nothing. */
#include "oom.h"
#include "text.h"
#include <signal.h>
#include <sys/wait.h>

static bool died_of_sigkill(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		return WTERMSIG(wait_status) == SIGKILL;
	return WEXITSTATUS(wait_status) == 128 + SIGKILL;
}

enum oom_verdict oom_judge(
	const struct cgroup_memory *before, const struct cgroup_memory *after, int wait_status)
{
	if (!before->counts_kills || !after->counts_kills || after->oom_kills <= before->oom_kills)
		return OOM_NONE;
	return died_of_sigkill(wait_status) ? OOM_COMMAND : OOM_WORKER;
}

/* A group that never came near its limit was not killed for it: the machine, or a group above this
 * one, had no memory left, and a higher limit would not help. */
static bool was_far_from_limit(const struct cgroup_memory *m)
{
	return m->peak_bytes > 0 && m->peak_bytes < m->limit_bytes - m->limit_bytes / 8;
}

char *oom_sentence(enum oom_verdict verdict, const struct cgroup_memory *after)
{
	struct text t = {0};
	char size[32];

	if (verdict == OOM_NONE)
		return NULL;
	text_add(&t, verdict == OOM_COMMAND
			     ? "killed by the kernel for memory"
			     : "a process of the run was killed by the kernel for memory");
	if (after->limit_bytes == UINT64_MAX)
		text_add(&t, ": no limit of its own");
	else
		text_addf(&t, ": limit %s", print_memory(after->limit_bytes, size));
	if (after->peak_bytes > 0)
		text_addf(&t, ", peak %s", print_memory(after->peak_bytes, size));
	if (was_far_from_limit(after))
		text_add(&t, " (the machine itself, or a group above this one, ran out)");
	return text_take(&t);
}
