/* SPDX-License-Identifier: MIT */
/* Settings from STAGERUN_<SECTION>_<KEY>, and a warning for names that look so and are none. */
#include "defer.h"
#include "settings_table.h"
#include <ctype.h>
#include <string.h>

#define PREFIX "STAGERUN_"

/* Ours, begins like a setting of [agent], and is none. */
#define AGENT_FILE_VARIABLE "STAGERUN_AGENT_CONFIG"

static char *variable_name(const char *section, const char *key)
{
	char *name = format_text(PREFIX "%s_%s", section, key);

	for (char *p = name; *p != '\0'; p++)
		*p = (char)toupper((unsigned char)*p);
	return name;
}

static const char *value_of(const char *name)
{
	const char *value;

	if (name == NULL)
		return NULL;
	value = getenv(name); /* NOLINT(concurrency-mt-unsafe): before any other thread */
	return value != NULL && *value != '\0' ? value : NULL;
}

/* A copy of "NAME=VALUE" up to the '='. */
static char *name_of(const char *variable)
{
	return format_text("%.*s", (int)strcspn(variable, "="), variable);
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
		_free_ char *name = name_of(*variable);
		const char *nearest;

		if (!begins_as_setting(name) || is_known(name, known))
			continue;
		nearest = nearest_word(name, (const char *const *)known->v, known->n);
		log_warn("env %s: there is no such setting%s%s%s", name,
			nearest != NULL ? "; did you mean " : "", nearest != NULL ? nearest : "",
			nearest != NULL ? "?" : "");
	}
}

static int read_row(struct settings *s, size_t i, const char *name, struct error *err)
{
	const char *alias = settings_table[i].short_env;
	const char *used = value_of(name) != NULL ? name : alias;
	_free_ char *where = NULL;

	if (value_of(used) == NULL)
		return 0;
	where = format_text("env %s", used);
	return settings_assign(
		s, i, value_of(used), &(struct origin){.kind = ORIGIN_ENV, .where = where}, err);
}

int settings_read_environment(struct settings *s, struct error *err)
{
	struct strings known = {0};
	int code = 0;

	for (size_t i = 0; i < settings_count && code == 0; i++) {
		_free_ char *name = variable_name(settings_table[i].section, settings_table[i].key);

		code = read_row(s, i, name, err);
		strings_add(&known, name);
	}
	if (code == 0)
		warn_of_unknown(&known);
	strings_done(&known);
	return code;
}
