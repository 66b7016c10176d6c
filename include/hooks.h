/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HOOKS_H
#define STAGERUN_HOOKS_H

#include "contract.h"
#include "process.h"
#include "settings.h"

/* Operators' hooks: the executables in DIR/POINT/ of each hooks directory in agent.ini. They are
 * found and checked before anything starts, and run one after another when the run reaches their
 * point. Loop thread. */

/* Hook points: name, and whether the point ends what another point starts, so that its hooks run
 * in reverse order. */
#define HOOK_POINTS(X) \
	X(HOOK_STAGE_START, "on_stage_start", false) \
	X(HOOK_STAGE_END, "on_stage_end", true) \
	X(HOOK_EXPERIMENT_START, "on_experiment_start", false) \
	X(HOOK_EXPERIMENT_END, "on_experiment_end", true) \
	X(HOOK_FAILURE, "on_failure", false)

enum hook_point {
#define X(id, name, reverse) id,
	HOOK_POINTS(X)
#undef X
		HOOK_POINT_COUNT
};

const char *hook_point_name(enum hook_point point);
/* The point with this name, or HOOK_POINT_COUNT. */
enum hook_point hook_point_by_name(const char *name);
/* Whether only a run with a command reaches the point. */
bool hook_point_needs_command(enum hook_point point);

struct hook {
	char *name; /* "10-mount" */
	char *path; /* "/etc/stagerun/hooks/on_stage_start/10-mount" */
};

struct hook_list {
	struct hook *v; /* in the order in which the hooks run */
	size_t n;
};

struct hooks {
	struct hook_list at[HOOK_POINT_COUNT];
};

/* Reads the directories of [hooks] dir in their order. A hook overrides the hook of the same name
 * in an earlier directory; a link to /dev/null disables it. -ERR_CONFIG, with advice, for a hook
 * that cannot be executed, or that a user other than root and this one owns or can write to; the
 * same is checked for the directories that lead to it. The caller frees *ret with hooks_free(). */
int hooks_find(const struct settings *s, struct hooks **ret, struct error *err);
void hooks_free(struct hooks *h); /* accepts NULL */

/* Whether the point has hooks. False if h is NULL, or point is HOOK_POINT_COUNT. */
bool hooks_any(const struct hooks *h, enum hook_point point);

struct hook_env {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct inherited *inherited;
	const struct run_facts *facts; /* read for each hook */
	struct strings *environment;   /* of the run: read before, and extended after each hook */
	struct run_recorder recorder;
	/* Called exactly once, from the loop. code is 0, or the code of the failed hook if the
	 * point's policy is HOOK_FAILS; err then names it: "on_stage_start hook /etc/.../10-mount
	 * failed: exit status 3". With HOOK_WARNS, the failure is logged and the next hook runs. */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
};

struct hook_run;

/* Starts to run the hooks of a point. hooks must outlive the run; env is copied. The caller frees
 * *ret with hook_run_free(). */
int hooks_start(const struct hook_env *env, const struct hooks *hooks, enum hook_point point,
	struct hook_run **ret, struct error *err);

/* Cancels the run: sends SIGTERM to the running hook, and SIGKILL 5 s later (at once if hard).
 * on_done follows with -ECANCELED, unless all hooks have run. Idempotent. */
void hooks_cancel(struct hook_run *run, bool hard);

/* Ends only the running hook in the same way. It counts as failed, so the point's policy
 * determines whether the next one runs. With hard, the call only has an effect if the running
 * hook was skipped before. */
void hooks_skip(struct hook_run *run, bool hard);
void hook_run_free(struct hook_run *run); /* in or after on_done; accepts NULL */

#endif
