/* SPDX-License-Identifier: MIT */
/* Every setting of the agent, one row each. Parsing, printing, agent.ini.example and --dry-run all
 * come from these rows; a new setting is a field in struct settings and a row here. */
#include "settings_table.h"
#include "defer.h"
#include "source.h"
#include <string.h>

#define AT(field) offsetof(struct settings, field)

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const hook_policies[] = {"warn", "fail", NULL}; /* as enum hook_policy */

static const char *const cache_deliveries[] = {/* as enum cache_delivery */
	"auto", "bind", "symlink", "reflink", "hardlink", "copy", NULL};
static const char *const s3_styles[] = {"auto", "path", "virtual", NULL}; /* as enum s3_style */
static const char *const s3_signs[] = {"auto", "yes", "no", NULL};        /* as enum s3_sign */
static const char *const supervise_choices[] = {"auto", "always", "never", NULL};
static const char *const forward_choices[] = {"command", "group", NULL};

static int check_owner(const char *value, struct error *err)
{
	uid_t uid;
	gid_t gid;

	return settings_parse_owner(value, &uid, &gid, err);
}

/* The text after "URL-PREFIX NAME", which begins with ':', or NULL. */
static const char *header_value(const char *line)
{
	static const char name_bytes[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					 "0123456789!#$%&'*+-.^_`|~";
	size_t url = strcspn(line, " \t");
	const char *name = line + url + strspn(line + url, " \t");
	size_t len = strspn(name, name_bytes);

	return len > 0 && name[len] == ':' ? name + len : NULL;
}

static int check_header(const char *line, struct error *err)
{
	bool web = strncmp(line, "http://", 7) == 0 || strncmp(line, "https://", 8) == 0;

	/* The line itself may hold a password: it is not repeated. */
	if (!web || header_value(line) == NULL)
		return error_set(err, -ERR_CONFIG,
			"a header is written URL-PREFIX NAME: VALUE, such as "
			"https://data.example/ Authorization: Bearer x");
	return 0;
}

static char *redact_header(const char *line)
{
	return format_text("%.*s: ***", (int)(header_value(line) - line), line);
}

static int check_absolute(const char *path, struct error *err)
{
	if (*path != '/')
		return error_set(err, -ERR_CONFIG, "'%s' is not an absolute path", path);
	return 0;
}

const struct setting settings_table[] = {
	{"agent", "log_level", SETTING_ENUM, AT(log_level), "info", "How much to say on stderr.",
		.choices = log_levels},
	{"agent", "log_format", SETTING_ENUM, AT(log_format), "text",
		"Lines for people, or one JSON object a line.", .choices = log_formats},
	{"agent", "progress", SETTING_BOOL, AT(progress), "yes",
		"A live line for each source while stderr is a terminal."},
	{"agent", "memory_budget", SETTING_SIZE, AT(memory_budget), "auto",
		"Memory for the data on its way; auto: the smaller of 256M and a quarter of the "
		"container's limit.",
		.min = 16 << 20, .zero = "auto"},
	{"agent", "parallel_stages", SETTING_UINT, AT(parallel_stages), "8",
		"Destinations that are staged at once.", .min = 1, .max = 1024},
	{"agent", "threads", SETTING_UINT, AT(threads), "auto",
		"Threads that decompress; auto: as many as there are processors.", .min = 1,
		.max = 1024, .zero = "auto"},
	{"agent", "termination_log", SETTING_TEXT, AT(termination_log), "/dev/termination-log",
		"Where the reason of a failure is also written, if the file is there.",
		.unit = "a path", .short_env = "STAGERUN_TERMINATION_LOG"},
	{"agent", "secret_names", SETTING_WORDS, AT(secret_names), "",
		"Variables whose values are never printed, beside *TOKEN*, *SECRET*, *PASSWORD* "
		"and *KEY*.",
		.unit = "globs"},
	{"agent", "lock", SETTING_WORDS, AT(lock), "",
		"Settings that the environment, config.yml and options may not change.",
		.unit = "section.key, or globs such as limits.*", .file_only = true},

	{"network", "connections", SETTING_UINT, AT(network.connections), "64",
		"Connections at once, to all hosts together.", .min = 1, .max = 4096},
	{"network", "connections_per_host", SETTING_UINT, AT(network.connections_per_host), "16",
		"Connections at once to one host and port.", .min = 1, .max = 4096},
	{"network", "max_rate", SETTING_SIZE, AT(max_rate), "none",
		"Bytes a second of all downloads together.", .min = 65536, .zero = "none"},
	{"network", "range_min", SETTING_SIZE, AT(network.range_min), "1M",
		"What one ranged request asks for at first.", .min = 4096, .max = 1 << 30},
	{"network", "range_max", SETTING_SIZE, AT(network.range_max), "8M",
		"What one ranged request grows to.", .min = 4096, .max = 1 << 30},
	{"network", "connect_timeout", SETTING_DURATION, AT(network.connect_timeout_ms), "10s",
		"Time for one attempt to connect, with TLS and proxy.", .min = 1, .max = 3600000},
	{"network", "stall_timeout", SETTING_DURATION, AT(network.stall_timeout_ms), "15s",
		"A connection without a byte for this long counts as broken.", .min = 1,
		.max = 3600000},
	{"network", "retries", SETTING_UINT, AT(network.retries), "5",
		"Attempts after the first, for each range, as long as none brings a byte.",
		.max = 1000},
	{"network", "retry_base", SETTING_DURATION, AT(network.retry_base_ms), "200ms",
		"The longest wait before the first retry; doubled each time.", .min = 1,
		.max = 3600000},
	{"network", "retry_max", SETTING_DURATION, AT(network.retry_max_ms), "20s",
		"The longest wait before any retry.", .min = 1, .max = 3600000},
	{"network", "ca_file", SETTING_TEXT, AT(ca_file), "",
		"The certificates to trust; empty: the system's.", .unit = "a PEM file"},
	{"network", "netrc_file", SETTING_TEXT, AT(netrc_file), "",
		"Names and passwords for hosts; empty: none.", .unit = "a netrc file"},
	{"network", "headers", SETTING_LINES, AT(headers), "",
		"Headers for the requests whose URL begins so; never sent on to another host.",
		.unit = "URL-PREFIX NAME: VALUE", .check = check_header, .redact = redact_header},

	{"limits", "max_bytes", SETTING_SIZE, AT(limits.max_bytes), "none",
		"Content of one staged directory.", .zero = "none", .zero_is_max = true},
	{"limits", "max_entries", SETTING_COUNT, AT(limits.max_entries), "20000000",
		"Files, directories and links in one staged directory.", .min = 1},
	{"limits", "max_ratio", SETTING_COUNT, AT(limits.max_ratio), "1000",
		"Times that data may expand, looked at beyond the first 1G.", .zero = "none"},
	{"limits", "max_path", SETTING_UINT, AT(limits.max_path), "4096",
		"Length of one name inside an archive.", .unit = "bytes", .min = 1, .max = 4096},

	{"stage", "same_owner", SETTING_BOOL, AT(same_owner), "no",
		"Files belong to whom the archive says, instead of the running user."},
	{"stage", "owner", SETTING_TEXT, AT(owner), "",
		"Files belong to this user and group; empty: to the running user.",
		.unit = "uid:gid, as numbers", .check = check_owner},
	{"stage", "keep_download", SETTING_BOOL, AT(keep_download), "no",
		"Keep the bytes of an archive that is one stream until it is unpacked, for the run "
		"after a killed one."},

	{"cache", "dir", SETTING_TEXT, AT(cache_dir), "",
		"The node cache: where what was staged is kept for later runs; empty: none.",
		.unit = "an absolute path", .check = check_absolute},
	{"cache", "max_size", SETTING_SIZE, AT(cache_max_size), "none",
		"How large it may become; what was not used for longest goes first.",
		.zero = "none"},
	{"cache", "min_free", SETTING_SIZE, AT(cache_min_free), "1G",
		"What is left free on its file system.", .zero = "none"},
	{"cache", "deliver", SETTING_ENUM, AT(cache_deliver), "auto",
		"How it comes into a destination; auto: the first of these that is safe and works.",
		.choices = cache_deliveries},

	{"store", "url", SETTING_TEXT, AT(store), "", "Where datastores are kept; empty: no store.",
		.unit = "s3://bucket/prefix or file:///dir", .short_env = "STAGERUN_STORE",
		.redact = source_display},
	{"store", "max_datastores", SETTING_UINT, AT(max_datastores), "50",
		"Datastores in the store, every version counted; no more can be created.", .min = 1,
		.max = 1000000},
	{"store", "grace", SETTING_DURATION, AT(store_grace_ms), "1h",
		"After a deletion, data stays this long for those who read it.",
		.max = 31536000000},
	{"store", "register_runs", SETTING_DURATION, AT(register_ms), "none",
		"A run keeps the datastores that it attached from deletion this long, if it may "
		"write "
		"to the store.",
		.zero = "none", .max = 31536000000},

	{"s3", "endpoint", SETTING_TEXT, AT(s3_endpoint), "",
		"The S3 service; empty: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or AWS.",
		.unit = "a URL", .redact = source_display},
	{"s3", "region", SETTING_TEXT, AT(s3_region), "",
		"Its region; empty: AWS_REGION, AWS_DEFAULT_REGION, the profile's, or the one "
		"found.",
		.unit = "a name"},
	{"s3", "profile", SETTING_TEXT, AT(s3_profile), "",
		"The profile of the AWS configuration to use before all other credentials; empty: "
		"as "
		"the AWS tools do.",
		.unit = "a name"},
	{"s3", "style", SETTING_ENUM, AT(s3_style), "auto",
		"Where requests name the bucket; auto: in the host for AWS, else in the path.",
		.choices = s3_styles},
	{"s3", "sign", SETTING_ENUM, AT(s3_sign), "auto",
		"Whether requests are signed; no: for public buckets; auto: if there are "
		"credentials.",
		.choices = s3_signs},

	{"actions", "shell", SETTING_TEXT, AT(shell), "",
		"What runs the shell actions; empty: bash when present, else sh.",
		.unit = "a path"},
	{"actions", "prefix_output", SETTING_BOOL, AT(prefix_output), "no",
		"Put the action's number before each line that it prints."},
	{"actions", "timeout", SETTING_DURATION, AT(action_timeout_ms), "none",
		"Time for one shell action that names none of its own.", .zero = "none"},

	{"hooks", "dir", SETTING_LINES, AT(hook_dirs), "",
		"Directories of operators' hooks, a name in a later one overrides; empty: "
		"/etc/stagerun/hooks, if it is there.",
		.unit = "an absolute path", .check = check_absolute},
	{"hooks", "timeout", SETTING_DURATION, AT(hook_timeout_ms), "5m", "Time for one hook.",
		.zero = "none"},
	{"hooks", "on_stage_start", SETTING_ENUM, AT(on_stage_start), "fail",
		"What a hook that fails before staging does to the run.", .choices = hook_policies},
	{"hooks", "on_stage_end", SETTING_ENUM, AT(on_stage_end), "warn", "The same after staging.",
		.choices = hook_policies},
	{"hooks", "on_experiment_start", SETTING_ENUM, AT(on_experiment_start), "fail",
		"The same before the start actions.", .choices = hook_policies},

	{"process", "supervise", SETTING_ENUM, AT(supervise), "auto",
		"Whether to stay as the command's parent; auto: as PID 1, or for end actions and "
		"hooks.",
		.choices = supervise_choices},
	{"process", "forward", SETTING_ENUM, AT(forward), "command",
		"Whom a parent passes signals on to: the command alone, or its process group.",
		.choices = forward_choices},
	{"process", "grace_period", SETTING_DURATION, AT(grace_period_ms), "25s",
		"From SIGTERM to the end of everything: command (70 %), then end actions.",
		.min = 100, .max = 86400000, .short_env = "STAGERUN_GRACE_PERIOD"},
	{"process", "group_wait", SETTING_DURATION, AT(group_wait_ms), "5s",
		"What the command leaves in its group has this long before SIGTERM.",
		.max = 86400000},
};

const size_t settings_count = ARRAY_LEN(settings_table);

int settings_find(const char *section, const char *key)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (strcmp(row->section, section) == 0 && strcmp(row->key, key) == 0)
			return (int)i;
	}
	return -1;
}

const char *settings_nearest_key(const char *section, const char *key)
{
	const char *keys[ARRAY_LEN(settings_table)];
	size_t n = 0;

	for (size_t i = 0; i < settings_count; i++) {
		if (strcmp(settings_table[i].section, section) == 0)
			keys[n++] = settings_table[i].key;
	}
	return nearest_word(key, keys, n);
}

const char *settings_nearest_section(const char *section)
{
	const char *sections[ARRAY_LEN(settings_table)];

	for (size_t i = 0; i < settings_count; i++)
		sections[i] = settings_table[i].section;
	return nearest_word(section, sections, settings_count);
}
