/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_OPTIONS_H
#define STAGERUN_OPTIONS_H

#include "error.h"
#include "settings.h"
#include "stage.h"
#include "text.h"
#include <stdbool.h>
#include <stdio.h>

/* Command lines and output: what all commands need. Loop thread, except where noted.
 *
 *   options.c  parses a command line by tables of rows, and prints the help from them
 *   request.c  the rows of all commands, the request that they fill, and the settings it leads to
 *   output.c   tables for people, JSON for programs, the end of standard output */

/* --- options.c --- */

/* A row is "--name VALUE", "--name=VALUE" or, without a metavar, a switch; '_' and '-' in names are
 * the same. Options end at "--" or at the first word that is no option. */

/* What an option does to the structure that it is read into. */
enum option_kind {
	OPTION_FLAG,    /* sets a bool */
	OPTION_TEXT,    /* stores the value, which is borrowed from argv, in a const char * */
	OPTION_LIST,    /* appends a copy of the value to a struct strings */
	OPTION_SETTING, /* overrides a setting of agent.ini; of a struct request only */
};

/* In the order of a row as it is written.
 * NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct option_row {
	const char *name;    /* "config"; NULL ends a table */
	char letter;         /* 'v', or 0 */
	const char *metavar; /* "FILE"; NULL: a switch */
	const char *help;
	/* Stores a value of none of the kinds; NULL: kind decides. value is NULL for a switch, and
	 * else valid as long as argv. Returns 0 or -ERR_USAGE. */
	int (*set)(void *into, const char *value, struct error *err);
	enum option_kind kind;
	size_t offset;       /* of the member; not of a setting */
	const char *setting; /* "network.max_rate" */
	const char *value;   /* which a switch gives to the setting */
};

/* tables: NULL-terminated. *ret_rest: the index of the first word that was not parsed. Returns 0 or
 * -ERR_USAGE. */
int options_parse(int argc, char **argv, const struct option_row *const *tables, void *into,
	int *ret_rest, struct error *err);

/* The same, for commands that do not run another command: options may also follow words. All words
 * are added to *ret_words. */
int options_parse_all(int argc, char **argv, const struct option_row *const *tables, void *into,
	struct strings *ret_words, struct error *err);

/* Prints a line for each row to stdout. */
void options_print(const struct option_row *const *tables);

/* --- request.c --- */

/* The parsed command line: one struct for all commands, each of which offers the rows that it
 * supports. const char * members are borrowed from argv; request_done() frees the rest. */

/* A setting from the command line. All members are borrowed: from the row and from argv. */
struct override {
	const char *key, *value; /* "network.max_rate", "50M" */
	const char *option;      /* its name without dashes: "max-rate" */
};

struct request {
	const char *config;         /* NULL: $STAGERUN_CONFIG, else none */
	const char *agent_config;   /* NULL: as settings_read_file() says */
	struct override *overrides; /* in order */
	size_t n_overrides;
	bool dry_run, help;
	struct strings reports;      /* of `run` */
	bool replace;                /* for everything that a run stages */
	const char *dependency_file; /* NULL: config.yml's, if any */

	struct stage_spec *stages; /* --stage, in order */
	size_t n_stages;
	struct stage_spec fetch; /* options of `fetch` for its single stage */
	const char *sha256;
	struct strings datastores; /* NAME[:VERSION][=DIR] */
	const char *datastore_name, *datastore_version,
		*datastore_mount_dir; /* one datastore, as options of Grid */

	struct strings lists;
	/* Of `prewarm`, which also uses json, as a dry run of `run` does. */
	uint64_t keep_fresh_ms; /* 0: once */
	bool refresh, low_priority, cache_only;
	const char *metrics_file; /* NULL: none */

	/* Of `datastore ...`, which also uses fetch.no_extract, .include, .exclude and .replace. */
	const char *name, *role;
	bool join;
	bool extract, no_copy, dereference;
	bool json, force, yes;

	/* Of `cache ...`. */
	bool deep;
	uint64_t evict_to; /* bytes; UINT64_MAX: use the settings */
};

extern const struct option_row common_rows[];  /* log, progress, agent.ini, help */
extern const struct option_row config_rows[];  /* config.yml */
extern const struct option_row run_rows[];     /* stages, lists, dry run */
extern const struct option_row plan_rows[];    /* run's dry run */
extern const struct option_row command_rows[]; /* what only a run with a command needs */
extern const struct option_row rate_rows[];    /* the limit of the downloads */
extern const struct option_row report_rows[];  /* run's reports */
extern const struct option_row prewarm_rows[]; /* prewarm's own */
extern const struct option_row fetch_rows[];   /* the options of one stage */
extern const struct option_row select_rows[];  /* include, exclude */
extern const struct option_row store_rows[];   /* the store */
/* Of `datastore ...`. */
extern const struct option_row create_rows[], get_rows[], delete_rows[], purge_rows[],
	policy_rows[], json_rows[];

/* Of `cache ...`. */
extern const struct option_row cache_rows[], evict_rows[], verify_rows[];

/* Stores the setting of a row of the kind OPTION_SETTING until request_settings(). */
void request_override(struct request *r, const struct option_row *row, const char *value);

void request_done(struct request *r);

/* Reads agent.ini, the environment and the request's overrides, in this order, and sets up the log.
 * The caller frees *ret with settings_free(). Returns 0 or a negative code. */
int request_settings(const struct request *r, struct settings **ret, struct error *err);

/* --- output.c --- */

/* A table for people; each column is as wide as its widest cell. */

struct table {
	const char *headings; /* "NAME >FILES": those with '>' are aligned to the right */
	struct strings cells; /* row by row */
};

void output_table_add(struct table *t, const char *cell);
void output_table_addf(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void output_table_print(const struct table *t, FILE *to);
void output_table_done(struct table *t);

/* Appends s. For a terminal, control bytes become \xNN, so that a name cannot send control
 * sequences to it. Any thread. */
void output_add_shown(struct text *to, const char *s, bool terminal);
/* Appends a member of the object whose '{' is in to. value NULL: appends nothing. This and the
 * functions below: any thread. */
void output_json_text(struct text *to, const char *key, const char *value);
void output_json_number(struct text *to, const char *key, uint64_t value);
void output_json_bool(struct text *to, const char *key, bool value);

#endif
