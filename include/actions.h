/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ACTIONS_H
#define STAGERUN_ACTIONS_H

#include "runfile.h"
#include "runner.h"
#include "stage.h"

/* Runs the items (actions) of one lifecycle point in config.yml, one after another, in the order
 * in which they are written. A stage item is staged by the caller's stage(). A run item gets a
 * shell (-e) of its own; all shells have the same working directory. Loop thread. */

struct action_env {
	struct runner_env items;
	const char *config_path; /* of config.yml; for messages */
	/* Starts to stage spec, which is already expanded and to which limits may be added. If it
	 * returns 0, on_done is called once, as by stage_set_start(). */
	int (*stage)(void *ctx, struct stage_spec *spec,
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
