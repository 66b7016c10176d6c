/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_AGENT_H
#define STAGERUN_AGENT_H

#include "actions.h"
#include "process.h"
#include "settings.h"
#include "stage.h"
#include <stdbool.h>
#include <uv.h>

/* The agent at work: one loop with what hangs on it. Commands read as stories because each step
 * here runs the loop until its work is done, or a signal has stopped it. Loop thread only. */

struct agent {
	/* Set at creation. */
	const struct settings *settings;
	const struct inherited *inherited;
	uv_loop_t loop;
	struct budget *budget;
	struct transfer
		*transfer; /* NULL until something is staged: curl takes milliseconds to start */
	uv_signal_t signals[4];
	uv_timer_t deadline;
	bool opened;            /* the loop is there */
	struct run_facts facts; /* what actions are told; the command's to fill in */

	int signal;       /* the first that asked us to end; 0: none */
	bool out_of_time; /* a signal came, and work did not stop in time: leave at once */
	void (*cancel)(void *work, bool hard); /* what a signal does to the step under way */
	void *work;
};

int agent_open(
	struct agent *a, const struct settings *s, const struct inherited *in, struct error *err);

/* Stops the loop and gives everything back; after out_of_time nothing. Also after agent_open() failed.
 * Look at a->signal after this: what came up to here is heard, what comes later waits until
 * inherited_restore(). */
void agent_close(struct agent *a);

/* The exit code for the signal that ended the work. After out_of_time it ends the process: threads
 * still use what every caller would free next. */
int agent_signal_code(const struct agent *a);

/* Each returns 0, or the failure; -ECANCELED after a signal. Reasons of single stages were logged.
 */
int agent_stage(struct agent *a, const struct stage_spec *specs, size_t n, struct error *err);
int agent_actions(struct agent *a, const struct runfile *f, enum lifecycle_point point,
	size_t first, struct strings *environment, struct error *err);

/* Starts the transfer engine if it is not there. */
int agent_need_transfer(struct agent *a, struct error *err);

#endif
