/* SPDX-License-Identifier: MIT */
/* The operators' hooks of one point, as items of a runner. Loop thread. */
#include "defer.h"
#include "hooks.h"
#include "hooks_private.h"
#include "log.h"
#include <stddef.h>

struct hook_run {
	struct runner runner;
	const struct hook_list *list;
};

/* The operator chooses the policy of the points before the command. The hooks of the other points
 * cannot change the result of the run. */
static enum hook_policy policy_of_point(const struct settings *s, enum hook_point point)
{
	switch (point) {
	case HOOK_STAGE_START:
		return s->on_stage_start;
	case HOOK_STAGE_END:
		return s->on_stage_end;
	case HOOK_EXPERIMENT_START:
		return s->on_experiment_start;
	default:
		return HOOK_WARNS;
	}
}

static const struct hook *current_hook(const struct runner *r)
{
	return &container_of(r, struct hook_run, runner)->list->v[r->at];
}

/* The message names the hooks that did not run. */
static void set_cancelled(struct runner *r)
{
	error_set(&r->err, -ECANCELED, "%s hook %s was %s%s", r->point, current_hook(r)->path,
		r->started ? "ended before it was done" : "not run",
		r->n - r->at > 1 ? ", nor were those after it run" : "");
}

static int start_hook(struct runner *r, struct error *err)
{
	const struct hook *hook = current_hook(r);
	const struct log_field fields[] = {
		log_field_word("point", r->point), log_field_text("command", hook->path)};

	runner_set_label(r, text_format("%s hook %s", r->point, hook->path), hook->name);
	log_event(LOG_INFO, EVENT_HOOK_STARTED, fields, ARRAY_LEN(fields), "%s", r->label);
	return runner_start_task(
		r, (char *[]){hook->path, NULL}, r->env.settings->hook_timeout_ms, err);
}

static void free_run(struct runner *r)
{
	free(container_of(r, struct hook_run, runner));
}

static const struct runner_ops hook_ops = {
	.start = start_hook, .set_cancelled = set_cancelled, .free = free_run};

struct runner *hooks_start(
	const struct runner_env *env, const struct hooks *hooks, enum hook_point point)
{
	struct hook_run *run = zalloc(sizeof(*run));

	run->list = &hooks->at[point];
	run->runner = (struct runner){.ops = &hook_ops,
		.env = *env,
		.point = hook_point_name(point),
		.n = run->list->n,
		.keep_going = policy_of_point(env->settings, point) != HOOK_FAILS,
		.failure_level = LOG_WARN,
		.span_kind = SPAN_HOOK};
	runner_start(&run->runner);
	return &run->runner;
}
