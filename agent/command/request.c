/* SPDX-License-Identifier: MIT */
/* The rows of all options, and what each does to the request. */
#include "request.h"
#include "defer.h"
#include "source.h"
#include <ctype.h>
#include <string.h>

static int override(struct request *r, const char *key, const char *value, const char *option)
{
	r->overrides[r->n_overrides++ % ARRAY_LEN(r->overrides)] =
		(struct override){.key = key, .value = value, .option = option};
	return 0;
}

static int take_agent_config(void *into, const char *value, struct error *err)
{
	(void)err;
	((struct request *)into)->agent_config = value;
	return 0;
}

static int take_verbose(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	return override(into, "agent.log_level", "debug", "--verbose");
}

static int take_log_format(void *into, const char *value, struct error *err)
{
	(void)err;
	return override(into, "agent.log_format", value, "--log-format");
}

static int take_no_progress(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	return override(into, "agent.progress", "no", "--no-progress");
}

static int take_help(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->help = true;
	return 0;
}

const struct option_row common_rows[] = {
	{"agent-config", 0, "FILE",
		"agent.ini (else $STAGERUN_AGENT_CONFIG, /etc/stagerun/agent.ini)",
		take_agent_config},
	{"verbose", 'v', NULL, "say what happens in between, too", take_verbose},
	{"log-format", 0, "text|json", "how log lines look", take_log_format},
	{"no-progress", 0, NULL, "no live lines on a terminal", take_no_progress},
	{"help", 'h', NULL, "this text", take_help},
	{NULL},
};

static int take_config(void *into, const char *value, struct error *err)
{
	(void)err;
	((struct request *)into)->config = value;
	return 0;
}

static int take_stage(void *into, const char *value, struct error *err)
{
	struct request *r = into;
	struct stage_spec spec;
	int code = stage_spec_parse(value, &spec, err);

	if (code < 0)
		return error_prefix(err, "--stage");
	spec.origin = copy_text("--stage");
	r->stages = realloc(r->stages, (r->n_stages + 1) * sizeof(*r->stages));
	if (r->stages == NULL)
		abort();
	r->stages[r->n_stages++] = spec;
	return 0;
}

static int take_dry_run(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->dry_run = true;
	return 0;
}

static int take_datastore(void *into, const char *value, struct error *err)
{
	(void)err;
	strings_add(&((struct request *)into)->datastores, value);
	return 0;
}

static int take_dependency_file(void *into, const char *value, struct error *err)
{
	(void)err;
	((struct request *)into)->dependency_file = value;
	return 0;
}

static int take_store(void *into, const char *value, struct error *err)
{
	(void)err;
	return override(into, "store.url", value, "--store");
}

static int take_supervise(void *into, const char *value, struct error *err)
{
	(void)err;
	return override(into, "process.supervise", value, "--supervise");
}

const struct option_row config_rows[] = {
	{"config", 0, "FILE", "the run's config.yml (else $STAGERUN_CONFIG, else none)",
		take_config},
	{NULL},
};

const struct option_row run_rows[] = {
	{"stage", 0, "SOURCE=DIR", "stage any source into DIR; repeatable", take_stage},
	{"datastore", 0, "NAME[:V][=DIR]", "attach a datastore; repeatable", take_datastore},
	{"dependency_file", 0, "FILE",
		"install FILE (.txt by pip, .yml by conda) while data is staged",
		take_dependency_file},
	{"store", 0, "URL", "where datastores are", take_store},
	{"supervise", 0, "auto|always|never", "whether to stay as the command's parent",
		take_supervise},
	{"dry-run", 0, NULL, "print the plan and where each value comes from; touch nothing",
		take_dry_run},
	{NULL},
};

static int take_sha256(void *into, const char *value, struct error *err)
{
	if (strlen(value) != 64 || strspn(value, "0123456789abcdefABCDEF") != 64)
		return error_set(
			err, -ERR_USAGE, "--sha256 '%s' is not 64 hexadecimal digits", value);
	((struct request *)into)->sha256 = value;
	return 0;
}

static int take_include(void *into, const char *value, struct error *err)
{
	(void)err;
	strings_add(&((struct request *)into)->fetch.include, value);
	return 0;
}

static int take_exclude(void *into, const char *value, struct error *err)
{
	(void)err;
	strings_add(&((struct request *)into)->fetch.exclude, value);
	return 0;
}

static int take_strip_components(void *into, const char *value, struct error *err)
{
	uint64_t n;

	if (parse_uint(value, 1000, &n, err) < 0) {
		error_prefix(err, "--strip-components");
		return err != NULL ? (err->code = -ERR_USAGE) : -ERR_USAGE;
	}
	((struct request *)into)->fetch.strip_components = (unsigned)n;
	return 0;
}

static int take_no_extract(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->fetch.no_extract = true;
	return 0;
}

static int take_replace(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	((struct request *)into)->fetch.replace = true;
	return 0;
}

const struct option_row fetch_rows[] = {
	{"sha256", 0, "HEX", "the digest the source must have", take_sha256},
	{"include", 0, "GLOB", "only entries that match; repeatable", take_include},
	{"exclude", 0, "GLOB", "no entries that match; repeatable", take_exclude},
	{"strip-components", 0, "N", "cut N leading components of names", take_strip_components},
	{"no-extract", 0, NULL, "store the source as it is", take_no_extract},
	{"replace", 0, NULL, "replace what is there", take_replace},
	{NULL},
};

void request_done(struct request *r)
{
	for (size_t i = 0; i < r->n_stages; i++)
		stage_spec_done(&r->stages[i]);
	free(r->stages);
	stage_spec_done(&r->fetch);
	strings_done(&r->datastores);
}

int request_settings(const struct request *r, struct settings **ret, struct error *err)
{
	struct settings *s = settings_new();
	int code = settings_read_file(s, r->agent_config, err);

	if (code == 0)
		code = settings_read_environment(s, err);
	for (size_t i = 0; i < r->n_overrides && i < ARRAY_LEN(r->overrides) && code == 0; i++)
		code = settings_set(s, r->overrides[i].key, r->overrides[i].value, ORIGIN_OPTION,
			r->overrides[i].option, err);
	if (code == 0)
		code = settings_check(s, err);
	if (code < 0) {
		settings_free(s);
		return code;
	}
	log_setup(s->log_level, s->log_format, STDERR_FILENO);
	settings_hide_secrets(s, environ);
	*ret = s;
	return 0;
}
