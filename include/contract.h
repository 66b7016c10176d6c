/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CONTRACT_H
#define STAGERUN_CONTRACT_H

#include "text.h"

/* What hooks and actions are told by way of their environment: one table, from which the variables are
 * set, `stagerun hook --help` is printed, and against which stagerun-hooks(5) is checked. Loop thread. */

/* What is known of the run so far. Whoever runs it fills this in as it goes; all of it is borrowed. */
struct run_facts {
	const char *config_path;      /* NULL: there is no config.yml */
	const struct strings *staged; /* directories; NULL: nothing was staged yet */

	/* Once the command has ended, or it is certain that it will not start. */
	bool ended;
	int exit_code;           /* the agent's own, then */
	int exit_signal;         /* that ended the command, or the start; 0: none */
	const char *exit_reason; /* "completed", "failed", "signaled", ..., "start_failed" */

	/* When the run has failed, else NULL. */
	const char *failure_phase;   /* as in the termination message: "stage" */
	const char *failure_message; /* the sentence */
};

/* In environment, sets the variables of this point, and removes those that it does not have: they may
 * have been inherited from another agent. variables: the file behind $STAGERUN_ENV. */
void contract_apply(const struct run_facts *f, const char *point, const char *variables,
	struct strings *environment);

/* The twins of Grid's variables, where they are not set themselves. */
void contract_set_twins(struct strings *environment);

/* Calls row() for each variable. */
void contract_describe(
	void (*row)(void *ctx, const char *name, const char *where, const char *meaning),
	void *ctx);

#endif
