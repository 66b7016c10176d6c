/* SPDX-License-Identifier: MIT */
/* Fills in the options of other rooms from the settings, which have plain values only. The results
 * borrow the strings of the settings. Loop thread. */
#include "agent.h"

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
