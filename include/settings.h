/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SETTINGS_H
#define STAGERUN_SETTINGS_H

#include "cache.h"
#include "error.h"
#include "log.h"
#include "s3.h"
#include "text.h"
#include "transfer.h"
#include "tree.h"
#include <stdbool.h>

/* The agent's settings: built-in default < agent.ini < environment (STAGERUN_<SECTION>_<KEY>, such as
 * STAGERUN_NETWORK_CONNECTIONS; the short names of DESIGN such as STAGERUN_STORE where the table has
 * one) < command line. One table in agent/config/settings.c has a row for each: section, key, type,
 * default, unit, one line of explanation; agent.ini.example, --dry-run and the parser come from it.
 *
 * Read once by the loop thread before any other thread starts; then constant. */

enum origin_kind { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENV, ORIGIN_CONFIG, ORIGIN_OPTION };

/* Where a value came from: "default", "/etc/stagerun/agent.ini:12", "env STAGERUN_STORE",
 * "config.yml:7", "--store". */
struct origin {
	enum origin_kind kind;
	char *where;     /* heap; NULL for the default */
	char *locked_by; /* heap: where the lock is written; NULL: not locked */
};

/* What a hook that failed does to the run. */
enum hook_policy { HOOK_WARNS, HOOK_FAILS };

/* When the agent stays as the command's parent. */
enum supervise {
	SUPERVISE_AUTO, /* when something has to be done after it, or as PID 1 */
	SUPERVISE_ALWAYS,
	SUPERVISE_NEVER, /* never: what would need it is an error */
};

enum forward { FORWARD_COMMAND, FORWARD_GROUP }; /* whom a signal to the agent goes to */

struct settings {
	/* [agent] */
	enum log_level log_level;
	enum log_format log_format;
	bool progress;               /* live lines on a terminal */
	uint64_t memory_budget;      /* bytes; 0: from the cgroup */
	unsigned parallel_stages;    /* stages at once */
	unsigned threads;            /* decoding threads; 0: the processors this process may use */
	char *termination_log;       /* file for the reason; "" or absent file: none */
	struct strings secret_names; /* globs of variable names whose values are never printed */
	struct strings lock;         /* keys ("network.ca_file") that later layers may not change */

	/* [network] */
	struct transfer_options network; /* its strings point into the next three */
	char *ca_file, *netrc_file;
	struct strings headers;
	uint64_t max_rate; /* bytes a second, all downloads together; 0: no limit */

	/* [limits] */
	struct tree_limits limits;

	/* [stage] */
	bool same_owner;
	bool keep_download;
	char *owner;     /* "uid:gid" or ""; parsed into uid and gid */
	uid_t owner_uid; /* (uid_t)-1: not set */
	gid_t owner_gid;

	/* [cache] */
	char *cache_dir;                         /* "": none */
	uint64_t cache_max_size, cache_min_free; /* 0: no limit */
	enum cache_delivery cache_deliver;

	/* [store] */
	unsigned max_datastores; /* every version counts */
	char *store;             /* URL; "": none configured */
	uint64_t store_grace_ms; /* readers of a deleted version have this long */
	uint64_t register_ms;    /* a run keeps what it attached from deletion this long; 0: not */

	/* [s3] */
	char *s3_endpoint, *s3_region, *s3_profile; /* "": from the environment, or found */
	enum s3_style s3_style;
	enum s3_sign s3_sign;

	/* [actions] */
	char *shell;                /* path; "": bash when present, else sh */
	bool prefix_output;         /* "[action 2] " before each line */
	uint64_t action_timeout_ms; /* 0: none */

	/* [hooks] */
	struct strings hook_dirs; /* in order; none: /etc/stagerun/hooks, if it is there */
	uint64_t hook_timeout_ms; /* 0: none */
	enum hook_policy on_stage_start, on_stage_end, on_experiment_start;

	/* [process] */
	enum supervise supervise;
	enum forward forward;
	uint64_t grace_period_ms; /* from SIGTERM to the end of everything */
	uint64_t group_wait_ms;   /* what the command leaves in its group has this long to end */

	/* One for each row of the table, in its order; see settings_describe(). */
	struct origin *origins;
};

struct settings *settings_new(void);    /* the built-in defaults */
void settings_free(struct settings *s); /* accepts NULL */

/* Reads agent.ini into s. path NULL: $STAGERUN_AGENT_CONFIG, else /etc/stagerun/agent.ini if it is
 * there. Unknown keys are warned about, with line and nearest known key; wrong values are -ERR_CONFIG
 * with file and line.
 *
 * Values may be of any length and are taken whole: a ';' inside one begins no comment. A list grows
 * with each line that repeats its key or, indented, continues it; a higher layer replaces it.
 *
 * "lock = network.ca_file, limits.*" binds the layers above the file. The locks of
 * /etc/stagerun/agent.ini, and its values of what they lock, hold even when path names another file:
 * setting such a key there is an error. */
int settings_read_file(struct settings *s, const char *path, struct error *err);

/* The STAGERUN_* variables of this process; an empty one counts as absent, lists are one item a line.
 * Warns about names that begin as a setting's would and are none. */
int settings_read_environment(struct settings *s, struct error *err);

/* One value from the command line or config.yml: key is "section.key", where is for messages
 * ("--store"). A list grows with each call of the same kind. -ERR_CONFIG when it is locked (by whom)
 * or wrong. */
int settings_set(struct settings *s, const char *key, const char *value, enum origin_kind kind,
	const char *where, struct error *err);

/* After the last layer: -ERR_CONFIG for values that contradict each other (range_min above range_max),
 * naming where both came from. */
int settings_check(const struct settings *s, struct error *err);

/* Calls row() for each setting in the table's order: key "network.connections", its value as text
 * (headers and other secrets redacted), where it came from. */
void settings_describe(const struct settings *s,
	void (*row)(void *ctx, const char *key, const char *value, const char *origin), void *ctx);

/* agent.ini.example: every key commented out with its default, unit and explanation. */
char *settings_example(void);

/* Whether the variable name's value must not be printed: matches *TOKEN*, *SECRET*, *PASSWORD*, *KEY*
 * without regard to case, or a glob of secret_names. */
bool settings_is_secret(const struct settings *s, const char *name);

/* Hides (redact.h) the values of the secret ones among NAME=VALUE strings; env may be NULL. s NULL:
 * by the fixed globs alone, while the settings are not known yet. */
void settings_hide_secrets(const struct settings *s, char *const *env);

#endif
