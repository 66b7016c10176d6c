/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RUN_H
#define STAGERUN_RUN_H

#include "../agent.h"
#include "../options.h"
#include "../plan.h"
#include "hooks.h"
#include "oom.h"
#include "process.h"
#include "report.h"
#include "run_status.h"
#include "runfile.h"
#include "settings.h"
#include "stage.h"
#include "telemetry.h"
#include <stdbool.h>
#include <stdint.h>

/* `run` and `prewarm`: prepare, stage, run the start actions, then exec the command or supervise
 * it. Loop thread only.
 *
 *   run.c           `run`: the steps in order; how a run ended; the end of remaining processes
 *   prewarm.c       `prewarm`: the same up to the end of staging, once or repeatedly; its summary
 *   metrics.c       what prewarm has done, for Prometheus (metrics.h)
 *   supervise.c     the agent as the command's parent; the grace period
 *   hook.c          `hook`: a single point of config.yml, by hand
 *   telemetry*.c    the timeline of a run, its reports, spans for a collector (telemetry.h)
 *   status_writer.c what it is doing, for `stagerun status`
 *   staged.c        what was staged, for the termination message
 *   command_check.c whether the command is there, or something can bring it
 *   ready.c         what the start was spent on, as one line of the log
 *   dry_run*.c      `--dry-run`: prints the plan, and checks whether it would work (dry_run.h)
 *   registration.c  registers in the store which versions a run uses
 *
 * The folder above has what other commands use as well:
 *
 *   plan.c, attach.c      config.yml, options and environment to a plan (plan.h)
 *   agent*.c              the steps that they consist of (agent.h)
 *   request.c, options.c  the options and what each sets (options.h) */

/* --- registration.c --- */

/* Registers in the store which versions a run uses, so that they are not deleted meanwhile. It is
 * an attempt only: many users can read a store but not write to it. */

struct registration {
	struct strings keys; /* of the objects that it wrote to the store */
};

/* Call it before staging. Does nothing unless the setting store.register_runs is set. */
void registration_make(struct registration *r, struct agent *a, const struct attachments *attached);
void registration_remove(struct registration *r, struct agent *a);
void registration_done(struct registration *r);

/* --- ready.c --- */

/* What the start of a run was spent on, for one line at its end. Loop thread. */

struct ready {
	uint64_t begun_ns;        /* CLOCK_MONOTONIC */
	uint64_t dependencies_ns; /* 0: none were installed */
	uint64_t actions_ns;      /* 0: there were none */

	uint64_t bytes; /* that were brought into directories; 0: all was there already */
	/* What the stage waited for that took longest. */
	uint64_t stage_ns, network_ns, decode_ns, disk_ns;
};

/* As stage_env.on_result, with a struct ready as ctx. */
void ready_add_stage(void *ready, const struct stage_result *r);

/* Logs how long the start took, and its parts; nothing where there was nothing to do. */
void ready_log(const struct ready *r);

/* --- staged.c --- */

/* What a run has staged, for its termination message. Loop thread. Zero-initialized by the
 * caller. */
struct staged {
	struct termination_source *v; /* its strings are on the heap */
	size_t n;
};

/* As stage_env.on_result, with a struct staged as ctx: adds each source of a stage that
 * succeeded. */
void staged_add(void *staged, const struct stage_result *r);
void staged_done(struct staged *s);

/* --- status_writer.c --- */

/* Writes what the run is doing to its file in the state directory, for `stagerun status`: each
 * phase at once, and progress once a second. Where no such file can be written there is none, and
 * one line of debugging. Loop thread. All functions do nothing before status_writer_open(). */
struct status_writer {
	bool opened;
	bool refused;              /* there is no state directory */
	int directory_fd;          /* -1 before the first write */
	const struct agent *agent; /* borrowed; NULL before status_writer_watch() */
	struct run_status status;
	uint64_t begin_ns, written_ns; /* CLOCK_MONOTONIC */
};

/* The run begins. Nothing is written yet, so a start without anything to do costs one write. */
void status_writer_open(struct status_writer *w, bool is_prewarm);
void status_writer_close(struct status_writer *w); /* accepts a zeroed one; the file stays */

