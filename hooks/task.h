/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HOOKS_TASK_H
#define STAGERUN_HOOKS_TASK_H

#include "contract.h"
#include "process.h"
#include "settings.h"

/* One try of one program of a point: an action's shell or an operator's hook. It is told what the
 * contract promises, and leaves variables in $STAGERUN_ENV. Loop thread. */

struct task_options {
	uv_loop_t *loop;
	const struct settings *settings; /* say whose values are secret */
	const struct inherited *inherited;
	char *const *argv;
	struct strings *environment;   /* read now; added to when the program succeeded */
	const struct run_facts *facts; /* read now */
	const char *point;             /* "on_experiment_start" */
	uint64_t timeout_ms;           /* 0: none */
	/* For warnings, as long as it runs: "on_experiment_start action 2 (...)". */
	const char *who;
	/* Before each line of output, on stderr; NULL: output passes as it comes. */
	const char *prefix;
	/* Once, from the loop: 0, or -ERR_COMMAND and "exit status 3". */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *ctx;
};

struct task;

int task_start(const struct task_options *opts, struct task **ret, struct error *err);
void task_kill(struct task *t, int signal);
void task_free(struct task *t); /* in or after on_done; accepts NULL */

#endif
