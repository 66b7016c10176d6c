/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HOOKS_PRIVATE_H
#define STAGERUN_HOOKS_PRIVATE_H

#include "error.h"
#include "log.h"
#include "runner.h"
#include "text.h"
#include <stdbool.h>
#include <stddef.h>

/* Runs programs around the command: the actions of config.yml, the operators' hooks, and the
 * install of dependencies. All of it runs on the loop thread.
 *
 *   contract.c      the environment variables that hooks and actions get
 *   task.c          one run of one program, and the variables that it sets through $STAGERUN_ENV
 *   runner.c        the items of a point, one after another: retries, skipping, cancelling
 *   actions.c       the actions of config.yml as items
 *   find.c          the operators' hooks: finds them, and checks who could have written them
 *   hook_run.c      the hooks of a point as items
 *   dependencies.c  chooses the package manager and the environment to install into
 *   install.c       runs the package manager, and finds the error in its output */

/* --- contract.c --- */

/* Sets the contract's variables for this point in environment, and removes those without a value,
 * because they may have been inherited from another agent. variables is the path for
 * $STAGERUN_ENV. */
void contract_apply(const struct run_facts *f, const char *point, const char *variables,
	struct strings *environment);

/* --- task.c --- */

/* One attempt to run one program of a point: the shell of an action, or a hook. It gets the
 * variables of the contract. $STAGERUN_ENV names a new file for each attempt, to which the
 * program may append NAME=VALUE lines; they become variables of later items and of the command. A
 * value extends to the end of its line, including any quotes. The last line with a name is the
 * one that counts. */
struct task_options {
	uv_loop_t *loop;
	const struct settings *settings; /* for the names of secrets */
	const struct inherited *inherited;
	char *const *argv;             /* only read by task_start() */
	struct strings *environment;   /* read by task_start(); extended if the program succeeds */
	const struct run_facts *facts; /* only read by task_start() */
	/* The span of what runs. task_start() begins it; when the program has ended, the task ends
	 * it. attempt: from 1. */
	struct run_recorder recorder;
	enum span_kind span_kind;
	unsigned attempt;
	const char *point;   /* "on_experiment_start" */
	uint64_t timeout_ms; /* 0: none */
	/* Run the program even if no file for $STAGERUN_ENV can be created, because nothing that
	 * runs after it needs its variables. */
	bool variables_optional;
	/* The subject of warnings: "on_experiment_start action 2 (...)". Valid while the task
	 * runs. */
	const char *label;
	/* Logged before each line of output, on stderr. NULL: the program inherits the output. */
	const char *prefix;
	/* Called once, from the loop. code is 0, or -ERR_COMMAND with a message such as
	 * "exit status 3". */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *ctx;
};

struct task;

/* Copies opts. The caller frees *ret with task_free(). */
int task_start(const struct task_options *opts, struct task **ret, struct error *err);
void task_kill(struct task *t, int signal);
void task_free(struct task *t); /* in or after on_done; accepts NULL */

/* Checks, before any item runs, whether a file for $STAGERUN_ENV can be created. Logs a warning
 * if it cannot be in the directory that TMPDIR names. */
int task_environment_check(const struct strings *env, struct error *err);

/* --- runner.c --- */

/* What actions and hooks do differently. */
struct runner_ops {
	/* Calls runner_set_label(), sets r->retries, and starts item r->at. If it returns 0,
	 * runner_item_done() is called once, from the loop; runner_start_task() ensures that. */
	int (*start)(struct runner *r, struct error *err);
	/* Adds to r->err, which says why item r->at failed. NULL: there is nothing to add. */
	void (*explain)(struct runner *r);
	/* Sets r->err to -ECANCELED; r->at is the first item that was not completed. */
	void (*set_cancelled)(struct runner *r);
	void (*free)(struct runner *r); /* frees what the runner is a member of */
};

struct runner {
	/* Set before runner_start(). */
	const struct runner_ops *ops;
	struct runner_env env;
	const char *point; /* "on_experiment_start" */
	size_t at;         /* index of the first item; then of the running one, or the next one */
	size_t n;
	bool keep_going; /* log the failure of an item, at failure_level, and run the next one */
	enum log_level failure_level;
	enum span_kind span_kind; /* of an item */
	bool cancel_wins;         /* -ECANCELED even if the item, or the last one, succeeds */

	/* Of the current item. */
	char *label;       /* "on_experiment_start action 2 (config.yml:14)" */
	char *prefix;      /* "[on_experiment_start 2] " or NULL */
	unsigned retries;  /* how many it has */
	unsigned failures; /* attempts that failed */
	bool started;      /* the first attempt was started */
	bool running;      /* an attempt was started, and is not done */
	bool skipped;      /* it gets no further attempt, and has failed */
	struct task *task; /* not NULL while it runs as a task */

	bool cancelled, finished;
	uv_timer_t turn;  /* starts the next item, or the next attempt */
	struct error err; /* of the last attempt of the item, or of the run */
};

void runner_start(struct runner *r);
/* Takes label, which is on the heap; name is what its lines of output are prefixed with. */
void runner_set_label(struct runner *r, char *label, const char *name);
/* Starts the item as a task. */
int runner_start_task(struct runner *r, char *const *argv, uint64_t timeout_ms, struct error *err);
void runner_item_done(struct runner *r, int code, const struct error *err);

/* --- install.c --- */

/* The cause of a package manager's failure, collected line by line from its output. Initially all
 * zero. */
struct complaint {
	char *error;     /* the last line that is an error, without "ERROR: "; NULL: none yet */
	char *last;      /* the last line that is not blank; NULL: none yet */
	char *package;   /* the requirement that pip could not find, or NULL */
	char *network;   /* why pip's first request failed; NULL: none did */
	bool gave_up;    /* pip has used up its attempts to reach an index */
	bool continues;  /* error ends in ':', so the next line belongs to it */
	bool is_managed; /* PEP 668: pip must not install into this environment */
};

/* Adds one line of output, without its line end. */
void install_complaint_add(struct complaint *c, const char *line, size_t len);
/* The most useful line; NULL if there was no output. */
const char *install_complaint_text(const struct complaint *c);
/* Why pip found no package: the network that it had given up on; NULL: something else. */
const char *install_complaint_network(const struct complaint *c);
void install_complaint_done(struct complaint *c);

#endif
