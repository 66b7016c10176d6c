/* SPDX-License-Identifier: MIT */
/* Parses and prints the value of a setting, by its type. A printed value can be parsed again:
 * locked values are copied from one struct settings to another as text. Loop thread. */
#include "settings_table.h"
#include "defer.h"
#include "url.h"
#include <inttypes.h>
#include <limits.h>
#include <string.h>

static void *field_of(const struct setting *row, const struct settings *s)
{
	return (char *)s + row->offset;
}

/* Uses the largest unit that divides n, so that the value is not rounded. */
static char *print_in_units(uint64_t n, const uint64_t *factors, const char *const *names)
{
	size_t i = 0;

	while (n % factors[i] != 0)
		i++;
	return text_format("%" PRIu64 "%s", n / factors[i], names[i]);
}

static char *print_number(const struct setting *row, uint64_t n)
{
	static const uint64_t bytes[] = {1ULL << 40, 1 << 30, 1 << 20, 1 << 10, 1};
	static const char *const byte_names[] = {"T", "G", "M", "K", ""};
	static const uint64_t ms[] = {86400000, 3600000, 60000, 1000, 1};
	static const char *const ms_names[] = {"d", "h", "m", "s", "ms"};

	if (row->zero != NULL && n == 0)
		return text_copy(row->zero);
	if (row->unlimited != NULL && n == UINT64_MAX)
		return text_copy(row->unlimited);
	if (n == 0)
		return text_copy("0");
	if (row->type == SETTING_SIZE)
		return print_in_units(n, bytes, byte_names);
	if (row->type == SETTING_DURATION)
		return print_in_units(n, ms, ms_names);
	return text_format("%" PRIu64, n);
}

static int check_range(const struct setting *row, uint64_t n, struct error *err)
{
	_free_ char *min = print_number(row, row->min);
	_free_ char *max = print_number(row, row->max);
	_free_ char *got = print_number(row, n);

	if (n < row->min && !(n == 0 && row->zero != NULL))
		return error_set(err, -ERR_CONFIG, "%s is too small (at least %s)", got, min);
	if (row->max > 0 && n > row->max && !(n == UINT64_MAX && row->unlimited != NULL))
		return error_set(err, -ERR_CONFIG, "%s is too large (at most %s)", got, max);
	return 0;
}

static int parse_number(
	const struct setting *row, const char *value, uint64_t *ret, struct error *err)
{
	uint64_t n = 0;
	int code = 0;

	if (row->zero != NULL && strcmp(value, row->zero) == 0)
		n = 0;
	else if (row->unlimited != NULL && strcmp(value, row->unlimited) == 0)
		n = UINT64_MAX;
	else if (row->type == SETTING_SIZE)
		code = units_parse_size(value, &n, err);
	else if (row->type == SETTING_DURATION)
		code = units_parse_duration(value, &n, err);
	else
		code = units_parse_uint(
			value, row->type == SETTING_UINT ? UINT_MAX : UINT64_MAX - 1, &n, err);
	if (code == 0)
		code = check_range(row, n, err);
	if (code == 0)
		*ret = n;
	return code;
}

static int parse_choice(
	const struct setting *row, const char *value, unsigned *ret, struct error *err)
{
	_free_ char *choices = setting_describe_type(row);

	unsigned n = 0;
	bool yes;

	for (; row->choices[n] != NULL; n++) {
		if (strcmp(row->choices[n], value) == 0) {
			*ret = n;
			return 0;
		}
	}
	if (row->was_bool && units_parse_bool(value, &yes, NULL) == 0) {
		*ret = yes ? 0 : n - 1;
		return 0;
	}
	return error_set(err, -ERR_CONFIG, "'%s' is not one of %s", value, choices);
}

static int parse_text(const struct setting *row, const char *value, char **field, struct error *err)
{
	int code = row->check != NULL && *value != '\0' ? row->check(value, err) : 0;

	if (code < 0)
		return code;
	free(*field);
	*field = text_copy(value);
	return 0;
}

/* All items are checked before the first is stored. */
static int parse_list(const struct setting *row, const char *value, bool append,
	struct strings *field, struct error *err)
{
	const char *separators = row->type == SETTING_WORDS ? ", \t\r\n" : "\r\n";
	_free_ char *copy = text_copy(value);
	struct strings items = {0};
	char *rest = NULL;
	int code = 0;

