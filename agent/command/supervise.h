/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SUPERVISE_H
#define STAGERUN_SUPERVISE_H

#include "agent.h"
#include "grace.h"
#include "oom.h"
#include "plan.h"
#include "report.h"

/* The agent as the command's parent: the command, what comes after it, and the signals and the budget
 * that go through both. Loop thread. */

/* Why the agent has to outlive the command, for a person ("it is PID 1"), or NULL: it need not, the command
 * takes its place. -ERR_CONFIG when it has to and settings forbid it. */
int supervise_decide(const struct settings *s, const struct plan *p, const struct hooks *hooks,
	const char **ret_why, struct error *err);

/* How a run came to its end. */
struct ending {
	int exit_code; /* the command's, 128+n */
	int signal;    /* that ended it, or 0 */
	enum end_reason reason;
	struct error why; /* the sentence for people, also when all went well */
};

struct supervision {
	/* Set at creation. */
	struct agent *agent;
	const struct settings *settings;

	/* The command, NULL when it is not there (any more). */
	struct job *job;
	bool ended, gone; /* it has; and all of its group */
	bool killed;      /* by us, for the budget or in a hurry */
	bool terminated;  /* the budget ran when it ended */
	int ended_by;     /* the last signal that asked it to, or 0 */
	int wait_status;

	/* What asked for an end, and how long that may take. */
	int asked; /* the last signal that asked for it, or 0 */
	uint64_t asked_ms;
	struct grace grace;
	uv_timer_t budget; /* the next moment of grace */
	uv_timer_t hurry;  /* the step under way was told to end: it is killed */
	unsigned n_closed;
	bool timers_closed;
};

/* From here on signals are this module's. One that ended the start began the grace period, and steps are no
 * longer cancelled. */
void supervision_open(struct supervision *s, struct agent *a);
void supervision_close(struct supervision *s); /* runs the loop until it is closed */

/* Runs the command. 0, with what it came to in *ret; or the failure to start it, with the exit code. */
int supervise_command(
	struct supervision *s, const struct plan *p, struct ending *ret, struct error *err);

/* The user's on_experiment_end actions. */
void supervise_end_actions(struct supervision *s, struct plan *p);

/* How long agent_end_remains() may be patient. */
uint64_t supervision_patience_ms(const struct supervision *s);

/* What the command's end means; oom_sentence as of oom_sentence(). */
void ending_judge(const struct supervision *s, enum oom_verdict oom, const char *oom_sentence,
	struct ending *ret);

#endif
