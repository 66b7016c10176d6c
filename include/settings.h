/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SETTINGS_H
#define STAGERUN_SETTINGS_H

#include "error.h"
#include "log.h"
#include "progress.h"
#include "text.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The agent's settings. Layers, from weakest to strongest: built-in default, agent.ini,
 * environment, config.yml, command line. The environment variable of a setting is
 * STAGERUN_<SECTION>_<KEY>, such as STAGERUN_NETWORK_CONNECTIONS; a few settings also have a
 * short name, such as STAGERUN_STORE.
 *
 * The table in agent/config/settings_table.c has one row for each setting: section, key, type,
 * default, unit, and a line of explanation. The parsers, agent.ini.example and --dry-run all use
 * it.
 *
 * A struct settings contains plain values only. The commands fill in the options of the other
 * modules from it (agent/command/agent_options.c).
 *
 * The loop thread reads the settings once, before any other thread starts. They are constant
 * after that, and every thread may read them. */

enum origin_kind { ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_ENV, ORIGIN_CONFIG, ORIGIN_OPTION };

/* The source of a value, as messages name it: "default", "/etc/stagerun/agent.ini:12",
 * "env STAGERUN_STORE", "config.yml:7", "--store". */
struct origin {
	enum origin_kind kind;
	char *where;     /* heap; NULL for the default */
	char *locked_by; /* heap: the file and line of the lock; NULL: not locked */
};

/* The effect of a failed hook: a warning, or the failure of the run. */
enum hook_policy { HOOK_WARNS, HOOK_FAILS };

/* How an entry of the node cache is delivered; AUTO: the first safe method that works. */
enum deliver {
	DELIVER_AUTO,
	DELIVER_BIND,
	DELIVER_SYMLINK,
	DELIVER_REFLINK,
	DELIVER_HARDLINK,
	DELIVER_COPY,
};

/* Where a request to S3 names the bucket; AUTO: in the host for AWS, else in the path. */
enum bucket_style { BUCKET_STYLE_AUTO, BUCKET_STYLE_PATH, BUCKET_STYLE_VIRTUAL };
/* Whether a request to S3 is signed; AUTO: if there are credentials. */
enum signing { SIGNING_AUTO, SIGNING_YES, SIGNING_NO };

/* Whether the agent stays as the command's parent instead of replacing itself with the command. */
enum supervise {
	SUPERVISE_AUTO, /* if the agent is PID 1, or if end actions or hooks have to run */
	SUPERVISE_ALWAYS,
	SUPERVISE_NEVER, /* a feature that needs a parent is then an error */
};

/* The receiver of forwarded signals; in the order of enum job_forward. */
enum forward { FORWARD_COMMAND, FORWARD_GROUP, FORWARD_NONE };

struct settings {
	/* [agent] */
	enum log_level log_level;
	enum log_format log_format;
	enum log_time log_time;
	enum progress_mode progress;
	uint64_t progress_interval_ms;
	uint64_t memory_budget;      /* bytes; 0: derived from the cgroup's limit */
	unsigned parallel_stages;    /* destinations that are staged concurrently */
	unsigned threads;            /* decoding threads; 0: the processors this process may use */
	char *termination_log;       /* file for the failure's reason, if it exists; "": none */
	struct strings secret_names; /* globs of variable names whose values are never printed */
	bool strict;                 /* unknown keys of config.yml are errors */
	struct strings lock;         /* keys ("network.ca_file") that later layers may not change */

	/* [network] */
	struct {
		unsigned connections;          /* for all hosts together */
		unsigned connections_per_host; /* for one host:port */
		uint64_t max_rate; /* bytes per second, summed over all downloads; 0: no limit */
		uint64_t range_min, range_max;  /* bytes of one ranged GET: at first, and at most */
		uint64_t connect_timeout_ms;    /* for TCP, TLS and proxy, each attempt */
		uint64_t first_byte_timeout_ms; /* from a request to the start of its response */
		uint64_t stall_timeout_ms;      /* for which no byte of a body arrives */
		uint64_t patience_ms;           /* for a host that has not answered yet; 0: none */
		unsigned retries; /* attempts after the first, for each range, without progress */
		uint64_t retry_base_ms, retry_max_ms; /* backoff: doubled each time, full jitter */
		char *ca_file;                        /* PEM; "": the system's */
		char *netrc_file;                     /* "": none */
		struct strings headers;               /* "URL-PREFIX NAME: VALUE" */
	} network;

	/* [limits], for one staged directory */
	struct {
		uint64_t max_bytes; /* of content; UINT64_MAX: no limit */
		uint64_t max_entries;
		uint64_t max_ratio; /* expanded bytes by compressed bytes; 0: no limit */
		unsigned max_path;  /* bytes of one name in an archive */
	} limits;

	/* [stage] */
	bool same_owner;
	bool keep_download;
	uint64_t lock_timeout_ms; /* wait for another agent; UINT64_MAX: no limit */
	char *zip_names;          /* a character set, or "" */
	char *owner;              /* "uid:gid" or ""; parsed into uid and gid */
	uid_t owner_uid;          /* (uid_t)-1: not set */
	gid_t owner_gid;

