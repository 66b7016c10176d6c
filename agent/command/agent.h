/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_AGENT_H
#define STAGERUN_AGENT_H

#include "actions.h"
#include "cache.h"
#include "dependencies.h"
#include "hooks.h"
#include "job.h"
#include "plan.h"
#include "process.h"
#include "progress.h"
#include "report.h"
#include "s3.h"
#include "settings.h"
#include "stage.h"
#include "store.h"
#include <stdbool.h>
#include <uv.h>

/* The agent: one event loop with the signals, the transfer engine, the store and the node cache
 * that commands need. Each step (a stage, an action, a thread) is a function here that runs the
 * loop until the step is done or a signal has stopped it, so that commands read from top to bottom.
 * Loop thread only.
 *
 *   agent.c            the loop, signals, steps; a blocking function or a pause as a step
 *   agent_resources.c  the transfer engine, S3, the store, the node cache; stages as a step
 *   agent_options.c    what settings and config.yml mean for the transfer engine, S3, the node
 *                      cache, trees and stages
 *   agent_prepare.c    stages and the install of dependencies side by side as a step
 *   agent_actions.c    the actions or the hooks of a lifecycle point as a step
 *
 * Functions that return int return 0 or a negative code; a step also returns -ECANCELED after a
 * signal. */

/* Two signals within SAME_SIGNAL_MS count as one: timeout(1) sends each twice. */
enum { EARLY_SIGNALS_MAX = 64, SAME_SIGNAL_MS = 300 };

/* What the steps share, created when first needed; see agent_resources.c. */
struct agent_resources {
	struct transfer_options network; /* from the settings, with the shared rate limit */
	struct budget *budget;
	struct transfer *transfer; /* not earlier, because curl takes milliseconds to start */
	struct s3 *s3;
	struct store *store;
	struct cache *cache;  /* also NULL where no node cache is configured */
	bool transfer_closed; /* for agent_release_resources() */
	bool store_logged;    /* that the default store is used was logged */
	bool cache_refused;   /* the node cache could not be opened, which was logged */
};

/* How the steps work: set by the command before them, and constant then. */
struct agent_policy {
	bool cache_keeps;       /* the command uses what is staged, so the node cache stays open */
	bool replace;           /* stage items replace existing files, as the head does */
	bool cache_only;        /* stage into the node cache only */
	bool keep_going;        /* a stage that fails does not end the others */
	struct run_facts facts; /* for the environment of actions and hooks */
	struct run_recorder recorder; /* for the spans of whatever is done */

	/* Called for each stage; may be NULL. */
	void (*on_result)(void *ctx, const struct stage_result *r);
	void *on_result_ctx;

	/* See monitor_options.on_tick; may be NULL. */
	void (*on_progress)(void *ctx, const struct monitor_source *removed);
	void *on_progress_ctx;

	/* The run's: staged datastores are added. NULL: there is no run. */
	struct strings *environment;
};

/* A kind of step: what can be done to its work. */
struct step_ops {
	void (*cancel)(void *work, bool hard); /* ends it; hard: with SIGKILL */
	/* Ends only its current item; hard: kills the item if it was skipped before. May
	 * be NULL. */
	void (*skip)(void *work, bool hard);
	void (*free)(void *work); /* NULL: the caller frees it */
};

/* The current step; both NULL between two. */
struct agent_step {
	const struct step_ops *ops;
	void *work;
};

struct agent {
	const struct settings *settings;
	const struct inherited *inherited;
	struct agent_resources resources;
	struct agent_policy policy;
	struct agent_step step;

	/* The loop and what hangs on it. */
	uv_loop_t loop;
	struct signals *signals;
	uv_timer_t deadline; /* of agent_limit() */
	bool opened;         /* the loop is initialized */
	bool outlives;       /* agent_outlive() was called: it will be the command's parent */

	struct monitor *monitor; /* shows progress; see agent_monitor() */
	uint64_t install_ns; /* how long agent_prepare() installed dependencies; 0: it did not */

	/* How it is stopped. */
	int signal;         /* the first ending signal; 0: none */
	uint64_t signal_ms; /* when it arrived, by the loop's clock */
	bool cancelled;     /* every step ends, also those that start from now on */
	bool out_of_time;   /* the time of agent_limit() is over */
	bool abandoned;     /* some work did not end in time and still uses its arguments */

	/* If not NULL, gets the signals instead of the agent. */
	void (*on_signal)(void *ctx, const struct signalfd_siginfo *info);
	void *on_signal_ctx;

	/* Signals for the command that arrived before it was started. */
	struct signalfd_siginfo early[EARLY_SIGNALS_MAX];
	size_t n_early;
};

/* --- agent.c --- */

/* Also after a failure, call agent_close(). s and in are borrowed. */
int agent_open(
	struct agent *a, const struct settings *s, const struct inherited *in, struct error *err);

/* After agent_open(), before other threads start: from now on the agent receives every signal that
 * it can forward, and adopts orphans. A signal that would not end the run is stored for the
 * command. */
int agent_outlive(struct agent *a, struct error *err);

/* Closes the loop and frees everything; but if time is over or work was abandoned, frees nothing.
 * Read a->signal after this: signals up to here were read, and later ones stay pending until
 * inherited_restore(). */
void agent_close(struct agent *a);

/* Returns exit_code; but if agent_close() freed nothing, ends the process with it, because threads
 * may still use what the callers would free next. */
int agent_leave(const struct agent *a, int exit_code);

/* Whether the signal asks a run to end: SIGTERM, SIGINT, SIGHUP, SIGQUIT. */
bool agent_signal_ends(int signal);

/* Runs the loop until *done, or until time is over. */
void agent_run_until(struct agent *a, const bool *done);

