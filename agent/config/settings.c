/* SPDX-License-Identifier: MIT */
/* The settings as a whole: defaults, assignment from any layer, locks, the environment,
 * descriptions for people, and the choice of the values that are secret. Loop thread. */
#include "settings.h"
#include "defer.h"
#include "redact.h"
#include "settings_table.h"
#include "url.h"
#include <ctype.h>
#include <fnmatch.h>
#include <ini.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

static const char *origin_text(const struct origin *o)
{
	return o->where != NULL ? o->where : "default";
}

/* Sets the fields that are computed from owner. */
static void derive(struct settings *s)
{
	s->owner_uid = (uid_t)-1;
	s->owner_gid = (gid_t)-1;
	if (*s->owner != '\0')
		settings_parse_owner(s->owner, &s->owner_uid, &s->owner_gid, NULL);
}

struct settings *settings_new(void)
{
	struct settings *s = zalloc(sizeof(*s));

	s->origins = zalloc(settings_count * sizeof(*s->origins));
	for (size_t i = 0; i < settings_count; i++) {
		if (setting_parse(&settings_table[i], s, settings_table[i].initial, false, NULL) <
			0)
			abort(); /* a default in settings_table[] is invalid */
	}
	derive(s);
	return s;
}

void settings_free(struct settings *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < settings_count; i++) {
		setting_clear(&settings_table[i], s);
		free(s->origins[i].where);
		free(s->origins[i].locked_by);
	}
	free(s->origins);
	free(s);
}

static int check_writable(const struct setting *row, const struct origin *origin,
	const struct origin *from, struct error *err)
{
	if (origin->locked_by != NULL)
		return error_set(err, -ERR_CONFIG,
			"%s: %s.%s is locked by %s; leave it out or ask who runs this machine",
			from->where, row->section, row->key, origin->locked_by);
	if (row->file_only && from->kind != ORIGIN_FILE)
		return error_set(err, -ERR_CONFIG, "%s: %s.%s can only be set in agent.ini",
			from->where, row->section, row->key);
	return 0;
}

/* Assigns a value from any layer to row i, and copies from as its origin; see settings_set(). */
static int settings_assign(struct settings *s, size_t i, const char *value,
	const struct origin *from, struct error *err)
{
	const struct setting *row = &settings_table[i];
	struct origin *origin = &s->origins[i];
	int code = check_writable(row, origin, from, err);

	if (code < 0)
		return code;
	code = setting_parse(row, s, value, origin->kind == from->kind, err);
	if (code < 0) {
		error_prefix(err, "%s: %s.%s", from->where, row->section, row->key);
		if (from->kind == ORIGIN_OPTION)
			code = -ERR_USAGE;
		if (err != NULL)
			err->code = code;
		return code;
	}
	derive(s);
	origin->kind = from->kind;
	free(origin->where);
	origin->where = text_copy(from->where);
	return 0;
}

/* The index of the row for "section.key", or -1. */
static int find_dotted(const char *dotted)
{
	const char *dot = strchr(dotted, '.');
	_free_ char *section = NULL;

	if (dot == NULL)
		return -1;
	section = text_format("%.*s", (int)(dot - dotted), dotted);
	return settings_find(section, dot + 1);
}

int settings_set(struct settings *s, const char *key, const char *value, enum origin_kind kind,
	const char *where, struct error *err)
{
	struct origin from = {.kind = kind, .where = (char *)where};
	int i = find_dotted(key);

	if (i < 0)
		return error_set(err, -ERR_CONFIG, "%s: there is no setting '%s'", where, key);
	return settings_assign(s, (size_t)i, value, &from, err);
}

static bool lock_matching_rows(struct settings *s, const char *glob, const char *locked_by)
{
	bool matched = false;

	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];
		_free_ char *name = text_format("%s.%s", row->section, row->key);

		if (fnmatch(glob, name, 0) != 0)
			continue;
		matched = true;
		if (s->origins[i].locked_by == NULL)
			s->origins[i].locked_by = text_copy(locked_by);
	}
	return matched;
}

