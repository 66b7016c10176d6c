/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RUNFILE_H
#define STAGERUN_RUNFILE_H

#include "datastore_ref.h"
#include "error.h"
#include "text.h"
#include <stdbool.h>
#include <stdint.h>

/* The run's config.yml (Grid's format). Known keys are parsed strictly; an unknown key is a
 * warning that says what will not happen, or with strict an error. In the map of an action, in its
 * stage: map and in an item of datastores:, an unknown key is always an error, because a misspelt
 * sha256 must not be ignored. Errors name file, line and column.
 *
 * The strings contain "${VAR}" as it was written; runfile_expand() expands it when a string is
 * used.
 *
 * config.yml is read on the loop thread, before any other thread starts. */

/* Lifecycle points: name, older name (or NULL), and whether `stagerun hook` runs the point while
 * an image is built. */
#define LIFECYCLE_POINTS(X) \
	X(POINT_BUILD_START, "on_build_start", "on_image_build", true) \
	X(POINT_BUILD, "on_build", NULL, true) \
	X(POINT_BUILD_END, "on_build_end", NULL, true) \
	X(POINT_EXPERIMENT_START, "on_experiment_start", "on_before_training_start", false) \
	X(POINT_EXPERIMENT_END, "on_experiment_end", "on_after_training_end", false)

enum lifecycle_point {
#define X(id, name, older, build) id,
	LIFECYCLE_POINTS(X)
#undef X
		POINT_COUNT
};

const char *runfile_point_name(enum lifecycle_point p);
/* Accepts the name and the older name. -ERR_USAGE for any other. */
int runfile_point_parse(const char *name, enum lifecycle_point *ret, struct error *err);

enum action_kind { ACTION_RUN, ACTION_STAGE };

/* The stage: map of an action. agent_stage_spec() makes a spec of it. */
struct action_stage {
	/* One URL, path or "datastore:NAME[:VERSION]"; with join, the parts of a split file in
	 * order, none of which is empty or contains a line feed. */
	struct strings sources;
	bool join;
	char *sha256; /* 64 lower-case hexadecimal digits, or NULL */
	char *to;     /* the destination directory; for runfile_expand_path() */
	struct strings include, exclude;
	unsigned strip_components;
	char *zip_names; /* NULL: as in the settings */
	bool no_extract, replace;
	char *shard_rank, *shard_world; /* numbers or "${VAR}"; both NULL: everything */
	char *origin;                   /* for messages: "config.yml:12" */
};

struct action {
	enum action_kind kind;
	unsigned number;           /* from 1, within its point */
	unsigned line;             /* in config.yml */
	char *script;              /* ACTION_RUN */
	uint64_t timeout_ms;       /* ACTION_RUN; 0: as in the settings */
	unsigned retries;          /* ACTION_RUN: attempts after the first */
	struct action_stage stage; /* ACTION_STAGE */
};

struct actions {
	struct action *v;
	size_t n;
};

struct scratch {
	uint64_t size_bytes; /* size_gb, in units of 1024^3; 0: no limit */
	char *mount_path;    /* default: /tmp/scratch */
	unsigned line;
};

struct runfile {
	char *path;                  /* as it was passed, for messages */
	struct strings environment;  /* "NAME=VALUE", in order */
	unsigned *environment_lines; /* the line of each variable */
	struct datastore_ref *datastores;
	size_t n_datastores;
	struct scratch *scratch;
	size_t n_scratch;
	char *dependency_file, *package_manager; /* NULL when absent */
	unsigned dependency_line;                /* the line of dependency_file */
	struct actions actions[POINT_COUNT];
	/* Words appended to the command: "--foo", "1". A null value adds only its key. */
	struct strings params;
	unsigned params_line; /* 0: there are none */
};

/* Reads the file. At most 1 MiB of YAML, 100,000 nodes (each alias counted as a copy of its
 * target) and 100 levels. -ERR_CONFIG, with "FILE:LINE:COLUMN: ..." where the position is known,
 * or the -errno of open() or read(). strict: an unknown key, and actions in the wrong place, are
 * errors. The caller frees *ret with runfile_free(). */
int runfile_read(const char *path, bool strict, struct runfile **ret, struct error *err);
/* As runfile_read() without strict, from memory; name is for messages. */
int runfile_parse(
	const char *name, const char *bytes, size_t len, struct runfile **ret, struct error *err);
void runfile_free(struct runfile *r); /* accepts NULL */

/* As runfile_expand() below, but also replaces "$NAME", as in a shell. */
int runfile_expand_path(const char *s, const char *(*lookup)(void *ctx, const char *name),
	void *ctx, char **ret, struct error *err);

/* Replaces each "${NAME}" in s by the value that lookup() returns; "$NAME" and "$" are not
 * changed, and a value is not expanded again. -ERR_CONFIG if lookup() returns NULL, and for any
 * other "${...}". *ret: heap. */
int runfile_expand(const char *s, const char *(*lookup)(void *ctx, const char *name), void *ctx,
	char **ret, struct error *err);

#endif
