/* SPDX-License-Identifier: MIT */
/* The resources that staging needs, created when they are first needed: the transfer engine, S3,
 * the store, the node cache. Then: stages as a step of the agent. Loop thread. */
#include "agent.h"
#include "cgroup.h"
#include "defer.h"
#include "log.h"
#include "plan.h"
#include "report.h"
#include "source.h"
#include <sched.h>
#include <string.h>
#include <sys/stat.h>

int agent_need_transfer(struct agent *a, struct error *err)
{
	if (a->resources.budget == NULL)
		a->resources.budget = budget_new(a->settings->memory_budget);
	if (a->resources.transfer != NULL)
		return 0;
	return transfer_new(&a->loop, &a->resources.network,
		budget_network_half(a->resources.budget), &a->resources.transfer, err);
}

/* Heap; NULL: neither variable is set. */
static char *default_directory(void)
{
	/* NOLINTBEGIN(concurrency-mt-unsafe): nothing sets variables while threads run */
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	/* NOLINTEND(concurrency-mt-unsafe) */

	if (data != NULL && data[0] == '/')
		return text_format("%s/stagerun/store", data);
	if (home != NULL && home[0] == '/')
		return text_format("%s/.local/share/stagerun/store", home);
	return NULL;
}

char *agent_store_url(const struct settings *s)
{
	_free_ char *dir = s->store[0] == '\0' ? default_directory() : NULL;

	if (s->store[0] != '\0')
		return text_copy(s->store);
	return dir != NULL ? text_format("file://%s", dir) : NULL;
}

bool agent_has_store(const struct settings *s)
{
	_free_ char *dir = s->store[0] == '\0' ? default_directory() : NULL;
	struct stat st;

	return s->store[0] != '\0' || (dir != NULL && stat(dir, &st) == 0 && S_ISDIR(st.st_mode));
}

static void agent_need_s3(struct agent *a)
{
	struct s3_options opts = agent_s3_options(a->settings);

	opts.network = &a->resources.network;
	opts.environment = environ;
	if (a->resources.s3 == NULL)
		a->resources.s3 = s3_new(&opts);
}

int agent_need_store(struct agent *a, struct error *err)
{
	_free_ char *url = agent_store_url(a->settings);
	struct store_env env = {.url = url};

	if (a->resources.store != NULL)
		return 0;
	if (url == NULL)
		return error_set(err, -ERR_CONFIG,
			"no store: neither $XDG_DATA_HOME nor $HOME says where the default one is; name it with --store or $STAGERUN_STORE");
	if (a->settings->store[0] == '\0' && !a->resources.store_logged)
		log_info("no store is configured: the default one is used, %s", url);
	a->resources.store_logged = true;
	agent_need_s3(a);
	env.s3 = a->resources.s3;
	return store_new(&env, &a->resources.store, err);
}

static bool any_source_has_scheme(const struct stage_spec *specs, size_t n, const char *scheme)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < specs[i].n_sources; k++) {
			if (source_begins(specs[i].sources[k].url, scheme))
				return true;
		}
	}
	return false;
}

int agent_need_sources(struct agent *a, const struct stage_spec *specs, size_t n, struct error *err)
{
	int code = agent_need_transfer(a, err);

	if (any_source_has_scheme(specs, n, "s3://"))
		agent_need_s3(a);
	if (code == 0 && any_source_has_scheme(specs, n, "datastore:"))
		code = agent_need_store(a, err);
	return code;
}

void agent_need_cache(struct agent *a)
{
	struct cache_options opts = agent_cache_options(a->settings);
	struct error err;

	opts.make = true;
	if (opts.dir[0] == '\0' || a->resources.cache != NULL || a->resources.cache_refused)
		return;
	a->resources.cache_refused = cache_open(&opts, &a->resources.cache, &err) < 0;
	if (a->resources.cache_refused)
		log_warn("staging goes without the node cache: %s", err.msg);
}

/* Frees the store and S3. No thread may use them. */
static void free_store(struct agent *a)
{
	store_free(take_ptr(&a->resources.store));
	s3_free(take_ptr(&a->resources.s3));
}

static void on_transfer_closed(void *ctx)
{
	struct agent *a = ctx;

	a->resources.transfer_closed = true;
}

