/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ACTIONS_H
#define STAGERUN_ACTIONS_H

#include "contract.h"
#include "process.h"
#include "runfile.h"
#include "settings.h"
#include "stage.h"

/* Runs the items of one lifecycle point, one after another, in the order written. Stage items go
 * through the stage room; strings and run items through a shell (-e), one for each item, with the
 * working directory shared. An item adds variables for later items and the command by appending
 * NAME=VALUE lines to the file that $STAGERUN_ENV names. Loop thread. */

struct action_env {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct inherited *inherited;
	const struct run_facts *facts; /* read for each item */
	const char *config_path;       /* for messages: config.yml */
	/* Stages spec (already expanded; limits may be added); done as in stage_set_start(). */
	int (*stage)(void *ctx, struct stage_spec *spec,
		void (*on_done)(void *ctx, int code, const struct error *err), void *done_ctx,
		struct error *err);
	void *stage_ctx;
	struct strings *environment; /* the run's: read for each item, added to by items */
	bool keep_going;             /* an item that failed is logged, and the next one runs */
	/* Exactly once, from the loop: 0, or the code of the item that failed, and err naming it:
	 * "on_experiment_start action 2 (config.yml:14) failed: exit status 3; it ran: ...". */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
};

struct action_run;

/* Runs actions->v[first..], which outlive the run; env is copied. */
int actions_start(const struct action_env *env, enum lifecycle_point point,
	const struct actions *actions, size_t first, struct action_run **ret, struct error *err);

/* Idempotent. Sends SIGTERM to the item under way, and SIGKILL 5 s later (at once when hard); on_done
 * follows with -ECANCELED. A stage item under way is the caller's to cancel too: its end is waited for. */
void actions_cancel(struct action_run *run, bool hard);
/* The same for the item under way only: it failed, without another try. hard: if it is the one that was
 * skipped before. */
void actions_skip(struct action_run *run, bool hard);
/* The index of the first item that was not done, and whether it had begun. */
size_t actions_reached(const struct action_run *run, bool *ret_begun);
void actions_free(struct action_run *run); /* in or after on_done; accepts NULL */

#endif
