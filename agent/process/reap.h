/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROCESS_REAP_H
#define STAGERUN_PROCESS_REAP_H

#include "error.h"
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

/* The one place that learns of the end of processes. One reaper hangs on a loop (it owns the loop's
 * data), shared by all who watch a process on it; it goes with the last of them. Loop thread. */

/* One watched process; embedded in what its owner knows about it. */
struct reaped {
	struct reaped *next;
	pid_t pid; /* 0: not started yet */
	/* Once, from the loop: it was waited for, and is not watched any more. Status as of waitpid(2);
	 * exit status 255 when somebody else took it. */
	void (*on_end)(struct reaped *r, int wait_status);
	void (*on_stop)(struct reaped *r, int signal); /* each time it is stopped; NULL: untold */
};

/* From before the fork: the process may end before we hear that it started. Set r->pid after it. */
int reap_watch(uv_loop_t *loop, struct reaped *r, struct error *err);
/* Once for each reap_watch(), whether or not the process has ended. r is not touched after this; the
 * reaper's handle may close with this call, as any other: by the loop. */
void reap_forget(uv_loop_t *loop, struct reaped *r);

#endif