	for (char *item = strtok_r(copy, separators, &rest); item != NULL && code == 0;
		item = strtok_r(NULL, separators, &rest)) {
		code = row->check != NULL ? row->check(item, err) : 0;
		text_strings_add(&items, item);
	}
	if (code == 0 && !append)
		text_strings_done(field);
	for (size_t i = 0; code == 0 && i < items.n; i++)
		text_strings_add(field, items.v[i]);
	text_strings_done(&items);
	return code;
}

int setting_parse(const struct setting *row, struct settings *s, const char *value, bool append,
	struct error *err)
{
	void *field = field_of(row, s);
	uint64_t n;
	int code;

	switch (row->type) {
	case SETTING_BOOL:
		return units_parse_bool(value, field, err);
	case SETTING_ENUM:
		return parse_choice(row, value, field, err);
	case SETTING_TEXT:
		return parse_text(row, value, field, err);
	case SETTING_WORDS:
	case SETTING_LINES:
		return parse_list(row, value, append, field, err);
	case SETTING_UINT:
		code = parse_number(row, value, &n, err);
		if (code == 0)
			*(unsigned *)field = (unsigned)n;
		return code;
	default:
		code = parse_number(row, value, &n, err);
		if (code == 0)
			*(uint64_t *)field = n == 0 && row->zero_is_max ? UINT64_MAX : n;
		return code;
	}
}

static char *print_list(const struct strings *items, const char *between)
{
	struct text t = {0};

	for (size_t i = 0; i < items->n; i++) {
		text_add(&t, i > 0 ? between : "");
		text_add(&t, items->v[i]);
	}
	return text_take(&t);
}

char *setting_print(const struct setting *row, const struct settings *s)
{
	const void *field = field_of(row, s);
	uint64_t n;

	switch (row->type) {
	case SETTING_BOOL:
		return text_copy(*(const bool *)field ? "yes" : "no");
	case SETTING_ENUM:
		return text_copy(row->choices[*(const unsigned *)field]);
	case SETTING_TEXT:
		return text_copy(*(char *const *)field);
	case SETTING_WORDS:
		return print_list(field, ", ");
	case SETTING_LINES:
		return print_list(field, "\n");
	case SETTING_UINT:
		return print_number(row, *(const unsigned *)field);
	default:
		n = *(const uint64_t *)field;
		return print_number(row, n == UINT64_MAX && row->zero_is_max ? 0 : n);
	}
}

void setting_clear(const struct setting *row, struct settings *s)
{
	void *field = field_of(row, s);

	if (row->type == SETTING_TEXT)
		free(*(char **)field);
	else if (row->type == SETTING_WORDS || row->type == SETTING_LINES)
		text_strings_done(field);
}

static char *describe_choices(const struct setting *row)
{
	struct text t = {0};

	for (size_t i = 0; row->choices[i] != NULL; i++) {
		bool last = row->choices[i + 1] == NULL;

		text_add(&t, i == 0 ? "" : last ? " or " : ", ");
		text_add(&t, row->choices[i]);
	}
	return text_take(&t);
}

static char *describe_number(const struct setting *row, const char *what)
{
	_free_ char *min = print_number(row, row->min);
	_free_ char *max = print_number(row, row->max);
	struct text t = {0};

	const char *word = row->zero != NULL ? row->zero : row->unlimited;

	text_add(&t, word != NULL ? word : "");
	text_addf(&t, "%s%s", word != NULL ? ", or " : "", what);
	if (row->min > 1)
		text_addf(&t, ", at least %s", min);
	if (row->max > 0)
		text_addf(&t, ", at most %s", max);
	return text_take(&t);
}

char *setting_describe_type(const struct setting *row)
{
	switch (row->type) {
	case SETTING_BOOL:
		return text_copy("yes or no");
	case SETTING_ENUM:
		return describe_choices(row);
	case SETTING_TEXT:
		return text_copy(row->unit);
	case SETTING_WORDS:
		return text_format("%s; separated by commas or spaces", row->unit);
	case SETTING_LINES:
		return text_format("%s; one a line, the key repeated", row->unit);
	case SETTING_SIZE:
		return describe_number(row, "bytes, or with K, M, G or T");
	case SETTING_DURATION:
		return describe_number(row, "seconds, or with ms, s, m, h or d");
	default:
		return describe_number(row, row->unit != NULL ? row->unit : "a number");
	}
}

/* Every setting of the agent, one row each. The parsers, --dry-run and agent.ini.example use
 * these rows; a new setting is a field in struct settings and a row here. */

#define AT(field) offsetof(struct settings, field)

static const char *const log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const log_formats[] = {"text", "json", NULL};
static const char *const log_times[] = {"auto", "yes", "no", NULL}; /* as enum log_time */
static const char *const hook_policies[] = {"warn", "fail", NULL};  /* as enum hook_policy */