	/* [cache] */
	char *cache_dir;                         /* "": none */
	uint64_t cache_max_size, cache_min_free; /* 0: no limit */
	enum deliver cache_deliver;

	/* [store] */
	unsigned max_datastores; /* in the store; each version counts as one */
	char *store;             /* URL; "": none configured */
	uint64_t store_grace_ms; /* data of a deleted version stays this long for its readers */
	uint64_t register_ms;    /* a run protects its datastores from deletion this long; 0: no */

	/* [s3] */
	char *s3_endpoint, *s3_region, *s3_profile; /* "": from the environment, or detected */
	enum bucket_style s3_style;
	enum signing s3_sign;

	/* [actions] */
	char *shell;                /* path; "": bash when present, else sh */
	bool prefix_output;         /* put a prefix such as "[on_build 2] " before each line */
	uint64_t action_timeout_ms; /* 0: none */

	/* [hooks] */
	struct strings hook_dirs; /* in order; none: /etc/stagerun/hooks, if it exists */
	uint64_t hook_timeout_ms; /* 0: none */
	char *shell_options;      /* of actions: words passed to bash with -o; "": none */
	enum hook_policy on_stage_start, on_stage_end, on_experiment_start;

	/* [report] */
	uint64_t otlp_timeout_ms; /* for sending spans to a collector, before the command starts */

	/* [process] */
	enum supervise supervise;
	enum forward forward;
	uint64_t grace_period_ms; /* from SIGTERM to the end of the agent */
	uint64_t group_wait_ms;   /* wait for the rest of the command's process group */

	/* One for each row of the table, in the table's order; see settings_describe(). */
	struct origin *origins;
};

struct settings *settings_new(void);    /* with the built-in defaults */
void settings_free(struct settings *s); /* accepts NULL */

/* Reads agent.ini into s. If path is NULL, the file is $STAGERUN_AGENT_CONFIG, or else
 * /etc/stagerun/agent.ini if that exists. Logs a warning for an unknown key, with its line and
 * the nearest known key. Returns -ERR_CONFIG, with file and line, for a wrong value.
 *
 * A value may have any length and extends to the end of its line: a ';' inside it does not start
 * a comment. A line that repeats the key of a list, or that is indented below it, appends to the
 * list; a stronger layer replaces the list.
 *
 * "lock = network.ca_file, limits.*" prevents changes by the stronger layers. The locks in
 * /etc/stagerun/agent.ini, and the values of the locked keys there, are in force even if path
 * names another file: setting such a key in that file is an error. */
int settings_read_file(struct settings *s, const char *path, struct error *err);

/* Reads the STAGERUN_* variables of this process. An empty variable counts as unset; a list has
 * one item per line. Logs a warning for a name that begins like a setting's and is not one. */
int settings_read_environment(struct settings *s, struct error *err);

/* Reads one variable of this process, such as STAGERUN_CONFIG, which is not a setting. *ret is a
 * heap string cleaned by text_clean_value() (text.h; allowed is passed on), or NULL if the
 * variable is unset or empty. Only before any other thread starts. */
int settings_variable_read(const char *name, const char *allowed, char **ret, struct error *err);

/* Sets one value from the command line or config.yml. key is "section.key"; where ("--store") is
 * for messages. Calls of the same kind append to a list. Returns -ERR_CONFIG if the value is
 * wrong (-ERR_USAGE on the command line) or if the setting is locked; the message then names the
 * lock. */
int settings_set(struct settings *s, const char *key, const char *value, enum origin_kind kind,
	const char *where, struct error *err);

/* To be called after the last layer. Returns -ERR_CONFIG for values that contradict each other
 * (range_min above range_max); the message names the origin of both. */
int settings_check(const struct settings *s, struct error *err);

/* Calls row() for each setting in the table's order, with its key ("network.connections"), its
 * value as text (headers and other secrets redacted) and its origin. */
void settings_describe(const struct settings *s,
	void (*row)(void *ctx, const char *key, const char *value, const char *origin), void *ctx);

/* The text of agent.ini.example: every key, commented out, with its default, unit and
 * explanation. Heap; the caller frees it. */
char *settings_example(void);

/* Whether the value of the variable name must not be printed. That is the case if the name
 * matches *TOKEN*, *SECRET*, *PASSWORD* or *KEY* without regard to case and does not end in
 * _FILE, _PATH or _DIR, or if it matches a glob of secret_names. s may be NULL: then only the
 * fixed globs apply. */
bool settings_is_secret(const struct settings *s, const char *name);
/* As settings_is_secret(), for a known value: an absolute path is not a secret, unless the name
 * matches secret_names. */
bool settings_is_secret_value(const struct settings *s, const char *name, const char *value);

/* Registers with redact.h the secret values among the NAME=VALUE strings of env, and the user and
 * password of values that are URLs, such as proxies. env may be NULL. If s is NULL, because the
 * settings are not known yet, only the fixed globs apply; otherwise the user and password of the
 * URLs in s are registered too. */
void settings_hide_secrets(const struct settings *s, char *const *env);

#endif
