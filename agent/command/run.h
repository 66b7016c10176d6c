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

/* ---- run_stage.c: up to the end of staging. ---- */

/* Everything up to the plan: nothing is touched yet. words: of the command; none for prewarm. */
int run_prepare(struct run *r, char *const *words, struct error *err);
/* That failed, but operators want to know: exit_code. */
int run_fail_early(
	struct run *r, int exit_code, const struct error *err, const struct inherited *in);
/* The hooks of the point. */
int run_reach(struct run *r, enum hook_point point, struct error *err);
/* What the plan says is staged, between the hooks of staging. *ret_logged: err was told already. */
int run_stage(struct run *r, bool *ret_logged, struct error *err);
/* The start has failed, or a signal came: the exit code, once operators' hooks know. */
int run_end_start(struct run *r, int failed, const struct error *err, bool logged);
void run_done(struct run *r);

/* ---- run_end.c: how it ended. ---- */

/* Where the reason goes, also when it is that the settings cannot be read. */
const char *run_termination_path(const struct run *r);

/* Says why, on stderr (unless it was logged) and in the termination message, and gives exit_code. */
int run_fail(struct run *r, int exit_code, const struct error *err, bool logged);

/* A signal ended us: its code. */
int run_end_by_signal(struct run *r);

/* How the command ended; why it failed, unless it wrote that itself since mark. */
void run_tell_ending(struct run *r, const struct ending *e, const struct termination_mark *mark);

#endif
