/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RUN_H
#define STAGERUN_RUN_H

#include "agent.h"
#include "plan.h"
#include "registration.h"
#include "report.h"
#include "request.h"
#include "run_hooks.h"
#include "supervise.h"

/* What the files of `run` and `prewarm` share. */

struct run {
	struct request request;
	struct settings *settings; /* NULL until they were read */
	struct plan plan;
	struct agent agent;
	struct run_hooks hooks;
	struct registration registration;
	const char *why_outlives; /* the command; NULL: it takes this process */
	const char *phase; /* "config", "stage", "start", "exec": for the reason of a failure */
	struct error why;  /* it ended so */
};

/* Where the reason goes, also when it is that the settings cannot be read. */
const char *run_termination_path(const struct run *r);

/* Says why, on stderr (unless it was logged) and in the termination message, and gives exit_code. */
int run_fail(struct run *r, int exit_code, const struct error *err, bool logged);

/* A signal ended us: its code. */
int run_end_by_signal(struct run *r);

/* How the command ended; why it failed, unless it wrote that itself since mark. */
void run_tell_ending(struct run *r, const struct ending *e, const struct termination_mark *mark);

#endif
