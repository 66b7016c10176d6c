/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RUNNER_H
#define STAGERUN_RUNNER_H

#include "contract.h"
#include "process.h"
#include "settings.h"
#include <uv.h>

/* Runs the items of one point (actions.h, hooks.h), one after another. An item sets variables for
 * later items and for the command by appending NAME=VALUE lines to the file that $STAGERUN_ENV
 * names. Loop thread. */

struct runner_env {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct inherited *inherited;
	const struct run_facts *facts; /* read for each item */
	struct strings *environment;   /* of the run: read before, and extended after each item */
	/* Called exactly once, from the loop. code is 0, or the code of the item that failed,
	 * which err names: "on_experiment_start action 2 (config.yml:14) failed: exit status 3;
	 * it ran: ...", "on_stage_start hook /etc/.../10-mount failed: exit status 3". */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
	struct run_recorder recorder; /* each item is a span; all NULL: nothing is recorded */
};

struct runner;

/* Cancels the run: sends SIGTERM to the running item, and SIGKILL 5 s later (at once if hard).
 * on_done follows with -ECANCELED, unless it runs hooks, and all have run. A stage item must also
 * be cancelled by the caller; on_done waits for its end. Idempotent. */
void runner_cancel(struct runner *r, bool hard);
/* Ends only the running item in the same way: it counts as failed, and is not retried. With hard,
 * the call only has an effect if the running item was skipped before. */
void runner_skip(struct runner *r, bool hard);
/* The index of the first item that was not completed, and whether it was started. */
size_t runner_reached(const struct runner *r, bool *ret_started);
void runner_free(struct runner *r); /* in or after on_done; accepts NULL */

#endif
