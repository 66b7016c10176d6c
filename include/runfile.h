/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_RUNFILE_H
#define STAGERUN_RUNFILE_H

#include "error.h"
#include "stage.h"
#include "text.h"
#include <stdbool.h>
#include <stdint.h>

/* The run's config.yml (Grid's format): parsed strictly for what is known, with a warning for keys
 * that are not; but an unknown key in an action's map, its stage: map or an item of datastores: is an
 * error, as a misspelt sha256 must not pass. Errors name file, line and column. Loop thread, before
 * any other thread starts.
 *
 * Strings hold "${VAR}" as written; runfile_expand() expands them when they are used. */

/* Lifecycle points: name, older name (or NULL), whether `stagerun hook` runs it at image build. */
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

const char *lifecycle_point_name(enum lifecycle_point p);
int lifecycle_point_parse(const char *name, enum lifecycle_point *ret, struct error *err);

enum action_kind { ACTION_RUN, ACTION_STAGE };

struct action {
	enum action_kind kind;
	unsigned number;     /* 1, 2, ... within its point */
	unsigned line;       /* in config.yml */
	char *script;        /* ACTION_RUN */
	uint64_t timeout_ms; /* ACTION_RUN; 0: the setting's */
	unsigned retries;    /* ACTION_RUN: further tries after the first */
	struct stage_spec
		stage; /* ACTION_STAGE: one source, "datastore:NAME[:VERSION]" for a datastore */
	char *shard_rank,
		*shard_world; /* ACTION_STAGE: numbers or "${VAR}"; both NULL: all of it */
};

struct actions {
	struct action *v;
	size_t n;
};

struct datastore_ref {
	char *name;      /* may be "user:name" */
	char *version;   /* NULL: newest */
	char *mount_dir; /* without a slash at its end; NULL: /datastores/<name> */
	unsigned line;
};

/* "NAME[:VERSION][=DIR]", where NAME may be "user:name": after a single ':', what is a number (or holds
 * a ${VAR}) is a version. -ERR_USAGE. */
int datastore_ref_parse(const char *arg, struct datastore_ref *ret, struct error *err);
void datastore_ref_done(struct datastore_ref *d);

/* Without the user of "user:name". */
const char *datastore_ref_plain_name(const char *name);
/* Makes "datastore:NAME[:VERSION]" of *url if it is "datastore:[USER:]NAME[:VERSION]" or the same with
 * "grid:"; other sources stay. Replaces *url. -ERR_USAGE. */
int datastore_source(char **url, struct error *err);

struct scratch {
	uint64_t size_bytes; /* size_gb, in units of 1024^3; 0: no limit */
	char *mount_path;    /* /tmp/scratch when not said */
	unsigned line;
};

struct runfile {
	char *path;                  /* as given, for messages */
	struct strings environment;  /* "NAME=VALUE", in order */
	unsigned *environment_lines; /* of each of these */
	struct datastore_ref *datastores;
	size_t n_datastores;
	struct scratch *scratch;
	size_t n_scratch;
	char *dependency_file, *package_manager; /* NULL when absent */
	unsigned dependency_line;                /* where the file is named */
	struct actions actions[POINT_COUNT];
	/* Words appended to the command: "--foo", "1"; of a null value only the key. */
	struct strings params;
	unsigned params_line; /* where they are; 0: there are none */
};

/* -ERR_CONFIG with "FILE:LINE:COLUMN: ..." . At most 1 MiB of YAML, 100,000 nodes after aliases,
 * depth 100. */
int runfile_read(const char *path, struct runfile **ret, struct error *err);
/* The same from memory; name is for messages. */
int runfile_parse(
	const char *name, const char *bytes, size_t len, struct runfile **ret, struct error *err);
void runfile_free(struct runfile *r); /* accepts NULL */

/* What an ACTION_STAGE stages: a copy with the "${VAR}" of its source, directory and shard expanded, when the
 * item's turn has come and not when config.yml is read. */
int runfile_stage(const struct action *a, const char *(*lookup)(void *ctx, const char *name),
	void *ctx, struct stage_spec *ret, struct error *err);

/* Below a scratch directory, its size_gb is the stage's limit. s->to is expanded. */
void runfile_limit_stage(const struct runfile *r, struct stage_spec *s);

/* Expands "${NAME}" from lookup(); "$NAME" and "$" stay. An undefined one is -ERR_CONFIG, as is any
 * other "${...}". What lookup() gives is not expanded again. */
int runfile_expand(const char *s, const char *(*lookup)(void *ctx, const char *name), void *ctx,
	char **ret, struct error *err);

#endif
