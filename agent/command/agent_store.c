/* SPDX-License-Identifier: MIT */
/* The store and S3, once something needs them. Loop thread; no I/O. */
#include "agent.h"
#include "cache.h"
#include "defer.h"
#include "log.h"
#include <string.h>

char *agent_store_url(const struct settings *s)
{
	/* NOLINTBEGIN(concurrency-mt-unsafe): nothing sets variables while threads run */
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	/* NOLINTEND(concurrency-mt-unsafe) */

	if (s->store[0] != '\0')
		return copy_text(s->store);
	if (data != NULL && data[0] == '/')
		return format_text("file://%s/stagerun/store", data);
	if (home != NULL && home[0] == '/')
		return format_text("file://%s/.local/share/stagerun/store", home);
	return NULL;
}

void agent_need_s3(struct agent *a)
{
	const struct settings *s = a->settings;
	const struct s3_options opts = {.endpoint = s->s3_endpoint,
		.region = s->s3_region,
		.profile = s->s3_profile,
		.style = s->s3_style,
		.sign = s->s3_sign,
		.network = &a->network,
		.environment = environ};

	if (a->s3 == NULL)
		a->s3 = s3_new(&opts);
}

int agent_need_store(struct agent *a, struct error *err)
{
	_free_ char *url = agent_store_url(a->settings);
	struct store_env env = {.url = url};

	if (a->store != NULL)
		return 0;
	if (url == NULL)
		return error_set(err, -ERR_CONFIG,
			"no store: neither $XDG_DATA_HOME nor $HOME says where the default one is; "
			"name it with --store or $STAGERUN_STORE");
	agent_need_s3(a);
	env.s3 = a->s3;
	return store_new(&env, &a->store, err);
}

static bool any_begins_with(const struct stage_spec *specs, size_t n, const char *scheme)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < specs[i].n_sources; k++) {
			if (strncasecmp(specs[i].sources[k].url, scheme, strlen(scheme)) == 0)
				return true;
		}
	}
	return false;
}

int agent_need_sources(struct agent *a, const struct stage_spec *specs, size_t n, struct error *err)
{
	int code = agent_need_transfer(a, err);

	if (any_begins_with(specs, n, "s3://"))
		agent_need_s3(a);
	if (code == 0 && any_begins_with(specs, n, "datastore:"))
		code = agent_need_store(a, err);
	return code;
}

void agent_need_cache(struct agent *a)
{
	const struct settings *s = a->settings;
	const struct cache_options opts = {.dir = s->cache_dir,
		.max_size = s->cache_max_size,
		.min_free = s->cache_min_free,
		.deliver = s->cache_deliver};
	struct error err;

	if (s->cache_dir[0] == '\0' || a->cache != NULL || a->cache_refused)
		return;
	a->cache_refused = cache_open(&opts, &a->cache, &err) < 0;
	if (a->cache_refused)
		log_warn("staging goes without the node cache: %s", err.msg);
}

void agent_drop_store(struct agent *a)
{
	store_free(take_ptr(&a->store));
	s3_free(take_ptr(&a->s3));
}
