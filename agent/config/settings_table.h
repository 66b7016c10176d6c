/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CONFIG_SETTINGS_TABLE_H
#define STAGERUN_CONFIG_SETTINGS_TABLE_H

#include "settings.h"
#include <stddef.h>

/* What the files of the settings share: the table, and what its types can do. */

enum setting_type {
	SETTING_BOOL,     /* bool */
	SETTING_UINT,     /* unsigned */
	SETTING_COUNT,    /* uint64_t, no suffix */
	SETTING_SIZE,     /* uint64_t, bytes */
	SETTING_DURATION, /* uint64_t, milliseconds */
	SETTING_ENUM,     /* an enum: the index into choices */
	SETTING_TEXT,     /* char *, never NULL */
	SETTING_WORDS,    /* struct strings, separated by commas and white space */
	SETTING_LINES,    /* struct strings, one a line */
};

/* In the order in which a row is read. NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct setting {
	const char *section, *key;
	enum setting_type type;
	size_t offset;              /* into struct settings */
	const char *initial;        /* the default, as it would be written in agent.ini */
	const char *help;           /* one line */
	const char *unit;           /* what a value is, where the type does not say it */
	uint64_t min, max;          /* of numbers; max 0: no limit */
	const char *zero;           /* the word for 0, which min does not exclude */
	bool zero_is_max;           /* 0 is stored as UINT64_MAX */
	const char *const *choices; /* NULL-terminated */
	const char *short_env;
	bool file_only; /* means nothing in the layers above agent.ini */
	/* Of a text that is not empty, or of each line. */
	int (*check)(const char *value, struct error *err);
	/* What may be printed of a text or line; heap. */
	char *(*redact)(const char *value);
};

extern const struct setting settings_table[];
extern const size_t settings_count;

/* The index of a row, or -1. */
int settings_find(const char *section, const char *key);
/* The nearest key of the section, as nearest_word(). */
const char *settings_nearest_key(const char *section, const char *key);
const char *settings_nearest_section(const char *section);

/* Takes one value for row i, whoever gives it; see settings_set(). */
int settings_assign(struct settings *s, size_t i, const char *value, const struct origin *from,
	struct error *err);

/* Locks every setting that s->lock names. Warns about names that match none. */
void settings_lock(struct settings *s);

/* settings_read_file() with its places given: path NULL: system_path, if it is there. */
int settings_read_files(
	struct settings *s, const char *path, const char *system_path, struct error *err);

/* One agent.ini, without its locks. -ENOENT when it is not there. */
int settings_parse_file(struct settings *s, const char *path, struct error *err);

/* Reads value into the row's field; lists grow when append. Untouched on failure. */
int setting_parse(const struct setting *row, struct settings *s, const char *value, bool append,
	struct error *err);
/* The field's value as setting_parse() reads it; heap. Not redacted. */
char *setting_print(const struct setting *row, const struct settings *s);
/* What a value is, for the reader of agent.ini.example: "yes or no"; heap. */
char *setting_describe_type(const struct setting *row);
void setting_clear(const struct setting *row, struct settings *s); /* frees what the field owns */

/* A uid and a gid out of "uid:gid". */
int settings_parse_owner(const char *s, uid_t *ret_uid, gid_t *ret_gid, struct error *err);

#endif
