/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CONTRACT_H
#define STAGERUN_CONTRACT_H

#include "text.h"
#include "timeline.h"
#include "trace_context.h"

/* The environment variables that hooks and actions get from the agent. One table defines them:
 * the variables are set from it, `stagerun hook --help` prints it, and stagerun-hooks(5) is
 * checked against it. Loop thread. */

/* The state of the run, as far as it is known. The caller updates it while the run proceeds; all
 * pointers are borrowed. */
struct run_facts {
	const char *config_path;      /* NULL: there is no config.yml */
	const struct strings *staged; /* directories; NULL: nothing was staged yet */

	/* Valid once the command has ended, or will certainly not be started. */
	bool ended;
	int exit_code;           /* the exit status of the agent */
	int exit_signal;         /* the signal that ended the command, or the start; 0: none */
	const char *exit_reason; /* "completed", "failed", "signaled", ..., "start_failed" */

	/* NULL unless the run has failed. */
	const char *failure_phase;   /* "stage"; as in the termination message */
	const char *failure_message; /* a sentence */
};

/* Where hooks and actions are recorded. */
struct run_recorder {
	struct timeline *timeline;         /* NULL: nobody wants one */
	unsigned parent;                   /* the span that theirs are in */
	const struct trace_context *trace; /* NULL: their TRACEPARENT is not changed */
};

/* Sets each STAGERUN_* variable that is an alias of one of Grid's variables to the value of that
 * variable, unless it is already set. */
void contract_set_aliases(struct strings *environment);

/* Calls row() for each variable of the contract. */
void contract_describe(
	void (*row)(void *ctx, const char *name, const char *where, const char *meaning),
	void *ctx);

#endif
