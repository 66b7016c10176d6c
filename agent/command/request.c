/* SPDX-License-Identifier: MIT */
/* The options of all commands, and what each does to the request. A command offers the tables that
 * it understands. Loop thread, before anything starts. */
#include "defer.h"
#include "log.h"
#include "options.h"
#include "run_report.h"
#include "source.h"
#include <string.h>
#include <unistd.h>

enum { KEEP_FRESH_MIN_MS = 100, STRIP_MAX = 1000 };

/* The last members of a row. */
#define FLAG(member)       NULL, OPTION_FLAG, offsetof(struct request, member)
#define TEXT(member)       NULL, OPTION_TEXT, offsetof(struct request, member)
#define LIST(member)       NULL, OPTION_LIST, offsetof(struct request, member)
#define SETTING(key)       NULL, OPTION_SETTING, 0, key
#define SWITCH(key, value) NULL, OPTION_SETTING, 0, key, value

/* Values that are checked, or parsed, as they are read. */

static int set_sha256(void *into, const char *value, struct error *err)
{
	if (strlen(value) != 64 || strspn(value, "0123456789abcdefABCDEF") != 64)
		return error_set(
			err, -ERR_USAGE, "--sha256 '%s' is not 64 hexadecimal digits", value);
	((struct request *)into)->sha256 = value;
	return 0;
}

static int set_strip_components(void *into, const char *value, struct error *err)
{
	uint64_t n;

	if (units_parse_uint(value, STRIP_MAX, &n, err) < 0) {
		error_prefix(err, "--strip-components");
		return err != NULL ? (err->code = -ERR_USAGE) : -ERR_USAGE;
	}
	((struct request *)into)->fetch.strip_components = (unsigned)n;
	return 0;
}

static int set_zip_names(void *into, const char *value, struct error *err)
{
	struct request *r = into;

	(void)err;
	free(r->fetch.zip_names);
	r->fetch.zip_names = text_copy(value);
	return 0;
}

static int set_keep_fresh(void *into, const char *value, struct error *err)
{
	struct request *r = into;

	if (units_parse_duration(value, &r->keep_fresh_ms, err) < 0) {
		error_prefix(err, "--keep-fresh");
		return -ERR_USAGE;
	}
	if (r->keep_fresh_ms < KEEP_FRESH_MIN_MS)
		return error_set(err, -ERR_USAGE,
			"--keep-fresh '%s' is too short; sources are looked at that often, such as every 10m",
			value);
	return 0;
}

static int set_to(void *into, const char *value, struct error *err)
{
	if (units_parse_size(value, &((struct request *)into)->evict_to, err) == 0)
		return 0;
	error_prefix(err, "--to");
	return err != NULL ? (err->code = -ERR_USAGE) : -ERR_USAGE;
}

static int set_report(void *into, const char *value, struct error *err)
{
	if (report_check_path(value, err) < 0)
		return error_prefix(err, "--report");
	text_strings_add(&((struct request *)into)->reports, value);
	return 0;
}

static int set_stage(void *into, const char *value, struct error *err)
{
	struct request *r = into;
	struct stage_spec spec;
	int code = stage_spec_parse(value, &spec, err);

	if (code < 0)
		return error_prefix(err, "--stage");
	spec.origin = text_copy("--stage");
	r->stages = realloc(r->stages, (r->n_stages + 1) * sizeof(*r->stages));
	if (r->stages == NULL)
		abort();
	r->stages[r->n_stages++] = spec;
	return 0;
}

/* The tables. */

const struct option_row common_rows[] = {
	{"agent-config", 0, "FILE",
		"agent.ini (else $STAGERUN_AGENT_CONFIG, /etc/stagerun/agent.ini)",
		TEXT(agent_config)},
	{"verbose", 'v', NULL, "say what happens in between, too",
		SWITCH("agent.log_level", "debug")},
	{"log-format", 0, "text|json", "how log lines look", SETTING("agent.log_format")},
	{"progress", 0, "MODE", "auto, tty, lines, json or none", SETTING("agent.progress")},
	{"no-progress", 0, NULL, "as --progress none", SWITCH("agent.progress", "none")},
	{"help", 'h', NULL, "this text", FLAG(help)},
	{NULL},
};

const struct option_row config_rows[] = {
	{"config", 0, "FILE", "the run's config.yml (else $STAGERUN_CONFIG, else none)",
		TEXT(config)},
	{NULL},
};

const struct option_row store_rows[] = {
	{"store", 0, "URL", "where datastores are (else $STAGERUN_STORE)", SETTING("store.url")},
	{NULL},
};

const struct option_row run_rows[] = {
	{"stage", 0, "SOURCE=DIR", "stage any source into DIR; repeatable", set_stage},
	{"datastore", 0, "NAME[:V][=DIR]", "attach a datastore (to /datastores/NAME); repeatable",
		LIST(datastores)},
	{"datastore_name", 0, "NAME", "attach one datastore, ...", TEXT(datastore_name)},
	{"datastore_version", 0, "V", "... in this version (else the newest)",
		TEXT(datastore_version)},
	{"datastore_mount_dir", 0, "DIR", "... to this directory", TEXT(datastore_mount_dir)},
	{"dependency_file", 0, "FILE",
		"install FILE (.txt by pip, .yml by conda) while data is staged",
		TEXT(dependency_file)},
	{"replace", 0, NULL, "replace what is there, in all directories that are staged into",
		FLAG(replace)},
	{"supervise", 0, "auto|always|never", "whether to stay as the command's parent",
		SETTING("process.supervise")},
	{"dry-run", 0, NULL, "print the plan and where each value comes from; touch nothing",
		FLAG(dry_run)},
	{NULL},
};

