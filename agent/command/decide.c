/* SPDX-License-Identifier: MIT */
/* Whether the command takes the agent's place. Touches nothing. */
#include "defer.h"
#include "supervise.h"

/* What is to be done after the command: for a person, and the first of it. */
static const char *find_ends(const struct plan *p, const struct hooks *hooks, char **ret_first)
{
	const struct actions *end = plan_actions(p, POINT_EXPERIMENT_END);

	if (end->n > 0) {
		*ret_first = format_text("%s:%u", p->runfile->path, end->v[0].line);
		return "there are on_experiment_end actions";
	}
	if (hooks_any(hooks, HOOK_EXPERIMENT_END)) {
		*ret_first = copy_text(hooks->at[HOOK_EXPERIMENT_END].v[0].path);
		return "there are on_experiment_end hooks";
	}
	return NULL;
}

/* Hooks of on_failure are for the command's failure, too, but can do without. */
static const char *find_reason(const struct settings *s, const struct hooks *hooks)
{
	if (s->supervise == SUPERVISE_ALWAYS)
		return "process.supervise is always";
	if (s->supervise == SUPERVISE_NEVER)
		return NULL;
	if (hooks_any(hooks, HOOK_FAILURE))
		return "there are on_failure hooks";
	return getpid() == 1 ? "the agent is PID 1" : NULL;
}

int supervise_decide(const struct settings *s, const struct plan *p, const struct hooks *hooks,
	const char **ret_why, struct error *err)
{
	_free_ char *first = NULL;

	*ret_why = NULL;
	if (p->command.n == 0)
		return 0;
	*ret_why = find_ends(p, hooks, &first);
	if (*ret_why != NULL && s->supervise == SUPERVISE_NEVER)
		return error_set(err, -ERR_CONFIG,
			"%s, which need an agent that outlives the command (the first: %s), but "
			"process.supervise is never: set it to auto",
			*ret_why, first);
	if (*ret_why == NULL || s->supervise == SUPERVISE_ALWAYS)
		*ret_why = find_reason(s, hooks);
	return 0;
}