void agent_release_resources(struct agent *a)
{
	if (a->abandoned)
		return;
	a->resources.transfer_closed = a->resources.transfer == NULL;
	if (!a->resources.transfer_closed)
		transfer_close(a->resources.transfer, on_transfer_closed, a);
	agent_run_until(a, &a->resources.transfer_closed);
	a->abandoned = !a->resources.transfer_closed;
	if (a->abandoned)
		return;
	a->resources.transfer = NULL;
	monitor_close(take_ptr(&a->monitor));
	free_store(a);
	budget_free(take_ptr(&a->resources.budget));
}

/* Stages as a step. */

/* With more threads than the CPU quota allows, all threads are stopped until its next period. */
unsigned agent_threads(const struct settings *s)
{
	uint64_t n = 1, quota;
	cpu_set_t cpus;

	if (s->threads > 0)
		return s->threads;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		n = (uint64_t)CPU_COUNT(&cpus);
	else if (sysconf(_SC_NPROCESSORS_ONLN) >
		 0) /* more CPUs than a cpu_set_t holds, or it is not permitted */
		n = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
	quota = cgroup_processors("");
	return (unsigned)(n < quota ? n : quota);
}

struct wait_limit agent_lock_limit(const struct settings *s)
{
	return (struct wait_limit){
		.limited = s->lock_timeout_ms != UINT64_MAX, .ms = s->lock_timeout_ms};
}

/* Logs the version, as a record of the data that the run used. */
static void on_datastore(void *ctx, const struct stage_datastore *d)
{
	struct agent *a = ctx;
	const struct log_field fields[] = {log_field_text("datastore", d->name),
		log_field_integer("version", d->version),
		log_field_word("manifest_sha256", d->manifest_sha256), log_field_text("to", d->to)};

	log_event(LOG_INFO, EVENT_DATASTORE_STAGED, fields, ARRAY_LEN(fields),
		"datastore %s is version %u (manifest sha256 %s) in %s", d->name, d->version,
		d->manifest_sha256, d->to);
	if (a->policy.environment != NULL)
		attach_add_provenance(d, a->policy.environment);
}

void agent_fill_stage_env(struct agent *a, struct stage_env *env)
{
	const struct settings *s = a->settings;

	agent_need_cache(a);
	*env = (struct stage_env){.loop = &a->loop,
		.transfer = a->resources.transfer,
		.s3 = a->resources.s3,
		.store = a->resources.store,
		.cache = a->resources.cache,
		.cache_only = a->policy.cache_only,
		.cache_keeps = a->policy.cache_keeps,
		.connections = s->network.connections_per_host,
		.connections_all = s->network.connections,
		.budget = a->resources.budget,
		.tree = agent_tree_options(s),
		.threads = agent_threads(s),
		.parallel = s->parallel_stages,
		.keep_download = s->keep_download,
		.lock_limit = agent_lock_limit(s),
		.zip_names = s->zip_names,
		.timeline = a->policy.recorder.timeline,
		.span = a->policy.recorder.parent,
		.max_rate = s->network.max_rate,
		.monitor = agent_monitor(a),
		.keep_going = a->policy.keep_going,
		.on_result = a->policy.on_result,
		.on_result_ctx = a->policy.on_result_ctx,
		.on_datastore = on_datastore,
		.on_datastore_ctx = a};
}

static void cancel_stages(void *set, bool hard)
{
	(void)hard;
	stage_set_cancel(set);
}

static void free_stages(void *set)
{
	stage_set_free(set);
}

int agent_stage(struct agent *a, const struct stage_spec *specs, size_t n, struct error *err)
{
	static const struct step_ops ops = {.cancel = cancel_stages, .free = free_stages};
	struct outcome *outcome = agent_outcome_new(err);
	struct stage_env env;
	struct stage_set *set = NULL;
	int code = agent_need_sources(a, specs, n, err);

	agent_fill_stage_env(a, &env);
	env.log_failures = true;
	env.on_done = agent_step_done;
	env.on_done_ctx = outcome;
	if (code == 0)
		code = stage_set_start(&env, specs, n, &set, err);
	if (code < 0)
		log_error("%s", err->msg);
	return agent_step_run(a, &ops, set, outcome, code);
}