void settings_lock(struct settings *s)
{
	const char *where = origin_text(&s->origins[settings_find("agent", "lock")]);

	for (size_t i = 0; i < s->lock.n; i++) {
		if (!lock_matching_rows(s, s->lock.v[i], where))
			log_warn("%s: lock: there is no setting '%s'", where, s->lock.v[i]);
	}
}

static int set_contradiction(const struct settings *s, const char *section, const char *a,
	const char *is, const char *b, struct error *err)
{
	int ia = settings_find(section, a), ib = settings_find(section, b);
	_free_ char *value_a = setting_print(&settings_table[ia], s);
	_free_ char *value_b = setting_print(&settings_table[ib], s);

	return error_set(err, -ERR_CONFIG, "%s.%s = %s (%s) %s %s.%s = %s (%s)", section, a,
		value_a, origin_text(&s->origins[ia]), is, section, b, value_b,
		origin_text(&s->origins[ib]));
}

int settings_check(const struct settings *s, struct error *err)
{
	if (s->network.range_min > s->network.range_max)
		return set_contradiction(s, "network", "range_min", "is above", "range_max", err);
	if (s->network.retry_base_ms > s->network.retry_max_ms)
		return set_contradiction(s, "network", "retry_base", "is above", "retry_max", err);
	if (s->same_owner && *s->owner != '\0')
		return set_contradiction(s, "stage", "same_owner", "contradicts", "owner", err);
	return 0;
}

/* The environment: STAGERUN_<SECTION>_<KEY>, and the short names in the table. */

#define PREFIX "STAGERUN_"

/* This variable begins like a setting of [agent], and is not one. */
#define AGENT_FILE_VARIABLE "STAGERUN_AGENT_CONFIG"

static char *variable_name(const char *section, const char *key)
{
	char *name = text_format(PREFIX "%s_%s", section, key);

	for (char *p = name; *p != '\0'; p++)
		*p = (char)toupper((unsigned char)*p);
	return name;
}

/* NULL if the variable is unset or empty. */
static const char *get_variable(const char *name)
{
	const char *value;

	if (name == NULL)
		return NULL;
	value = getenv(name); /* NOLINT(concurrency-mt-unsafe): before any other thread */
	return value != NULL && *value != '\0' ? value : NULL;
}

int settings_variable_read(const char *name, const char *allowed, char **ret, struct error *err)
{
	const char *value = get_variable(name);
	_free_ char *what = value != NULL ? text_format("env %s", name) : NULL;
	int code = 0;

	*ret = NULL;
	if (value != NULL)
		code = text_clean_value(what, value, allowed, ret, err);
	if (*ret != NULL && **ret == '\0')
		free(take_ptr(ret));
	return code;
}

/* The NAME of "NAME=VALUE"; heap. */
static char *copy_name(const char *variable)
{
	return text_format("%.*s", (int)strcspn(variable, "="), variable);
}

static bool begins_as_setting(const char *name)
{
	for (size_t i = 0; i < settings_count; i++) {
		_free_ char *prefix = variable_name(settings_table[i].section, "");

		if (strncmp(name, prefix, strlen(prefix)) == 0)
			return true;
	}
	return false;
}

static bool is_known(const char *name, const struct strings *known)
{
	for (size_t i = 0; i < known->n; i++) {
		if (strcmp(known->v[i], name) == 0)
			return true;
	}
	return strcmp(name, AGENT_FILE_VARIABLE) == 0;
}

static void warn_of_unknown(const struct strings *known)
{
	for (char **variable = environ; *variable != NULL; variable++) {
		_free_ char *name = NULL;
		const char *nearest;

		/* Most have nothing to do with us, and begins_as_setting() takes its time. */
		if (strncmp(*variable, PREFIX, strlen(PREFIX)) != 0)
			continue;
		name = copy_name(*variable);
		if (!begins_as_setting(name) || is_known(name, known))
			continue;
		nearest = nearest_word(name, (const char *const *)known->v, known->n);
		log_warn("env %s: there is no such setting%s%s%s", name,
			nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
			nearest != NULL ? "?" : "");
	}
}