const struct option_row report_rows[] = {
	{"report", 0, "FILE",
		"write what the start took and why to FILE.html, .json or .trace.json; repeatable",
		set_report},
	{NULL},
};

const struct option_row prewarm_rows[] = {
	{"list", 0, "FILE",
		"stage what FILE lists, a line each: SOURCE=DIR or datastore:NAME[:V][=DIR]; repeatable",
		LIST(lists)},
	{"jobs", 0, "N", "stage N sources at once (agent.parallel_stages)",
		SETTING("agent.parallel_stages")},
	{"max-rate", 0, "RATE", "bytes a second of all downloads together, such as 50M",
		SETTING("network.max_rate")},
	{"low-priority", 0, NULL, "let others have the disk and the processors first",
		FLAG(low_priority)},
	{"cache-only", 0, NULL, "into the node cache, and not into the directories",
		FLAG(cache_only)},
	{"refresh", 0, NULL, "replace what was staged there before by its present version",
		FLAG(refresh)},
	{"keep-fresh", 0, "DURATION",
		"stay, and look for later versions that often; SIGTERM ends it", set_keep_fresh},
	{"json", 0, NULL, "what became of everything, as one line of JSON on stdout", FLAG(json)},
	{NULL},
};

const struct option_row select_rows[] = {
	{"include", 0, "GLOB", "only entries that match; repeatable", LIST(fetch.include)},
	{"exclude", 0, "GLOB", "no entries that match; repeatable", LIST(fetch.exclude)},
	{NULL},
};

const struct option_row fetch_rows[] = {
	{"sha256", 0, "HEX", "the digest the source must have", set_sha256},
	{"strip-components", 0, "N", "cut N leading components of names", set_strip_components},
	{"no-extract", 0, NULL, "store the source as it is", FLAG(fetch.no_extract)},
	{"zip-names", 0, "CHARSET", "of names in zips that do not say theirs", set_zip_names},
	{"join", 0, NULL, "several SOURCEs are the parts of one file", FLAG(join)},
	{"replace", 0, NULL, "replace what is there", FLAG(fetch.replace)},
	{NULL},
};

const struct option_row create_rows[] = {
	{"name", 0, "NAME", "(else the last part of SOURCE, up to its first dot)", TEXT(name)},
	{"extract", 0, NULL, "what is in the archive, not the archive (as by URL)", FLAG(extract)},
	{"no-extract", 0, NULL, "the archive as one file (as from a disk)", FLAG(fetch.no_extract)},
	{"no-copy", 0, NULL, "s3://bucket/prefix/: only say where the data is", FLAG(no_copy)},
	{"dereference", 0, NULL, "instead of links that leave SOURCE, what they point to",
		FLAG(dereference)},
	{NULL},
};

const struct option_row get_rows[] = {
	{"replace", 0, NULL, "replace what is there", FLAG(fetch.replace)},
	{NULL},
};

const struct option_row delete_rows[] = {
	{"force", 0, NULL, "although a run or a creation uses it", FLAG(force)},
	{"yes", 0, NULL, "also where NAME has more than one version: all of them", FLAG(yes)},
	{NULL},
};

const struct option_row purge_rows[] = {
	{"yes", 0, NULL, "yes, everything, for good", FLAG(yes)},
	{NULL},
};

const struct option_row policy_rows[] = {
	{"role", 0, "ARN", "who may read: arn:aws:iam::ACCOUNT:role/NAME", TEXT(role)},
	{NULL},
};

const struct option_row json_rows[] = {
	{"json", 0, NULL, "for machines", FLAG(json)},
	{NULL},
};

const struct option_row cache_rows[] = {
	{"dir", 0, "DIR", "the node cache (else $STAGERUN_CACHE_DIR, cache.dir of agent.ini)",
		SETTING("cache.dir")},
	{NULL},
};

const struct option_row evict_rows[] = {
	{"to", 0, "SIZE", "down to this size, instead of cache.max_size", set_to},
	{NULL},
};

const struct option_row verify_rows[] = {
	{"deep", 0, NULL, "read every byte, and compare it with the first time", FLAG(deep)},
	{NULL},
};

/* The request as a whole. */

void request_override(struct request *r, const struct option_row *row, const char *value)
{
	r->overrides = reallocarray(r->overrides, r->n_overrides + 1, sizeof(*r->overrides));
	if (r->overrides == NULL)
		abort();
	r->overrides[r->n_overrides++] = (struct override){.key = row->setting,
		.value = row->value != NULL ? row->value : value,
		.option = row->name};
}

void request_done(struct request *r)
{
	for (size_t i = 0; i < r->n_stages; i++)
		stage_spec_done(&r->stages[i]);
	free(r->stages);
	free(r->overrides);
	stage_spec_done(&r->fetch);
	text_strings_done(&r->datastores);
	text_strings_done(&r->lists);
	text_strings_done(&r->reports);
}

static int apply_override(struct settings *s, const struct override *o, struct error *err)
{
	_free_ char *option = text_format("--%s", o->option);

	return settings_set(s, o->key, o->value, ORIGIN_OPTION, option, err);
}

int request_settings(const struct request *r, struct settings **ret, struct error *err)
{
	struct settings *s = settings_new();
	int code = settings_read_file(s, r->agent_config, err);

	if (code == 0)
		code = settings_read_environment(s, err);
	for (size_t i = 0; i < r->n_overrides && code == 0; i++)
		code = apply_override(s, &r->overrides[i], err);
	if (code == 0)
		code = settings_check(s, err);
	if (code < 0) {
		settings_free(s);
		return code;
	}
	log_setup(s->log_level, s->log_format, STDERR_FILENO);
	log_set_times(s->log_time);
	settings_hide_secrets(s, environ);
	*ret = s;
	return 0;
}
