/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HOOKS_H
#define STAGERUN_HOOKS_H

#include "contract.h"
#include "process.h"
#include "settings.h"

/* Operators' hooks: the executables in DIR/POINT/ of every hooks directory of agent.ini. Found, and
 * judged, before anything starts; run one after another when the point is reached. Loop thread. */

/* Name; whether it ends what another began, so that its hooks run in reverse order. */
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
/* The one of this name, or HOOK_POINT_COUNT. */
enum hook_point hook_point_named(const char *name);
bool hook_point_needs_command(enum hook_point point); /* a run without one does not reach it */

struct hook {
	char *name; /* "10-mount" */
	char *path; /* "/etc/stagerun/hooks/on_stage_start/10-mount" */
};

struct hook_list {
	struct hook *v; /* in the order in which they run */
	size_t n;
};

struct hooks {
	struct hook_list at[HOOK_POINT_COUNT];
};

/* Looks through the directories of [hooks] dir in their order; the same name in a later one overrides,
 * a link to /dev/null disables. -ERR_CONFIG, with what to do, for a hook that cannot be executed, that
 * somebody else than root and this user owns or can write to, or whose directory is like that. */
int hooks_find(const struct settings *s, struct hooks **ret, struct error *err);
void hooks_free(struct hooks *h); /* accepts NULL */

/* NULL has none, and so has HOOK_POINT_COUNT. */
bool hooks_any(const struct hooks *h, enum hook_point point);

struct hook_env {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct inherited *inherited;
	const struct run_facts *facts; /* read for each hook */
	struct strings *environment;   /* the run's: read for each hook, added to by hooks */
	/* Exactly once, from the loop: 0, or the code of a hook that failed where that fails the run,
	 * and err naming it: "on_stage_start hook /etc/.../10-mount failed: exit status 3". Other
	 * failures were warned of, and the next hook was run. */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
};

struct hook_run;

/* Runs the hooks of a point, which outlive the run; env is copied. */
int hooks_start(const struct hook_env *env, const struct hooks *hooks, enum hook_point point,
	struct hook_run **ret, struct error *err);

/* Idempotent. Sends SIGTERM to the hook under way, and SIGKILL 5 s later (at once when hard); on_done
 * follows with -ECANCELED. */
void hooks_cancel(struct hook_run *run, bool hard);

/* Ends only the hook under way, as a failure of its own; the next one is run as its policy says. hard: kills it,
 * if it is the one that was skipped before. */
void hooks_skip(struct hook_run *run, bool hard);
void hook_run_free(struct hook_run *run); /* in or after on_done; accepts NULL */

#endif