/* Sets out_of_time after ms. A further call sets a new limit and clears out_of_time. */
void agent_limit(struct agent *a, uint64_t ms);

/* A step is run like this:
 *
 *	struct outcome *o = agent_outcome_new(err);
 *	int code = work_start(..., agent_step_done, o, &work, err);
 *
 *	return agent_step_run(a, &ops, work, o, code); */

/* The result of a step: agent_step_done() is the step's on_done, the outcome its ctx. On the heap,
 * because an abandoned step may end later and write to it. */
struct outcome {
	bool done;
	int code;
	struct error *err;
};

struct outcome *agent_outcome_new(struct error *err);
void agent_step_done(void *ctx, int code, const struct error *err);

/* Runs the loop until the step is done. When time is over before that, the step is killed and has a
 * short time to clean up; if it is not done then, it is abandoned. Frees work and o, unless the
 * step was abandoned. started: what its start returned; if that is a failure, or work is NULL,
 * there is nothing to wait for, and it is the result. */
int agent_step_run(
	struct agent *a, const struct step_ops *ops, void *work, struct outcome *o, int started);

/* End the current step, or its current item, if there is one; see step_ops. */
void agent_step_cancel(struct agent *a, bool hard);
void agent_step_skip(struct agent *a, bool hard);

/* A function that blocks, as a step on its own thread; it must end soon after cancel is requested.
 * If a->abandoned is set afterwards, the thread still runs, and ctx must stay valid. progress:
 * displayed meanwhile; may be NULL. */
typedef int (*agent_work_fn)(void *ctx, struct cancel *cancel, struct error *err);
int agent_work(struct agent *a, agent_work_fn run, void *ctx, struct progress *progress,
	struct error *err);

/* Shows the progress of what is added to it, as the settings say; created when first needed. NULL
 * if no progress is wanted. */
struct monitor *agent_monitor(struct agent *a);

/* Waits until the time is over or a signal has arrived. */
void agent_pause(struct agent *a, uint64_t ms);

/* --- agent_resources.c --- */

/* Creates the memory budget and the transfer engine if they do not exist. */
int agent_need_transfer(struct agent *a, struct error *err);

/* The URL of the store: the setting, else a directory of this user. Heap; NULL: there is none. */
char *agent_store_url(const struct settings *s);
/* Whether a store is configured or the default one exists. */
bool agent_has_store(const struct settings *s);
/* Creates the store, and S3, if they do not exist. */
int agent_need_store(struct agent *a, struct error *err);
/* Creates everything that these need to be staged: the engine, and S3 and the store if a source
 * needs them. */
int agent_need_sources(
	struct agent *a, const struct stage_spec *specs, size_t n, struct error *err);
/* Opens the node cache if one is configured. A failure is logged once. */
void agent_need_cache(struct agent *a);

/* Frees what staging needed: connections, memory, threads. The next stage creates them again. */
void agent_release_resources(struct agent *a);

/* How long to wait for a lock that another agent holds. */
struct wait_limit agent_lock_limit(const struct settings *s);
unsigned agent_threads(const struct settings *s); /* number of threads to decode or compress with */

/* Opens the node cache, if there is one. The caller sets on_done and on_done_ctx. */
void agent_fill_stage_env(struct agent *a, struct stage_env *env);

/* Stages n specs at the same time. The reasons of failures were logged. */
int agent_stage(struct agent *a, const struct stage_spec *specs, size_t n, struct error *err);

/* --- agent_options.c --- */

/* The options that the settings determine; others are zero. Their strings are those of s. */
struct transfer_options agent_network_options(const struct settings *s);
struct s3_options agent_s3_options(const struct settings *s);
struct cache_options agent_cache_options(const struct settings *s);
struct tree_options agent_tree_options(const struct settings *s);

/* runfile_expand() with the variables of environment. */
int agent_expand(
	const char *text, const struct strings *environment, char **ret, struct error *err);
/* The source as one URL, not expanded; heap. */
char *agent_stage_url(const struct action_stage *s);
/* Fills *ret, with each "${VAR}" of source, directory and shard expanded. To be called when the
 * action starts, not when config.yml is read: actions before it may set variables. The caller
 * frees *ret with stage_spec_done(). */
int agent_stage_spec(const struct action_stage *s, const struct strings *environment,
	struct stage_spec *ret, struct error *err);
/* If s->to (already expanded) is below a scratch directory, limits the stage to its size_gb. */
void agent_limit_stage(const struct runfile *r, struct stage_spec *s);

/* --- agent_prepare.c --- */

/* What comes before the first shell action. d may be NULL: nothing is installed. environment: the
 * run's. */

/* Checks, before anything is staged, that d can be installed. */
int agent_check_dependencies(struct agent *a, const struct dependencies *d,
	const struct strings *environment, struct error *err);

/* Stages n specs and installs d at the same time; when one fails, the other is cancelled. The
 * reasons of failures were logged. */
int agent_prepare(struct agent *a, const struct stage_spec *specs, size_t n,
	const struct dependencies *d, const struct strings *environment, struct error *err);

/* --- agent_actions.c --- */

/* Runs the actions of the point, from the index first. */
int agent_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	size_t first, struct strings *environment, struct error *err);

/* Runs all actions of the point, also after one that failed (which is logged). Logs each action
 * that was cut off by agent_step_cancel(), with why_cut as the reason. */
void agent_all_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	struct strings *environment, const char *why_cut);

/* Runs the operators' hooks of the point; see hooks_start(). */
int agent_hooks(struct agent *a, const struct hooks *hooks, enum hook_point point,
	struct strings *environment, struct error *err);

#endif
