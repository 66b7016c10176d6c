/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CONFIG_SETTINGS_TABLE_H
#define STAGERUN_CONFIG_SETTINGS_TABLE_H

#include "settings.h"
#include <stddef.h>

/* The settings, internally: a table with one row for each setting, from which everything else is
 * derived. A new setting is a field in struct settings and a row in settings_table[].
 *
 *   settings_table.c  the rows, finding a row by name, values to text and back by type
 *   settings.c        defaults, assignment, locks, agent.ini, environment, --dry-run, the example,
 *                     secrets
 *
 * Only the loop thread changes a struct settings, before any other thread starts. */

enum setting_type {
	SETTING_BOOL,     /* bool */
	SETTING_UINT,     /* unsigned */
	SETTING_COUNT,    /* uint64_t, no suffix */
	SETTING_SIZE,     /* uint64_t, bytes */
	SETTING_DURATION, /* uint64_t, milliseconds */
	SETTING_ENUM,     /* an enum whose values are the indexes of choices */
	SETTING_TEXT,     /* char *, never NULL */
	SETTING_WORDS,    /* struct strings, separated by commas or white space */
	SETTING_LINES,    /* struct strings, one per line */
};

/* The members are in the order in which a row is written. */
/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct setting {
	const char *section, *key;
	enum setting_type type;
	size_t offset;              /* of the field in struct settings */
	const char *initial;        /* the default, as agent.ini would spell it */
	const char *help;           /* one line */
	const char *unit;           /* description of a value; of numbers optional */
	uint64_t min, max;          /* of numbers, inclusive; max 0: no limit */
	const char *zero;           /* the word for 0, which is then valid even below min */
	bool zero_is_max;           /* 0 is stored as UINT64_MAX */
	const char *unlimited;      /* the word for UINT64_MAX, if 0 has its own meaning */
	const char *const *choices; /* NULL-terminated */
	/* "yes" and "no" for the first and the last of choices, as the setting was once a bool */
	bool was_bool;
	const char *short_env; /* a second, shorter environment variable; NULL: none */
	bool file_only;        /* rejected outside agent.ini */
	/* Validates a text that is not empty, or each item of a list. NULL: all are valid. */
	int (*check)(const char *value, struct error *err);
	/* Returns the printable form of a text, or of one line of a list; heap. NULL: as it is. */
	char *(*redact)(const char *value);
};

extern const struct setting settings_table[];
extern const size_t settings_count;

/* --- settings_table.c --- */

/* The index of a row, or -1. */
int settings_find(const char *section, const char *key);

/* --- settings_table.c: values by type --- */

/* Parses value and stores it in the row's field. If append, adds the items of a list instead of
 * replacing the list. On failure, the field is unchanged. */
int setting_parse(const struct setting *row, struct settings *s, const char *value, bool append,
	struct error *err);
/* The field's value as text that setting_parse() accepts; heap. Not redacted. */
char *setting_print(const struct setting *row, const struct settings *s);
/* The description of valid values in agent.ini.example, such as "yes or no"; heap. */
char *setting_describe_type(const struct setting *row);
void setting_clear(const struct setting *row, struct settings *s); /* frees the field's memory */

/* --- settings.c: agent.ini --- */

/* As settings_read_file(), with both paths as arguments. If path is NULL, reads system_path if
 * that exists. */
int settings_read_files(
	struct settings *s, const char *path, const char *system_path, struct error *err);
/* Reads one agent.ini without applying its locks. -ENOENT if it does not exist. */
int settings_parse_file(struct settings *s, const char *path, struct error *err);

/* --- settings.c --- */

/* Locks each setting that a glob in s->lock matches. Logs a warning for a glob without a match. */
void settings_lock(struct settings *s);
/* Parses "uid:gid", two numbers. err may be NULL. */
int settings_parse_owner(const char *s, uid_t *ret_uid, gid_t *ret_gid, struct error *err);

#endif