static const char *const cache_deliveries[] = {/* as enum deliver */
	"auto", "bind", "symlink", "reflink", "hardlink", "copy", NULL};
static const char *const s3_styles[] = {"auto", "path", "virtual", NULL}; /* as enum bucket_style */
static const char *const s3_signs[] = {"auto", "yes", "no", NULL};        /* as enum signing */
static const char *const progress_modes[] = {
	"auto", "tty", "lines", "json", "none", NULL}; /* as enum progress_mode */
static const char *const supervise_choices[] = {"auto", "always", "never", NULL};
static const char *const forward_choices[] = {"command", "group", "none", NULL};

int settings_parse_owner(const char *s, uid_t *ret_uid, gid_t *ret_gid, struct error *err)
{
	const char *colon = strchr(s, ':');
	_free_ char *user = text_format("%.*s", colon != NULL ? (int)(colon - s) : 0, s);
	uint64_t uid, gid;

	/* The largest id, (uid_t)-1, means "none" to the system. */
	if (colon == NULL || units_parse_uint(user, UINT_MAX - 1, &uid, NULL) < 0 ||
		units_parse_uint(colon + 1, UINT_MAX - 1, &gid, NULL) < 0)
		return error_set(err, -ERR_CONFIG, "'%s' is not uid:gid, two numbers", s);
	*ret_uid = (uid_t)uid;
	*ret_gid = (gid_t)gid;
	return 0;
}

static int check_owner(const char *value, struct error *err)
{
	uid_t uid;
	gid_t gid;

	return settings_parse_owner(value, &uid, &gid, err);
}

