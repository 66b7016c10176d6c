/* SPDX-License-Identifier: MIT */
/* The options that only `prewarm` has. */
#include "defer.h"
#include "request.h"

enum { KEEP_FRESH_MIN_MS = 100 };

static int take_list(void *into, const char *value, struct error *err)
{
	(void)err;
	strings_add(&((struct request *)into)->lists, value);
	return 0;
}

static int take_jobs(void *into, const char *value, struct error *err)
{
	(void)err;
	return request_override(into, "agent.parallel_stages", value, "--jobs");
}

static int take_max_rate(void *into, const char *value, struct error *err)
{
	(void)err;
	return request_override(into, "network.max_rate", value, "--max-rate");
}

static int take_low_priority(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->low_priority = true;
	return 0;
}

static int take_keep_fresh(void *into, const char *value, struct error *err)
{
	struct request *r = into;

	if (parse_duration(value, &r->keep_fresh_ms, err) < 0) {
		error_prefix(err, "--keep-fresh");
		return -ERR_USAGE;
	}
	if (r->keep_fresh_ms < KEEP_FRESH_MIN_MS)
		return error_set(err, -ERR_USAGE,
			"--keep-fresh '%s' is too short; sources are looked at that often, such as "
			"every 10m",
			value);
	return 0;
}

static int take_cache_only(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->cache_only = true;
	return 0;
}

static int take_refresh(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->refresh = true;
	return 0;
}

static int take_summary(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->json = true;
	return 0;
}

const struct option_row prewarm_rows[] = {
	{"list", 0, "FILE",
		"stage what FILE lists, a line each: SOURCE=DIR or datastore:NAME[:V][=DIR]; "
		"repeatable",
		take_list},
	{"jobs", 0, "N", "stage N sources at once (agent.parallel_stages)", take_jobs},
	{"max-rate", 0, "RATE", "bytes a second of all downloads together, such as 50M",
		take_max_rate},
	{"low-priority", 0, NULL, "let others have the disk and the processors first",
		take_low_priority},
	{"cache-only", 0, NULL, "into the node cache, and not into the directories",
		take_cache_only},
	{"refresh", 0, NULL, "replace what was staged there before by its present version",
		take_refresh},
	{"keep-fresh", 0, "DURATION",
		"stay, and look for later versions that often; SIGTERM ends it", take_keep_fresh},
	{"json", 0, NULL, "what became of everything, as one line of JSON on stdout", take_summary},
	{NULL},
};
