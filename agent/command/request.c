/* SPDX-License-Identifier: MIT */
/* The rows of all options, and what each does to the request. */
#include "request.h"
#include "defer.h"
#include "source.h"
#include <string.h>

int request_override(struct request *r, const char *key, const char *value, const char *option)
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
	return request_override(into, "agent.log_level", "debug", "--verbose");
}

static int take_log_format(void *into, const char *value, struct error *err)
{
	(void)err;
	return request_override(into, "agent.log_format", value, "--log-format");
}

static int take_no_progress(void *into, const char *value, struct error *err)
{
	(void)value;
	(void)err;
	return request_override(into, "agent.progress", "no", "--no-progress");
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

static int take_datastore_name(void *into, const char *value, struct error *err)
{
	(void)err;
	((struct request *)into)->datastore_name = value;
	return 0;
}

static int take_datastore_version(void *into, const char *value, struct error *err)
{
	(void)err;
	((struct request *)into)->datastore_version = value;
	return 0;
}

static int take_datastore_mount_dir(void *into, const char *value, struct error *err)
{
	(void)err;
	((struct request *)into)->datastore_mount_dir = value;
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
	return request_override(into, "store.url", value, "--store");
}

static int take_supervise(void *into, const char *value, struct error *err)
{
	(void)err;
	return request_override(into, "process.supervise", value, "--supervise");
}

const struct option_row config_rows[] = {
	{"config", 0, "FILE", "the run's config.yml (else $STAGERUN_CONFIG, else none)",
		take_config},
	{NULL},
};

const struct option_row store_rows[] = {
	{"store", 0, "URL", "where datastores are (else $STAGERUN_STORE)", take_store},
	{NULL},
};

const struct option_row run_rows[] = {
	{"stage", 0, "SOURCE=DIR", "stage any source into DIR; repeatable", take_stage},
	{"datastore", 0, "NAME[:V][=DIR]", "attach a datastore (to /datastores/NAME); repeatable",
		take_datastore},
	{"datastore_name", 0, "NAME", "attach one datastore, ...", take_datastore_name},
	{"datastore_version", 0, "V", "... in this version (else the newest)",
		take_datastore_version},
	{"datastore_mount_dir", 0, "DIR", "... to this directory", take_datastore_mount_dir},
	{"dependency_file", 0, "FILE",
		"install FILE (.txt by pip, .yml by conda) while data is staged",
		take_dependency_file},
	{"supervise", 0, "auto|always|never", "whether to stay as the command's parent",
		take_supervise},
	{"dry-run", 0, NULL, "print the plan and where each value comes from; touch nothing",
		take_dry_run},
	{NULL},
};

void request_done(struct request *r)
{
	for (size_t i = 0; i < r->n_stages; i++)
		stage_spec_done(&r->stages[i]);
	free(r->stages);
	stage_spec_done(&r->fetch);
	strings_done(&r->datastores);
	strings_done(&r->lists);
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
