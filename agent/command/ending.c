/* SPDX-License-Identifier: MIT */
/* What the command's end means, as a word and as a sentence. */
#include "defer.h"
#include "supervise.h"
#include <string.h>
#include <sys/wait.h>

/* Asked to end: by SIGTERM, which begins the budget, or by another signal of that kind that it died of (a
 * program that catches SIGINT ends with 130, as a shell would). */
static bool was_terminated(const struct supervision *s, int exit_code)
{
	return s->terminated || (s->ended_by != 0 && exit_code == 128 + s->ended_by);
}

static enum end_reason reason_of(const struct supervision *s, enum oom_verdict oom, int exit_code)
{
	if (oom == OOM_COMMAND || (oom == OOM_WORKER && exit_code != 0))
		return END_OOM_KILLED;
	if (was_terminated(s, exit_code))
		return END_TERMINATED;
	if (WIFSIGNALED(s->wait_status))
		return END_SIGNALED;
	return exit_code == 0 ? END_COMPLETED : END_FAILED;
}

static void explain(const struct supervision *s, const char *oom_sentence, struct error *ret)
{
	_free_ char *status = describe_wait_status(s->wait_status);
	_free_ char *after =
		s->ended_by != 0 ? format_text(", after SIG%s", sigabbrev_np(s->ended_by)) : NULL;

	error_set(ret, -ERR_COMMAND, "the command ended with %s%s%s%s%s", status,
		after != NULL ? after : "",
		s->killed ? " (the agent killed it, since it did not end in time)" : "",
		oom_sentence != NULL ? ": " : "", oom_sentence != NULL ? oom_sentence : "");
}

void ending_judge(const struct supervision *s, enum oom_verdict oom, const char *oom_sentence,
	struct ending *ret)
{
	ret->exit_code = wait_status_code(s->wait_status);
	ret->signal = WIFSIGNALED(s->wait_status) ? WTERMSIG(s->wait_status) : 0;
	ret->reason = reason_of(s, oom, ret->exit_code);
	explain(s, oom_sentence, &ret->why);
}
