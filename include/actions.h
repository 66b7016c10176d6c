/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ACTIONS_H
#define STAGERUN_ACTIONS_H

#include "contract.h"
#include "process.h"
#include "runfile.h"
#include "settings.h"
#include "stage.h"

/* Runs the items (actions) of one lifecycle point in config.yml, one after another, in the order
 * in which they are written. A stage item is staged by the caller's stage(). A run item gets a
 * shell (-e) of its own; all shells have the same working directory. An item sets variables for
 * later items and for the command by appending NAME=VALUE lines to the file that $STAGERUN_ENV
 * names. Loop thread. */

struct action_env {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct inherited *inherited;
	const struct run_facts *facts; /* read for each item */
	const char *config_path;       /* of config.yml; for messages */
	/* Starts to stage spec, which is already expanded and to which limits may be added. If it
	 * returns 0, on_done is called once, as by stage_set_start(). */
	int (*stage)(void *ctx, struct stage_spec *spec,
		void (*on_done)(void *ctx, int code, const struct error *err), void *done_ctx,
		struct error *err);
	void *stage_ctx;
	struct strings *environment; /* of the run: read before, and extended after each item */
	struct run_recorder recorder;
	bool keep_going; /* log the failure of an item, and run the next one */
	/* Called exactly once, from the loop. code is 0, or the code of the item that failed,
	 * which err names: "on_experiment_start action 2 (config.yml:14) failed: exit status 3;
	 * it ran: ...". */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
};

struct action_run;

/* To be called before anything is staged. Returns an error if no file for $STAGERUN_ENV can be
 * created; logs a warning if such files cannot be in the directory that TMPDIR names. */
int actions_check_temporary(const struct strings *environment, struct error *err);

/* Starts to run actions->v[first..]. actions must outlive the run; env is copied. The caller
 * frees *ret with actions_free(). */
int actions_start(const struct action_env *env, enum lifecycle_point point,
	const struct actions *actions, size_t first, struct action_run **ret, struct error *err);

/* Cancels the run: sends SIGTERM to the running item, and SIGKILL 5 s later (at once if hard).
 * on_done follows with -ECANCELED. A running stage item must also be cancelled by the caller;
 * on_done waits for its end. Idempotent. */
void actions_cancel(struct action_run *run, bool hard);
/* Ends only the running item in the same way: it counts as failed, and is not retried. With hard,
 * the call only has an effect if the running item was skipped before. */
void actions_skip(struct action_run *run, bool hard);
/* The index of the first item that was not completed, and whether it was started. */
size_t actions_reached(const struct action_run *run, bool *ret_started);
void actions_free(struct action_run *run); /* in or after on_done; accepts NULL */

#endif
