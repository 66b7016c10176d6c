/* SPDX-License-Identifier: MIT */
/* Fills in the options of other rooms from the settings, and the specs of stages from config.yml:
 * what was read has plain values only, and knows of no room. Loop thread. */
#include "agent.h"
#include "datastore_ref.h"
#include "defer.h"
#include "source.h"
#include <limits.h>
#include <string.h>

struct transfer_options agent_network_options(const struct settings *s)
{
	return (struct transfer_options){.connections = s->network.connections,
		.connections_per_host = s->network.connections_per_host,
		.range_min = s->network.range_min,
		.range_max = s->network.range_max,
		.connect_timeout_ms = s->network.connect_timeout_ms,
		.first_byte_timeout_ms = s->network.first_byte_timeout_ms,
		.stall_timeout_ms = s->network.stall_timeout_ms,
		.patience_ms = s->network.patience_ms,
		.retries = s->network.retries,
		.retry_base_ms = s->network.retry_base_ms,
		.retry_max_ms = s->network.retry_max_ms,
		.ca_file = s->network.ca_file[0] != '\0' ? s->network.ca_file : NULL,
		.netrc_file = s->network.netrc_file[0] != '\0' ? s->network.netrc_file : NULL,
		.headers = (const char *const *)s->network.headers.v};
}

struct s3_options agent_s3_options(const struct settings *s)
{
	static const enum s3_style styles[] = {[BUCKET_STYLE_AUTO] = S3_STYLE_AUTO,
		[BUCKET_STYLE_PATH] = S3_STYLE_PATH,
		[BUCKET_STYLE_VIRTUAL] = S3_STYLE_VIRTUAL};
	static const enum s3_sign signs[] = {[SIGNING_AUTO] = S3_SIGN_AUTO,
		[SIGNING_YES] = S3_SIGN_YES,
		[SIGNING_NO] = S3_SIGN_NO};

	return (struct s3_options){.endpoint = s->s3_endpoint,
		.region = s->s3_region,
		.profile = s->s3_profile,
		.style = styles[s->s3_style],
		.sign = signs[s->s3_sign]};
}

struct cache_options agent_cache_options(const struct settings *s)
{
	static const enum cache_delivery deliveries[] = {[DELIVER_AUTO] = CACHE_AUTO,
		[DELIVER_BIND] = CACHE_BIND,
		[DELIVER_SYMLINK] = CACHE_SYMLINK,
		[DELIVER_REFLINK] = CACHE_REFLINK,
		[DELIVER_HARDLINK] = CACHE_HARDLINK,
		[DELIVER_COPY] = CACHE_COPY};

	return (struct cache_options){.dir = s->cache_dir,
		.max_size = s->cache_max_size,
		.min_free = s->cache_min_free,
		.deliver = deliveries[s->cache_deliver]};
}

struct tree_options agent_tree_options(const struct settings *s)
{
	return (struct tree_options){.limits = {.max_bytes = s->limits.max_bytes,
					     .max_entries = s->limits.max_entries,
					     .max_ratio = s->limits.max_ratio,
					     .max_path = s->limits.max_path},
		.same_owner = s->same_owner,
		.uid = s->owner_uid,
		.gid = s->owner_gid};
}

/* From a stage: map to a spec. */

static const char *lookup(void *environment, const char *name)
{
	return environment_get(environment, name);
}

int agent_expand(const char *text, const struct strings *environment, char **ret, struct error *err)
{
	return runfile_expand(text, lookup, (void *)environment, ret, err);
}

char *agent_stage_url(const struct action_stage *s)
{
	return s->join ? source_join(s->sources.v, s->sources.n) : text_copy(s->sources.v[0]);
}

static int add_source(const struct action_stage *s, const struct strings *environment,
	struct stage_spec *to, struct error *err)
{
	_free_ char *unexpanded = agent_stage_url(s), *url = NULL;
	int code = agent_expand(unexpanded, environment, &url, err);

	if (code == 0)
		code = datastore_ref_normalize(&url, err);
	if (code == 0)
		stage_spec_add_source(to, url, s->sha256);
	return code;
}

static int expand_number(const char *s, const struct strings *environment, const char *what,
	unsigned *ret, struct error *err)
{
	_free_ char *text = NULL;
	uint64_t n = 0;
	int code = agent_expand(s, environment, &text, err);

	if (code == 0)
		code = units_parse_uint(text, INT_MAX, &n, err);
	if (code < 0)
		return error_prefix(err, "shard: %s", what);
	*ret = (unsigned)n;
	return 0;
}

static int expand_shard(const struct action_stage *s, const struct strings *environment,
	struct stage_spec *to, struct error *err)
{
	int code;

	if (s->shard_rank == NULL)
		return 0;
	code = expand_number(s->shard_rank, environment, "rank", &to->shard_rank, err);
	if (code == 0)
		code = expand_number(s->shard_world, environment, "world", &to->shard_world, err);
	if (code == 0 && to->shard_rank >= to->shard_world)
		code = error_set(err, -ERR_CONFIG,
			"shard: there is no rank %u in a world of %u; ranks count from 0",
			to->shard_rank, to->shard_world);
	return code;
}

static void copy_strings(struct strings *to, const struct strings *from)
{
	for (size_t i = 0; i < from->n; i++)
		text_strings_add(to, from->v[i]);
}

int agent_stage_spec(const struct action_stage *s, const struct strings *environment,
	struct stage_spec *ret, struct error *err)
{
	struct stage_spec spec = {.strip_components = s->strip_components,
		.no_extract = s->no_extract,
		.replace = s->replace,
		.zip_names = text_copy(s->zip_names),
		.origin = text_copy(s->origin)};
	int code;

	copy_strings(&spec.include, &s->include);
	copy_strings(&spec.exclude, &s->exclude);
	code = add_source(s, environment, &spec, err);
	if (code == 0)
		code = runfile_expand_path(s->to, lookup, (void *)environment, &spec.to, err);
	if (code == 0)
		code = expand_shard(s, environment, &spec, err);
	if (code < 0) {
		stage_spec_done(&spec);
		return code;
	}
	*ret = spec;
	return 0;
}

void agent_limit_stage(const struct runfile *r, struct stage_spec *s)
{
	for (size_t i = 0; i < r->n_scratch; i++) {
		const struct scratch *scratch = &r->scratch[i];
		size_t len = strlen(scratch->mount_path);

		while (len > 0 && scratch->mount_path[len - 1] == '/')
			len--;
		if (scratch->size_bytes == 0 || strncmp(s->to, scratch->mount_path, len) != 0 ||
			(s->to[len] != '\0' && s->to[len] != '/'))
			continue;
		free(s->max_bytes_why);
		s->max_bytes = scratch->size_bytes;
		s->max_bytes_why = text_format("scratch.size_gb (%s:%u)", r->path, scratch->line);
	}
}
