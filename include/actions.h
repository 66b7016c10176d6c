/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ACTIONS_H
#define STAGERUN_ACTIONS_H

#include "runfile.h"
#include "runner.h"

/* Runs the items (actions) of one lifecycle point in config.yml, one after another, in the order
 * in which they are written. A stage item is staged by the caller's stage(). A run item gets a
 * shell (-e) of its own; all shells have the same working directory. Loop thread. */

typedef struct uv_loop_s uv_loop_t;

struct action_env {
	struct runner_env items;
	const char *config_path; /* of config.yml; for messages */
	/* Expands the stage item and starts to stage it. If it returns 0, on_done is called once,
	 * later. */
	int (*stage)(void *ctx, const struct action_stage *item,
		void (*on_done)(void *ctx, int code, const struct error *err), void *done_ctx,
		struct error *err);
	void *stage_ctx;
	bool keep_going; /* log the failure of an item, and run the next one */
};

/* To be called before anything is staged. Returns an error if no file for $STAGERUN_ENV can be
 * created; logs a warning if such files cannot be in the directory that TMPDIR names. */
int actions_check_temporary(const struct strings *environment, struct error *err);

/* Starts to run actions->v[first..]. actions must outlive the run; env is copied. The caller
 * frees the result with runner_free(). */
struct runner *actions_start(const struct action_env *env, enum lifecycle_point point,
	const struct actions *actions, size_t first);

#endif