/* After agent_open(): the progress of what the agent stages is written. */
void status_writer_watch(struct status_writer *w, struct agent *a);

/* The phase begins. PHASE_COMMAND: the start is done. */
void status_writer_enter(struct status_writer *w, enum run_phase phase);

/* A round of a prewarm that stays has ended. message: why it failed; NULL: it did not. */
void status_writer_round(struct status_writer *w, const char *message, uint64_t next_ms);

/* How it ended. phase and message are those of a failure. */
void status_writer_end(
	struct status_writer *w, int exit_code, const char *phase, const char *message);

/* --- run.c --- */

/* The operators' hooks of a run, and the end points that are due because their start point was
 * reached. */
struct run_hooks {
	struct hooks *found; /* NULL until hooks_find() */
	bool due[HOOK_POINT_COUNT];
};

struct run {
	struct request request;
	struct settings *settings; /* NULL until they were read */
	struct plan plan;
	struct agent agent;
	struct run_hooks hooks;
	struct registration registration;
	struct telemetry telemetry; /* of `run` alone */
	struct staged staged;       /* of `run` alone */
	struct status_writer status;
	struct ready ready;       /* of `run` alone */
	const char *why_outlives; /* why the agent outlives the command; NULL: it does not */
	char *command_path;       /* where the command is; NULL: unknown, or it may change; heap */
	const char *phase; /* "config", "stage", "start", "exec", "command": where it failed */
	struct error why;  /* how it ended */
};

/* Reads the settings, finds the hooks and makes the plan; changes nothing. words: the command; none
 * for prewarm. */
int run_prepare(struct run *r, char *const *words, struct error *err);
/* After run_prepare() failed: logs err and runs the hooks of on_failure. Returns exit_code. */
int run_fail_early(
	struct run *r, int exit_code, const struct error *err, const struct inherited *in);
/* Stages the plan's head, between the hooks of staging. *ret_logged: err was already logged.
 * Returns 0 or a negative code; -ECANCELED after a signal. */
int run_stage(struct run *r, bool *ret_logged, struct error *err);
/* After the start failed or a signal arrived: reports that and runs the operators' hooks. failed:
 * the exit code for a failure. Returns the exit code. */
int run_end_start(struct run *r, int failed, const struct error *err, bool logged);
void run_done(struct run *r);

/* Creates the scratch directories that config.yml declares, before the first action. f may be
 * NULL. */
int run_make_scratch(const struct runfile *f, const struct inherited *in, struct error *err);

/* Runs the hooks of the end points that are due. Their failures are only logged. a->facts must
 * describe how the run ended. */
void run_hooks_end(struct run_hooks *h, struct agent *a, struct strings *environment);

/* Reports the reason on stderr (unless it was logged) and in the termination message. Returns
 * exit_code. */
int run_fail(struct run *r, int exit_code, const struct error *err, bool logged);

/* Reports that a signal ended the run. Returns its exit code, 128+n. */
int run_end_by_signal(struct run *r);

/* Waits until the processes below this one, which already got SIGTERM, have ended. Kills them once
 * *may_kill is true, but not before term_ms. */
void run_await_orphans(struct agent *a, uint64_t term_ms, const bool *may_kill);

/* --- command_check.c --- */

/* What may bring the command, or change PATH, before it is started: "an action", or the directory
 * of a stage; NULL: nothing can. */
const char *command_check_bringer(const struct plan *p, const struct hooks *hooks);
/* Returns 0, also if something may bring the command; otherwise the exit code with which it would
 * fail to start, 127 or 126, with err as process_exec() sets it. Does no more than a few looks.
 * *ret_path (heap): where the command is, if it is the first thing that this run does. */
int command_check(
	const struct plan *p, const struct hooks *hooks, char **ret_path, struct error *err);

/* --- dry_run.c --- */

/* Prints on stdout what r would do, as text or, with --json, as an object, and on stderr a line for
 * each thing that would make it fail. Sources are asked, and nothing is changed. Secrets are
 * hidden. Call it after run_prepare(). Returns the exit code: 0: all would do; 1; or 128+n after
 * signal n. */