static int read_variable(struct settings *s, size_t i, const char *name, struct error *err)
{
	const char *alias = settings_table[i].short_env;
	const char *used = get_variable(name) != NULL ? name : alias;
	bool is_list =
		settings_table[i].type == SETTING_WORDS || settings_table[i].type == SETTING_LINES;
	_free_ char *value = NULL;
	int code = settings_variable_read(used, is_list ? "\t\r\n" : "", &value, err);
	struct origin from = {.kind = ORIGIN_ENV};

	if (code < 0 || value == NULL)
		return code;
	from.where = text_format("env %s", used);
	code = settings_assign(s, i, value, &from, err);
	free(from.where);
	return code;
}

int settings_read_environment(struct settings *s, struct error *err)
{
	struct strings known = {0};
	int code = 0;

	for (size_t i = 0; i < settings_count && code == 0; i++) {
		_free_ char *name = variable_name(settings_table[i].section, settings_table[i].key);

		code = read_variable(s, i, name, err);
		text_strings_add(&known, name);
	}
	if (code == 0)
		warn_of_unknown(&known);
	text_strings_done(&known);
	return code;
}

/* Descriptions: the values for --dry-run, and agent.ini.example. */

/* The printable form of a value; the lines of a list are redacted one by one. Heap. */
static char *print_redacted(const struct setting *row, const struct settings *s)
{
	char *value = setting_print(row, s);
	_free_ char *secret = row->redact != NULL ? value : NULL;
	struct text t = {0};
	char *rest = NULL;

	if (row->redact == NULL)
		return value;
	for (char *line = strtok_r(secret, "\n", &rest); line != NULL;
		line = strtok_r(NULL, "\n", &rest)) {
		_free_ char *shown = row->redact(line);

		text_addf(&t, "%s%s", t.len > 0 ? "\n" : "", shown);
	}
	return text_take(&t);
}

void settings_describe(const struct settings *s,
	void (*row)(void *ctx, const char *key, const char *value, const char *origin), void *ctx)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *setting = &settings_table[i];
		_free_ char *key = text_format("%s.%s", setting->section, setting->key);
		_free_ char *value = print_redacted(setting, s);

		row(ctx, key, value, origin_text(&s->origins[i]));
	}
}

static const char introduction[] =
	"# The settings of stagerun, each with its default. Copy this file to\n"
	"# /etc/stagerun/agent.ini and take the '#' away from what you change.\n"
	"#\n"
	"# Built-in default < this file < environment < config.yml < command line. A setting's\n"
	"# variable is STAGERUN_<SECTION>_<KEY>, such as STAGERUN_NETWORK_CONNECTIONS.\n"
	"# A line that begins with '#' or ';' is a comment; a value goes to the end of its line.\n";

static void add_row(struct text *t, const struct setting *row)
{
	_free_ char *type = setting_describe_type(row);

	text_addf(t, "\n# %s\n# Value: %s.", row->help, type);
	if (row->short_env != NULL)
		text_addf(t, " Also $%s.", row->short_env);
	text_addf(t, "\n#%s =%s%s\n", row->key, *row->initial != '\0' ? " " : "", row->initial);
}

char *settings_example(void)
{
	const char *section = "";
	struct text t = {0};

	text_add(&t, introduction);
	for (size_t i = 0; i < settings_count; i++) {
		const struct setting *row = &settings_table[i];

		if (strcmp(section, row->section) != 0)
			text_addf(&t, "\n[%s]\n", row->section);
		section = row->section;
		add_row(&t, row);
	}
	return text_take(&t);
}

/* Secrets: the variables and values that must not be printed. */

