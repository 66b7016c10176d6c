/* SPDX-License-Identifier: MIT */
/* agent.ini, through inih, and which of the agent.ini files are read. Loop thread. */
#include "defer.h"
#include "settings_table.h"
#include <ini.h>
#include <string.h>
#include <sys/stat.h>

#define SYSTEM_FILE "/etc/stagerun/agent.ini"

/* inih cuts lines at 200 bytes (as Debian builds it) and takes what follows " ;" for a comment:
 * neither will do for URLs and headers. So it sees each line only up to its '=', and finds
 * sections, keys, comments and continuations; the value is taken from the whole line, which stays
 * here. */
struct ini_file {
	struct settings *s;
	const char *path;
	FILE *f;
	char *line; /* whole, without its end */
	size_t cap;
	unsigned number; /* of line, from 1 */
	struct error *err;
	int code; /* the first failure; nothing is read after it */
};

static void set_line_error(struct ini_file *file, const char *what)
{
	file->code = error_set(file->err, -ERR_CONFIG, "%s:%u: %s", file->path, file->number, what);
}

/* How much of the line inih is shown: up to the first '=' or ':', as these are what it splits at.
 */
static size_t head_length(const char *line)
{
	size_t len = strcspn(line, "=:");

	return line[len] != '\0' ? len + 1 : len;
}

static bool is_comment(const char *line)
{
	line += strspn(line, " \t");
	return *line == ';' || *line == '#';
}

/* Reads the next line whole. False at the end, or with file->code. */
static bool next_line(struct ini_file *file)
{
	ssize_t len = getline(&file->line, &file->cap, file->f);

	if (len < 0) {
		if (ferror(file->f))
			file->code = error_set(file->err, -errno, "read '%s': %m", file->path);
		return false;
	}
	file->number++;
	if (strlen(file->line) != (size_t)len) {
		set_line_error(file, "a NUL byte; this is not a text file");
		return false;
	}
	file->line[strcspn(file->line, "\r\n")] = '\0';
	return true;
}

/* inih's fgets(): one call, one line. */
static char *on_line(char *buf, int size, void *stream)
{
	struct ini_file *file = stream;
	size_t head, room = (size_t)size - 2; /* for "\n" and the NUL */

	if (file->code < 0 || !next_line(file))
		return NULL;
	head = head_length(file->line);
	if (is_comment(file->line))
		head = 0;
	if (head > room && *file->line != ' ' && *file->line != '\t') {
		set_line_error(file, "neither [section] nor key = value");
		return NULL;
	}
	/* Of an indented line, which continues a value, any part will do. */
	snprintf(buf, (size_t)size, "%.*s\n", (int)(head < room ? head : room), file->line);
	return buf;
}

static void warn_of_unknown(const struct ini_file *file, const char *section, const char *key)
{
	const char *nearest = settings_nearest_key(section, key);
	const char *near_section = settings_nearest_section(section);

	if (nearest != NULL)
		log_warn("%s:%u: unknown key '%s' in [%s]; did you mean '%s'?", file->path,
			file->number, key, section, nearest);
	else if (near_section != NULL && strcmp(near_section, section) != 0)
		log_warn("%s:%u: unknown key '%s' in [%s]; did you mean [%s]?", file->path,
			file->number, key, section, near_section);
	else
		log_warn("%s:%u: unknown key '%s' in [%s]", file->path, file->number, key, section);
}

static bool is_list(const struct setting *row)
{
	return row->type == SETTING_WORDS || row->type == SETTING_LINES;
}

static void take_value(struct ini_file *file, size_t row, const char *value)
{
	const struct setting *setting = &settings_table[row];
	struct origin *before = &file->s->origins[row];
	_free_ char *where = format_text("%s:%u", file->path, file->number);
	struct origin from = {.kind = ORIGIN_FILE, .where = where};

	if (before->kind == ORIGIN_FILE && before->locked_by == NULL && !is_list(setting))
		log_warn("%s: %s is set again; this line wins over %s", where, setting->key,
			before->where);
	file->code = settings_assign(file->s, row, value, &from, file->err);
	if (file->code < 0 && file->err != NULL && strstr(value, " ;") != NULL) {
		_free_ char *said = copy_text(file->err->msg);

		error_set(file->err, file->code, "%s (a comment needs a line of its own)", said);
	}
}

/* inih found a key, or a line that continues the value of one. */
static int on_value(void *ctx, const char *section, const char *key, const char *shown)
{
	struct ini_file *file = ctx;
	bool continues = *shown != '\0'; /* else shown ends at the '=' */
	char *value = continues ? file->line : file->line + head_length(file->line);
	int row = settings_find(section, key);

	if (file->code < 0)
		return 0;
	value += strspn(value, " \t");
	for (size_t len = strlen(value); len > 0 && strchr(" \t", value[len - 1]) != NULL; len--)
		value[len - 1] = '\0';
	if (row < 0 && !continues)
		warn_of_unknown(file, section, key);
	else if (row >= 0 && continues && !is_list(&settings_table[row]))
		set_line_error(
			file, "an indented line continues a list, and the key above is none");
	else if (row >= 0)
		take_value(file, (size_t)row, value);
	return file->code == 0;
}

int settings_parse_file(struct settings *s, const char *path, struct error *err)
{
	_fclose_ FILE *f = fopen(path, "re");
	struct ini_file file = {.s = s, .path = path, .f = f, .err = err};
	int bad_line;

	if (f == NULL)
		return error_set(err, -errno, "read '%s': %m", path);
	bad_line = ini_parse_stream(on_line, &file, on_value, &file);
	free(file.line);
	/* inih reads on after a line it does not understand; then that line came before ours. */
	if (bad_line > 0 && (file.code == 0 || bad_line < (int)file.number))
		return error_set(err, -ERR_CONFIG, "%s:%d: neither [section] nor key = value", path,
			bad_line);
	if (bad_line < 0)
		return error_set(err, -ENOMEM, "read '%s': no memory", path);
	return file.code;
}

/* Carries what another agent.ini locks over into s, as it is there. */
static int carry_locked(struct settings *s, const struct settings *from, struct error *err)
{
	for (size_t i = 0; i < settings_count; i++) {
		const struct origin *origin = &from->origins[i];
		_free_ char *value = NULL;
		int code = 0;

		if (origin->locked_by == NULL)
			continue;
		value = setting_print(&settings_table[i], from);
		if (origin->kind == ORIGIN_FILE) /* else it is the default, here as there */
			code = settings_assign(s, i, value, origin, err);
		if (code < 0)
			return code;
		s->origins[i].locked_by = copy_text(origin->locked_by);
	}
	return 0;
}

static int read_system_locks(struct settings *s, const char *system_path, struct error *err)
{
	struct settings *system = settings_new();
	int code = settings_parse_file(system, system_path, err);

	if (code == 0) {
		settings_lock(system);
		code = carry_locked(s, system, err);
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
	bool chosen = path != NULL && !same_file(path, system_path);
	int code = chosen ? read_system_locks(s, system_path, err) : 0;

	if (code == 0)
		code = settings_parse_file(s, chosen ? path : system_path, err);
	if (code == -ENOENT && path == NULL)
		return 0;
	if (code == 0)
		settings_lock(s);
	return code;
}

int settings_read_file(struct settings *s, const char *path, struct error *err)
{
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): before any other thread */
	const char *variable = getenv("STAGERUN_AGENT_CONFIG");

	if (path == NULL && variable != NULL && *variable != '\0')
		path = variable;
	return settings_read_files(s, path, SYSTEM_FILE, err);
}
