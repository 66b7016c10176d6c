/* SPDX-License-Identifier: MIT */
/* The options of `stagerun cache`. */
#include "request.h"

static int take_dir(void *into, const char *value, struct error *err)
{
	(void)err;
	return request_override(into, "cache.dir", value, "--dir");
}

static int take_deep(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->deep = true;
	return 0;
}

static int take_to(void *into, const char *value, struct error *err)
{
	if (parse_size(value, &((struct request *)into)->evict_to, err) == 0)
		return 0;
	error_prefix(err, "--to");
	return err != NULL ? (err->code = -ERR_USAGE) : -ERR_USAGE;
}

const struct option_row cache_rows[] = {
	{"dir", 0, "DIR", "the node cache (else $STAGERUN_CACHE_DIR, cache.dir of agent.ini)",
		take_dir},
	{NULL},
};

const struct option_row evict_rows[] = {
	{"to", 0, "SIZE", "down to this size, instead of cache.max_size", take_to},
	{NULL},
};

const struct option_row verify_rows[] = {
	{"deep", 0, NULL, "read every byte, and compare it with the first time", take_deep},
	{NULL},
};