static bool matches_any(const char *name, const char *const *globs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fnmatch(globs[i], name, FNM_CASEFOLD) == 0)
			return true;
	return false;
}

static bool is_named_secret(const struct settings *s, const char *name)
{
	return s != NULL &&
	       matches_any(name, (const char *const *)s->secret_names.v, s->secret_names.n);
}

bool settings_is_secret(const struct settings *s, const char *name)
{
	static const char *const secret_globs[] = {"*TOKEN*", "*SECRET*", "*PASSWORD*", "*KEY*"};
	static const char *const path_suffixes[] = {"*_FILE", "*_PATH", "*_DIR"};

	if (is_named_secret(s, name))
		return true;
	return matches_any(name, secret_globs, ARRAY_LEN(secret_globs)) &&
	       !matches_any(name, path_suffixes, ARRAY_LEN(path_suffixes));
}

/* Whether a path component looks like a piece of a Base64 key, whose alphabet includes '/'. */
static bool looks_random(const char *part, size_t len)
{
	bool upper = false, lower = false, digit = false;

	for (size_t i = 0; i < len; i++) {
		upper = upper || (part[i] >= 'A' && part[i] <= 'Z');
		lower = lower || (part[i] >= 'a' && part[i] <= 'z');
		digit = digit || (part[i] >= '0' && part[i] <= '9');
		if (strchr("+=", part[i]) != NULL)
			return true;
	}
	return len >= 16 && upper && lower && digit;
}

static bool is_absolute_path(const char *value)
{
	if (*value != '/' || strpbrk(value, " \t\r\n") != NULL)
		return false;
	for (const char *part = value; *part != '\0';) {
		size_t len = strcspn(++part, "/");

		if (looks_random(part, len))
			return false;
		part += len;
	}
	return true;
}

