/* SPDX-License-Identifier: MIT */
/* How a run ended, told to all who want to know: stderr, the termination message, hooks and end actions. */
#include "log.h"
#include "run.h"
#include <stdlib.h>
#include <string.h>

#define CLUSTERS_OWN "/dev/termination-log"

const char *run_termination_path(const struct run *r)
{
	const char *path = getenv("STAGERUN_TERMINATION_LOG"); /* NOLINT(concurrency-mt-unsafe) */

	if (r->settings != NULL)
		return r->settings->termination_log;
	return path != NULL ? path : CLUSTERS_OWN;
}

/* A file that was asked for is made; the cluster's own is there or it is not. */
static void tell_termination(const struct run *r, enum end_reason reason, int exit_code, int signum,
	const struct error *why)
{
	const char *path = run_termination_path(r);

	termination_message(path, strcmp(path, CLUSTERS_OWN) != 0,
		&(struct termination){.phase = r->phase,
			.exit_code = exit_code,
			.signal = signum,
			.item = why->item[0] != '\0' ? why->item : NULL,
			.reason = reason,
			.message = why->msg});
}

/* What hooks and end actions are told. */
static void tell_facts(
	struct run *r, enum end_reason reason, int exit_code, int signum, const struct error *why)
{
	struct run_facts *facts = &r->agent.facts;

	r->why = *why;
	facts->ended = true;
	facts->exit_code = exit_code;
	facts->exit_signal = signum;
	facts->exit_reason = end_reason_name(reason);
	facts->failure_phase = exit_code != 0 ? r->phase : NULL;
	facts->failure_message = exit_code != 0 ? r->why.msg : NULL;
}

int run_fail(struct run *r, int exit_code, const struct error *err, bool logged)
{
	if (!logged)
		log_error("%s", err->msg);
	tell_facts(r, END_START_FAILED, exit_code, 0, err);
	tell_termination(r, END_START_FAILED, exit_code, 0, err);
	return exit_code;
}

int run_end_by_signal(struct run *r)
{
	static const struct error why = {
		.msg = "stopped by a signal before the command was started"};
	int signum = r->agent.signal;

	tell_facts(r, END_TERMINATED, 128 + signum, signum, &why);
	tell_termination(r, END_TERMINATED, 128 + signum, signum, &why);
	return 128 + signum;
}

void run_tell_ending(struct run *r, const struct ending *e, const struct termination_mark *mark)
{
	r->phase = "command";
	tell_facts(r, e->reason, e->exit_code, e->signal, &e->why);
	if (e->reason == END_COMPLETED)
		return;
	log_info("%s", e->why.msg);
	if (!termination_was_written(run_termination_path(r), mark))
		tell_termination(r, e->reason, e->exit_code, e->signal, &e->why);
}
