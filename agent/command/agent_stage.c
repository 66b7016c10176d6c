/* SPDX-License-Identifier: MIT */
/* Stages at once, as one step of the agent. Loop thread. */
#include "agent.h"
#include "attach.h"
#include "defer.h"
#include "log.h"
#include <sched.h>

unsigned agent_threads(const struct settings *s)
{
	cpu_set_t cpus;

	if (s->threads > 0)
		return s->threads;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		return (unsigned)CPU_COUNT(&cpus);
	return 1;
}

/* Where its data came from belongs to the run's record. */
static void on_datastore(void *ctx, const struct stage_datastore *d)
{
	struct agent *a = ctx;
	const struct log_field fields[] = {{.key = "datastore", .string = d->name},
		{.key = "version", .type = LOG_NUMBER, .number = d->version},
		{.key = "manifest_sha256", .string = d->manifest_sha256},
		{.key = "directory", .string = d->to}};

	log_fields(LOG_INFO, fields, ARRAY_LEN(fields),
		"datastore %s is version %u (manifest sha256 %s) in %s", d->name, d->version,
		d->manifest_sha256, d->to);
	if (a->environment != NULL)
		attach_add_provenance(d, a->environment);
}

void agent_fill_stage_env(struct agent *a, struct stage_env *env)
{
	const struct settings *s = a->settings;

	agent_need_cache(a);
	*env = (struct stage_env){.loop = &a->loop,
		.transfer = a->transfer,
		.s3 = a->s3,
		.store = a->store,
		.cache = a->cache,
		.cache_only = a->cache_only,
		.cache_keeps = a->cache_keeps,
		.connections = s->network.connections_per_host,
		.budget = a->budget,
		.tree = {.limits = s->limits,
			.same_owner = s->same_owner,
			.uid = s->owner_uid,
			.gid = s->owner_gid},
		.threads = agent_threads(s),
		.parallel = s->parallel_stages,
		.keep_download = s->keep_download,
		.show_progress = s->progress && s->log_format == LOG_TEXT,
		.keep_going = a->keep_going,
		.on_result = a->on_result,
		.on_result_ctx = a->on_result_ctx,
		.on_datastore = on_datastore,
		.on_datastore_ctx = a};
}

static void cancel_stages(void *set, bool hard)
{
	(void)hard;
	stage_set_cancel(set);
}

int agent_stage(struct agent *a, const struct stage_spec *specs, size_t n, struct error *err)
{
	struct outcome *outcome = outcome_new(err);
	struct stage_env env;
	struct stage_set *set = NULL;
	int code = agent_need_sources(a, specs, n, err);

	agent_fill_stage_env(a, &env);
	env.log_failures = true;
	env.on_done = agent_step_done;
	env.on_done_ctx = outcome;
	if (code == 0)
		code = stage_set_start(&env, specs, n, &set, err);
	if (code < 0) {
		log_error("%s", err->msg);
		free(outcome);
		return code;
	}
	a->cancel = cancel_stages;
	a->work = set;
	code = agent_await(a, outcome);
	if (outcome_free(outcome))
		stage_set_free(set);
	return code;
}