bool settings_is_secret_value(const struct settings *s, const char *name, const char *value)
{
	/* These values are random Base64, and one in 64 starts with '/'. */
	static const char *const random_values[] = {
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN"};

	if (!settings_is_secret(s, name))
		return false;
	return is_named_secret(s, name) ||
	       matches_any(name, random_values, ARRAY_LEN(random_values)) ||
	       !is_absolute_path(value);
}

/* The URL of a proxy or an endpoint may lack its scheme. */
static bool is_url(const char *name, const char *value)
{
	return strstr(value, "://") != NULL || fnmatch("*_proxy", name, FNM_CASEFOLD) == 0 ||
	       fnmatch("*endpoint*", name, FNM_CASEFOLD) == 0;
}

void settings_hide_secrets(const struct settings *s, char *const *env)
{
	for (; env != NULL && *env != NULL; env++) {
		size_t len = strcspn(*env, "=");
		_free_ char *name = text_format("%.*s", (int)len, *env);

		if ((*env)[len] != '=')
			continue;
		if (settings_is_secret_value(s, name, *env + len + 1))
			redact_add(*env + len + 1);
		else if (is_url(name, *env + len + 1))
			url_redact(*env + len + 1);
	}
	if (s != NULL) {
		url_redact(s->s3_endpoint);
		url_redact(s->store);
	}
}

/* Reads agent.ini with inih, and chooses which agent.ini files to read. Loop thread. */

#define SYSTEM_FILE "/etc/stagerun/agent.ini"

/* inih (as Debian builds it) cuts lines at 200 bytes and treats the text after " ;" as a comment,
 * which would damage URLs and headers. Therefore inih gets each line only up to its '=', and
 * finds the sections, keys, comments and continuations; the value is taken from the whole line,
 * which is stored here. */
struct ini_file {
	struct settings *s;
	const char *path;
	FILE *f;
	char *line; /* the whole line, without its line end */
	size_t cap;
	unsigned line_number; /* from 1 */
	struct error *err;
	int code; /* the first failure; reading stops after it */
};

static void set_line_error(struct ini_file *file, const char *what)
{
	file->code =
		error_set(file->err, -ERR_CONFIG, "%s:%u: %s", file->path, file->line_number, what);
}

/* The length of the part that inih gets: up to the '=' or ':' at which inih splits the line. */
static size_t key_length(const char *line)
{
	size_t len = strcspn(line, "=:");

	return line[len] != '\0' ? len + 1 : len;
}

static bool is_comment(const char *line)
{
	line += strspn(line, " \t");
	return *line == ';' || *line == '#';
}

/* Reads the next line into file->line. Returns false at the end of the file, or after setting
 * file->code. */
static bool read_next_line(struct ini_file *file)
{
	ssize_t len = getline(&file->line, &file->cap, file->f);

	if (len < 0) {
		if (ferror(file->f))
			file->code = error_set(file->err, -errno, "read '%s': %m", file->path);
		return false;
	}
	file->line_number++;
	if (strlen(file->line) != (size_t)len) {
		set_line_error(file, "a NUL byte; this is not a text file");
		return false;
	}
	file->line[strcspn(file->line, "\r\n")] = '\0';
	return true;
}

/* inih calls this instead of fgets(), once for each line. */
static char *read_line(char *buf, int size, void *stream)
{
	struct ini_file *file = stream;
	size_t len, max_len = (size_t)size - 2; /* for "\n" and the NUL */

	if (file->code < 0 || !read_next_line(file))
		return NULL;
	len = key_length(file->line);
	if (is_comment(file->line))
		len = 0;
	if (len > max_len && *file->line != ' ' && *file->line != '\t') {
		set_line_error(file, "neither [section] nor key = value");
		return NULL;
	}
	/* An indented line continues a value. Any part of it is enough for inih to report it. */
	snprintf(buf, (size_t)size, "%.*s\n", (int)(len < max_len ? len : max_len), file->line);
	return buf;
}

/* The nearest key of the section, or NULL; see nearest_word(). */
static const char *nearest_key(const char *section, const char *key)
{
	_free_ const char **keys = zalloc(settings_count * sizeof(*keys));
	size_t n = 0;

	for (size_t i = 0; i < settings_count; i++) {
		if (strcmp(settings_table[i].section, section) == 0)
			keys[n++] = settings_table[i].key;
	}
	return nearest_word(key, keys, n);
}

/* The nearest section, or NULL. */
static const char *nearest_section(const char *section)
{
	_free_ const char **sections = zalloc(settings_count * sizeof(*sections));

	for (size_t i = 0; i < settings_count; i++)
		sections[i] = settings_table[i].section;
	return nearest_word(section, sections, settings_count);
}

static void warn_of_unknown_keys(const struct ini_file *file, const char *section, const char *key)
{
	const char *nearest = nearest_key(section, key);
	const char *near_section = nearest_section(section);

	if (nearest != NULL)
		log_warn("%s:%u: unknown key '%s' in [%s]; did you mean '%s'?", file->path,
			file->line_number, key, section, nearest);
	else if (near_section != NULL && strcmp(near_section, section) != 0)
		log_warn("%s:%u: unknown key '%s' in [%s]; did you mean [%s]?", file->path,
			file->line_number, key, section, near_section);
	else
		log_warn("%s:%u: unknown key '%s' in [%s]", file->path, file->line_number, key,
			section);
}

static bool is_list(const struct setting *row)
{
	return row->type == SETTING_WORDS || row->type == SETTING_LINES;
}

static void assign_value(struct ini_file *file, size_t row, const char *value)
{
	const struct setting *setting = &settings_table[row];
	struct origin *before = &file->s->origins[row];
	_free_ char *where = text_format("%s:%u", file->path, file->line_number);
	struct origin from = {.kind = ORIGIN_FILE, .where = where};

	if (before->kind == ORIGIN_FILE && before->locked_by == NULL && !is_list(setting))
		log_warn("%s: %s is set again; this line wins over %s", where, setting->key,
			before->where);
	file->code = settings_assign(file->s, row, value, &from, file->err);
	if (file->code < 0 && file->err != NULL && strstr(value, " ;") != NULL) {
		_free_ char *message = text_copy(file->err->msg);

		error_set(file->err, file->code, "%s (a comment needs a line of its own)", message);
	}
}

/* inih calls this for each key, and for each line that continues a value. */
static int on_value(void *ctx, const char *section, const char *key, const char *shown)
{
	struct ini_file *file = ctx;
	bool continues = *shown != '\0'; /* for a key, shown ends at the '=' and is empty */
	char *value = continues ? file->line : file->line + key_length(file->line);
	int row = settings_find(section, key);

	if (file->code < 0)
		return 0;
	value += strspn(value, " \t");
	for (size_t len = strlen(value); len > 0 && strchr(" \t", value[len - 1]) != NULL; len--)
		value[len - 1] = '\0';
	if (row < 0 && !continues)
		warn_of_unknown_keys(file, section, key);
	else if (row >= 0 && continues && !is_list(&settings_table[row]))
		set_line_error(
			file, "an indented line continues a list, and the key above is none");
	else if (row >= 0)
		assign_value(file, (size_t)row, value);
	return file->code == 0;
}

int settings_parse_file(struct settings *s, const char *path, struct error *err)
{
	_fclose_ FILE *f = fopen(path, "re");
	struct ini_file file = {.s = s, .path = path, .f = f, .err = err};
	int bad_line;

	if (f == NULL)
		return error_set(err, -errno, "read '%s': %m", path);
	bad_line = ini_parse_stream(read_line, &file, on_value, &file);
	free(file.line);
	/* inih continues after a line that it cannot parse, so file.code may be of a later line. */
	if (bad_line > 0 && (file.code == 0 || bad_line < (int)file.line_number))
		return error_set(err, -ERR_CONFIG, "%s:%d: neither [section] nor key = value", path,
			bad_line);
	if (bad_line < 0)
		return error_set(err, -ENOMEM, "read '%s': no memory", path);
	return file.code;
}

/* Copies to s the settings that are locked in from: their locks, and their values. */
static int copy_locked(struct settings *s, const struct settings *from, struct error *err)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct origin *origin = &from->origins[i];
		_free_ char *value = NULL;
		int code = 0;

		if (origin->locked_by == NULL)
			continue;
		value = setting_print(&settings_table[i], from);
		if (origin->kind == ORIGIN_FILE) /* otherwise both have the default */
			code = settings_assign(s, i, value, origin, err);
		if (code < 0)
			return code;
		s->origins[i].locked_by = text_copy(origin->locked_by);
	}
	return 0;
}

static int read_system_locks(struct settings *s, const char *system_path, struct error *err)
{
	struct settings *system = settings_new();
	int code = settings_parse_file(system, system_path, err);

	if (code == 0) {
		settings_lock(system);
		code = copy_locked(s, system, err);
	}
	settings_free(system);
	return code == -ENOENT ? 0 : code;
}

static bool same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
	       sa.st_ino == sb.st_ino;
}

int settings_read_files(
	struct settings *s, const char *path, const char *system_path, struct error *err)
{
	bool is_other_file = path != NULL && !same_file(path, system_path);
	int code = is_other_file ? read_system_locks(s, system_path, err) : 0;

	if (code == 0)
		code = settings_parse_file(s, is_other_file ? path : system_path, err);
	if (code == -ENOENT && path == NULL)
		return 0;
	if (code == 0)
		settings_lock(s);
	return code;
}

int settings_read_file(struct settings *s, const char *path, struct error *err)
{
	_free_ char *variable = NULL;
	int code = path == NULL
			   ? settings_variable_read("STAGERUN_AGENT_CONFIG", "", &variable, err)
			   : 0;

	if (variable != NULL)
		path = variable;
	return code < 0 ? code : settings_read_files(s, path, SYSTEM_FILE, err);
}