/* The rest of "URL-PREFIX NAME: VALUE" from its ':' on, or NULL if the line has another form. */
static const char *header_value(const char *line)
{
	static const char name_bytes[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";
	size_t url = strcspn(line, " \t");
	const char *name = line + url + strspn(line + url, " \t");
	size_t len = strspn(name, name_bytes);

	return len > 0 && name[len] == ':' ? name + len : NULL;
}

static int check_header(const char *line, struct error *err)
{
	bool is_http = strncmp(line, "http://", 7) == 0 || strncmp(line, "https://", 8) == 0;

	/* The message does not quote the line, because it may contain a password. */
	if (!is_http || header_value(line) == NULL)
		return error_set(err, -ERR_CONFIG,
			"a header is written URL-PREFIX NAME: VALUE, such as https://data.example/ Authorization: Bearer x");
	return 0;
}

static char *redact_header(const char *line)
{
	_free_ char *head = text_format("%.*s", (int)(header_value(line) - line), line);
	size_t prefix = strcspn(head, " \t");
	_free_ char *url = text_format("%.*s", (int)prefix, head);
	_free_ char *shown = url_display(url);

	return text_format("%s%s: ***", shown, head + prefix);
}

/* url_display() needs a scheme, which an endpoint may lack. */
static char *redact_endpoint(const char *value)
{
	bool has_scheme = *value == '\0' || strstr(value, "://") != NULL;
	_free_ char *url = has_scheme ? text_copy(value) : text_format("https://%s", value);

	return url_display(url);
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
	{"agent", "log_time", SETTING_ENUM, AT(log_time), "auto",
		"Whether lines of text begin with the time; auto: unless they go to a terminal.",
		.choices = log_times},
	{"agent", "progress", SETTING_ENUM, AT(progress), "auto",
		"How progress is shown; auto: live on a terminal, as lines elsewhere.",
		.choices = progress_modes, .was_bool = true},
	{"agent", "progress_interval", SETTING_DURATION, AT(progress_interval_ms), "15s",
		"Time between two lines of progress; the first comes after 5 s.", .min = 1000},
	{"agent", "memory_budget", SETTING_SIZE, AT(memory_budget), "auto",
		"Memory for the data on its way; auto: the smaller of 256M and a quarter of the container's limit.",
		.min = 16 << 20, .zero = "auto"},
	{"agent", "parallel_stages", SETTING_UINT, AT(parallel_stages), "8",
		"Destinations that are staged at once.", .min = 1, .max = 1024},
	{"agent", "threads", SETTING_UINT, AT(threads), "auto",
		"Threads that decompress; auto: as many as processors, or as its CPU quota pays for.",
		.min = 1, .max = 1024, .zero = "auto"},
	{"agent", "termination_log", SETTING_TEXT, AT(termination_log), "/dev/termination-log",
		"Where the reason of a failure is also written, if the file is there.",
		.unit = "a path", .short_env = "STAGERUN_TERMINATION_LOG"},
	{"agent", "secret_names", SETTING_WORDS, AT(secret_names), "",
		"Variables whose values are never printed, beside *TOKEN*, *SECRET*, *PASSWORD* and *KEY*.",
		.unit = "globs"},
	{"agent", "strict", SETTING_BOOL, AT(strict), "no",
		"Whether an unknown key of config.yml is an error, and not a warning."},
	{"agent", "lock", SETTING_WORDS, AT(lock), "",
		"Settings that the environment, config.yml and options may not change.",
		.unit = "section.key, or globs such as limits.*", .file_only = true},

	{"network", "connections", SETTING_UINT, AT(network.connections), "64",
		"Connections at once, to all hosts together.", .min = 1, .max = 4096},
	{"network", "connections_per_host", SETTING_UINT, AT(network.connections_per_host), "16",
		"Connections at once to one host and port.", .min = 1, .max = 4096},
	{"network", "max_rate", SETTING_SIZE, AT(network.max_rate), "none",
		"Bytes a second of all downloads together.", .min = 65536, .zero = "none"},
	{"network", "range_min", SETTING_SIZE, AT(network.range_min), "1M",
		"What one ranged request asks for at first.", .min = 4096, .max = 1 << 30},
	{"network", "range_max", SETTING_SIZE, AT(network.range_max), "8M",
		"What one ranged request grows to.", .min = 4096, .max = 1 << 30},
	{"network", "connect_timeout", SETTING_DURATION, AT(network.connect_timeout_ms), "10s",
		"Time for one attempt to connect, with TLS and proxy.", .min = 1, .max = 3600000},
	{"network", "first_byte_timeout", SETTING_DURATION, AT(network.first_byte_timeout_ms),
		"60s", "Time from a request to the first byte of its answer.", .min = 1,
		.max = 3600000},
	{"network", "stall_timeout", SETTING_DURATION, AT(network.stall_timeout_ms), "15s",
		"A body of which no byte comes or goes for this long counts as broken.", .min = 1,
		.max = 3600000},
	{"network", "patience", SETTING_DURATION, AT(network.patience_ms), "60s",
		"How long a host that has not answered yet is asked again.", .max = 3600000,
		.zero = "none"},
	{"network", "retries", SETTING_UINT, AT(network.retries), "5",
		"Attempts after the first, for each range, as long as none brings a byte; before a host has answered, patience counts.",
		.max = 1000},
	{"network", "retry_base", SETTING_DURATION, AT(network.retry_base_ms), "200ms",
		"The longest wait before the first retry; doubled each time.", .min = 1,
		.max = 3600000},
	{"network", "retry_max", SETTING_DURATION, AT(network.retry_max_ms), "20s",
		"The longest wait before any retry.", .min = 1, .max = 3600000},
	{"network", "ca_file", SETTING_TEXT, AT(network.ca_file), "",
		"The certificates to trust; empty: the system's.", .unit = "a PEM file"},
	{"network", "netrc_file", SETTING_TEXT, AT(network.netrc_file), "",
		"Names and passwords for hosts; empty: none.", .unit = "a netrc file"},
	{"network", "headers", SETTING_LINES, AT(network.headers), "",
		"Headers for the requests whose URL begins so; never sent on to another host or port.",
		.unit = "URL-PREFIX NAME: VALUE", .check = check_header, .redact = redact_header},

	{"limits", "max_bytes", SETTING_SIZE, AT(limits.max_bytes), "none",
		"Content of one staged directory, and what is stored of an archive to unpack it.",
		.zero = "none", .zero_is_max = true},
	{"limits", "max_entries", SETTING_COUNT, AT(limits.max_entries), "20000000",
		"Files, directories and links in one staged directory.", .min = 1},
	{"limits", "max_ratio", SETTING_COUNT, AT(limits.max_ratio), "1100",
		"Times that data may expand, without holes, looked at beyond the first 1G.",
		.zero = "none"},
	{"limits", "max_path", SETTING_UINT, AT(limits.max_path), "4096",
		"Length of one name inside an archive.", .unit = "bytes", .min = 1, .max = 4096},

	{"stage", "same_owner", SETTING_BOOL, AT(same_owner), "no",
		"Files belong to whom the archive says, instead of the running user."},
	{"stage", "owner", SETTING_TEXT, AT(owner), "",
		"Files belong to this user and group; empty: to the running user.",
		.unit = "uid:gid, as numbers", .check = check_owner},
	{"stage", "keep_download", SETTING_BOOL, AT(keep_download), "no",
		"Keep the bytes of an archive that is one stream until it is unpacked, for the run after a killed one."},
	{"stage", "lock_timeout", SETTING_DURATION, AT(lock_timeout_ms), "none",
		"How long to wait for another agent that stages the same destination, or collects in the store; 0: not at all.",
		.unlimited = "none", .max = 31536000000},
	{"stage", "zip_names", SETTING_TEXT, AT(zip_names), "",
		"What characters the names in zips are that do not say it; empty: their bytes are kept.",
		.unit = "a character set of iconv, as CP437, CP932 or GBK"},

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

	{"store", "url", SETTING_TEXT, AT(store), "",
		"Where datastores are kept; empty: in a directory of this user's.",
		.unit = "s3://bucket/prefix or file:///dir", .short_env = "STAGERUN_STORE",
		.redact = url_display},
	{"store", "max_datastores", SETTING_UINT, AT(max_datastores), "50",
		"Datastores in the store, every version counted; no more can be created.", .min = 1,
		.max = 1000000},
	{"store", "grace", SETTING_DURATION, AT(store_grace_ms), "1h",
		"After a deletion, data stays this long for those who read it.",
		.max = 31536000000},
	{"store", "register_runs", SETTING_DURATION, AT(register_ms), "none",
		"A run keeps the datastores that it attached from deletion this long, if it may write to the store.",
		.zero = "none", .max = 31536000000},

	{"s3", "endpoint", SETTING_TEXT, AT(s3_endpoint), "",
		"The S3 service; empty: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or AWS.",
		.unit = "a URL", .redact = redact_endpoint},
	{"s3", "region", SETTING_TEXT, AT(s3_region), "",
		"Its region; empty: AWS_REGION, AWS_DEFAULT_REGION, the profile's, or the one found.",
		.unit = "a name"},
	{"s3", "profile", SETTING_TEXT, AT(s3_profile), "",
		"The profile of the AWS configuration to use before all other credentials; empty: as the AWS tools do.",
		.unit = "a name"},
	{"s3", "style", SETTING_ENUM, AT(s3_style), "auto",
		"Where requests name the bucket; auto: in the host for AWS, else in the path.",
		.choices = s3_styles},
	{"s3", "sign", SETTING_ENUM, AT(s3_sign), "auto",
		"Whether requests are signed; no: for public buckets; auto: if there are credentials.",
		.choices = s3_signs},

	{"actions", "shell", SETTING_TEXT, AT(shell), "",
		"What runs the shell actions; empty: bash when present, else sh.",
		.unit = "a path"},
	{"actions", "prefix_output", SETTING_BOOL, AT(prefix_output), "no",
		"Put the action's number before each line that it prints."},
	{"actions", "timeout", SETTING_DURATION, AT(action_timeout_ms), "none",
		"Time for one shell action that names none of its own.", .zero = "none"},

	{"hooks", "dir", SETTING_LINES, AT(hook_dirs), "",
		"Directories of operators' hooks, a name in a later one overrides; empty: /etc/stagerun/hooks, if it is there.",
		.unit = "an absolute path", .check = check_absolute},
	{"hooks", "timeout", SETTING_DURATION, AT(hook_timeout_ms), "5m", "Time for one hook.",
		.zero = "none"},
	{"hooks", "shell_options", SETTING_TEXT, AT(shell_options), "pipefail",
		"What bash gets by -o for the shell actions, beside -e; empty: nothing.",
		.unit = "words"},
	{"hooks", "on_stage_start", SETTING_ENUM, AT(on_stage_start), "fail",
		"What a hook that fails before staging does to the run.", .choices = hook_policies},
	{"hooks", "on_stage_end", SETTING_ENUM, AT(on_stage_end), "warn", "The same after staging.",
		.choices = hook_policies},
	{"hooks", "on_experiment_start", SETTING_ENUM, AT(on_experiment_start), "fail",
		"The same before the start actions.", .choices = hook_policies},

	{"report", "otlp_timeout", SETTING_DURATION, AT(otlp_timeout_ms), "1s",
		"How long the start may wait for the OpenTelemetry collector that OTEL_EXPORTER_OTLP_ENDPOINT names to take its trace.",
		.min = 1, .max = 60000},

	{"process", "supervise", SETTING_ENUM, AT(supervise), "auto",
		"Whether to stay as the command's parent; auto: as PID 1, or for end actions and hooks.",
		.choices = supervise_choices},
	{"process", "forward", SETTING_ENUM, AT(forward), "command",
		"Whom a parent passes signals on to: the command alone, its process group, or none: for launchers that signal every process themselves (Slurm, systemd).",
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
