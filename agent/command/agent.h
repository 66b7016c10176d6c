/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_AGENT_H
#define STAGERUN_AGENT_H

#include "actions.h"
#include "hooks.h"
#include "job.h"
#include "process.h"
#include "progress.h"
#include "s3.h"
#include "settings.h"
#include "stage.h"
#include "store.h"
#include <stdbool.h>
#include <uv.h>

/* The agent at work: one loop with what hangs on it. Commands read as stories because each step
 * here runs the loop until its work is done, or a signal has stopped it. Loop thread only. */

/* Two signals within this time are one: timeout(1) sends each twice. */
enum { KEPT_SIGNALS = 64, SAME_SIGNAL_MS = 300 };

struct agent {
	/* Set at creation. */
	const struct settings *settings;
	const struct inherited *inherited;
	struct transfer_options network; /* the settings', and the rate that all keep together */
	uv_loop_t loop;
	struct budget *budget;     /* NULL until something is staged, as is transfer: */
	struct transfer *transfer; /* curl takes milliseconds to start */
	struct s3 *s3;             /* NULL until something needs it, as is store */
	struct store *store;
	struct cache *cache; /* NULL until something is staged, or there is none */
	struct signals *signals;
	uv_timer_t deadline;
	bool opened;            /* the loop is there */
	bool outlives;          /* it will be the command's parent: see agent_outlive() */
	bool cache_refused;     /* there is none that can be used: said once */
	bool cache_keeps;       /* the command goes on to use what is staged, so it stays open */
	bool cache_only;        /* what is staged goes into the node cache, and nowhere else */
	bool keep_going;        /* a stage that fails does not end the others */
	struct run_facts facts; /* what actions are told; the command's to fill in */
	void (*on_result)(void *ctx, const struct stage_result *r); /* of each stage; may be NULL */
	void *on_result_ctx;
	struct strings *environment; /* told which datastores were staged; NULL: there is no run */

	int signal;         /* the first that asked us to end; 0: none */
	uint64_t signal_ms; /* when it came, by the loop */
	bool cancelled;     /* every step ends, also those that begin from now on */
	bool out_of_time;   /* what agent_limit() gave is over */
	bool abandoned;     /* some work did not end in time, and still uses what it was given */

	/* The step under way; NULL between two. cancel ends it, hard: with SIGKILL. skip (may be NULL) ends
	 * only the item of it that is under way; hard: kills that item if it was skipped before. */
	void (*cancel)(void *work, bool hard);
	void (*skip)(void *work, bool hard);
	void *work;

	/* Who is told of signals instead of the step; NULL: nobody. */
	void (*on_signal)(void *ctx, const struct signalfd_siginfo *info);
	void *on_signal_ctx;
	bool transfer_closed; /* for agent_rest() */

	/* What came for the command before it was there. */
	struct signalfd_siginfo kept[KEPT_SIGNALS];
	size_t n_kept;
};

int agent_open(
	struct agent *a, const struct settings *s, const struct inherited *in, struct error *err);

/* After agent_open(), before other threads start: from here on every signal is heard, and orphans are
 * adopted. A signal that would not end the run is kept for the command. */
int agent_outlive(struct agent *a, struct error *err);

/* Gives back what staging took: connections, memory, threads. The next stage starts them anew. */
void agent_rest(struct agent *a);

/* Stops the loop and gives everything back; when out of time, or after work was abandoned, nothing. Also after agent_open() failed.
 * Look at a->signal after this: what came up to here is heard, what comes later waits until
 * inherited_restore(). */
void agent_close(struct agent *a);

/* exit_code; but where agent_close() gave nothing back it ends the process with it: threads may still use
 * what every caller would free next. */
int agent_leave(const struct agent *a, int exit_code);

/* After agent_outlive(): ends whatever is left below us, with SIGTERM, and SIGKILL after term_ms. */
void agent_end_remains(struct agent *a, uint64_t term_ms);

/* Each returns 0, or the failure; -ECANCELED after a signal. Reasons of single stages were logged.
 */
int agent_stage(struct agent *a, const struct stage_spec *specs, size_t n, struct error *err);
int agent_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	size_t first, struct strings *environment, struct error *err);

/* All actions of the point, also after one that failed (which is logged). What a->cancel leaves out is said,
 * with why_cut. */
void agent_all_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	struct strings *environment, const char *why_cut);

/* The operators' hooks of the point; see hook_env.on_done. */
int agent_hooks(struct agent *a, const struct hooks *hooks, enum hook_point point,
	struct strings *environment, struct error *err);

/* Whether the signal asks a run to end: SIGTERM, SIGINT, SIGHUP, SIGQUIT. */
bool signal_asks_to_end(int signal);

/* Starts the budget and the transfer engine if they are not there. */
int agent_need_transfer(struct agent *a, struct error *err);

/* Where datastores are: the setting, else a directory of this user's; heap, NULL when there is none. */
char *agent_store_url(const struct settings *s);
/* Make them if they are not there. agent_rest() gives them back. */
void agent_need_s3(struct agent *a);
int agent_need_store(struct agent *a, struct error *err);
/* All that these need to be staged: the engine, and S3 and the store where they name them. */
int agent_need_sources(
	struct agent *a, const struct stage_spec *specs, size_t n, struct error *err);
void agent_need_cache(struct agent *a);
void agent_drop_store(struct agent *a); /* nobody uses them any more */

/* One function that sleeps, on a thread of its own; it ends soon after cancel is requested. What ctx points to
 * must outlive the process if it does not: look at a->abandoned. progress: shown meanwhile; may be NULL. */
typedef int (*agent_work_fn)(void *ctx, struct cancel *cancel, struct error *err);
int agent_work(struct agent *a, agent_work_fn run, void *ctx, const struct progress *progress,
	struct error *err);

/* Runs the loop until *done, or until there is no more time. */
void agent_run_until(struct agent *a, const bool *done);

/* What a step tells at its end: on_done and its ctx. On the heap, to stay there when the step is abandoned: it
 * may end later. */
struct outcome {
	bool done;
	int code;
	struct error *err;
};

struct outcome *outcome_new(struct error *err);
bool outcome_free(struct outcome *o); /* false, and nothing is freed: its step was abandoned */
void agent_step_done(void *ctx, int code, const struct error *err);

/* Runs the loop until the step that a->cancel describes is done. When the time is up before that, it is killed,
 * and has a last moment to be cleaned up after; if it is not done then, it is abandoned. */
int agent_await(struct agent *a, struct outcome *o);

/* Until the time is over, or a signal has come. */
void agent_pause(struct agent *a, uint64_t ms);

unsigned agent_threads(const struct settings *s); /* that decode or compress */

/* on_done and its ctx are the caller's to fill in. Opens the node cache, if there is one. */
void agent_fill_stage_env(struct agent *a, struct stage_env *env);

/* The time is up, which is told by out_of_time; call again for more. */
void agent_limit(struct agent *a, uint64_t ms);

#endif