int dry_run(const struct run *r, const struct inherited *in);
/* After run_prepare() failed: prints that as an object, with --json. */
void dry_run_fail(const struct run *r, const struct error *err);

/* --- prewarm.c --- */

/* The result of a prewarm, or of one round of it: one line of JSON for schedulers. */
struct prewarm_summary {
	struct text destinations;        /* JSON, without the brackets */
	unsigned ends[STAGE_ENDS_COUNT]; /* how many of each enum stage_end */
	uint64_t received, bytes, entries;
	uint64_t began_ns;
};

void prewarm_summary_begin(
	struct prewarm_summary *s); /* starts a summary, or that of the next round */
void prewarm_summary_add(void *summary, const struct stage_result *r);
/* exit_code: the exit code that this result leads to. reason: of a failure; NULL or "": none.
 * Heap. */
char *prewarm_summary_text(const struct prewarm_summary *s, int exit_code, const char *reason);
void prewarm_summary_done(struct prewarm_summary *s);

/* --- supervise.c --- */

/* The grace period: it starts with the first SIGTERM, and the command, the end actions and hooks,
 * and the last reports share it. Times are milliseconds of one clock; UINT64_MAX while the period
 * is not running. */
struct grace {
	uint64_t period_ms;
	uint64_t began_ms;
	bool running;
};

void supervise_grace_begin(struct grace *g, uint64_t now_ms); /* idempotent */

/* After 70 %: the command and its group are killed. */
uint64_t supervise_grace_command_ends(const struct grace *g);
/* The running action or hook gets SIGTERM, and no other is started. */
uint64_t supervise_grace_actions_end(const struct grace *g);
uint64_t supervise_grace_actions_killed(const struct grace *g); /* and SIGKILL */
uint64_t supervise_grace_over(const struct grace *g);           /* the agent must have ended */

/* Stores why the agent must outlive the command, for people ("the agent is PID 1"), or NULL if the
 * command replaces the agent. Returns -ERR_CONFIG when it must but the settings forbid it. */
int supervise_decide(const struct settings *s, const struct plan *p, const struct hooks *hooks,
	const char **ret_why, struct error *err);

/* How the command ended. */
struct run_ending {
	int exit_code; /* the command's, or 128+n */
	int signal;    /* the signal that ended it, or 0 */
	enum end_reason reason;
	struct error why; /* a sentence for people, also after success */
	uint64_t elapsed_ns;
};

/* Logs that the command is started: the process pid runs it, or will in a moment. */
void run_log_command(const struct plan *p, pid_t pid);

struct supervision {
	/* Set at creation. */
	struct agent *agent;
	const struct settings *settings;

	/* The command. */
	struct job *job;       /* NULL before it was started, and after it has gone */
	bool ended;            /* the command has ended */
	bool gone;             /* and its whole group */
	bool killed;           /* by the agent, before it ended */
	bool may_kill_orphans; /* its share of the grace period is over, or the signal came again */
	bool terminated;       /* it ended while the grace period was running */
	int ended_by;          /* the last ending signal before its end, or 0 */
	int wait_status;

	/* The request to end, and the time for it. */
	int end_signal; /* the last ending signal, or 0 */
	uint64_t end_signal_ms;
	struct grace grace;
	uv_timer_t budget;    /* the next time that grace defines */
	uv_timer_t step_kill; /* after a repeated signal: kills the current step */
	unsigned n_closed;
	bool timers_closed;
};

/* From now on the supervision handles signals. If a signal ended the start, the grace period counts
 * from that signal, and steps are no longer cancelled. */
void supervise_open(struct supervision *s, struct agent *a);
void supervise_close(struct supervision *s); /* runs the loop until its timers are closed */

/* Runs the command to its end. Returns 0 with *ret filled, or a negative code when it could not be
 * started, with the exit code in *ret. */
int supervise_command(
	struct supervision *s, const struct plan *p, struct run_ending *ret, struct error *err);

/* Runs the user's on_experiment_end actions. */
void supervise_end_actions(struct supervision *s, struct plan *p);

/* How long remaining processes may take after SIGTERM. */
uint64_t supervise_orphans_wait_ms(const struct supervision *s);

#endif
