/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REQUEST_H
#define STAGERUN_REQUEST_H

#include "options.h"
#include "settings.h"
#include "stage.h"
#include "text.h"
#include <stdbool.h>

/* What the command line asked for: one struct for all commands, each of which offers the rows it
 * understands. */

struct override {
	const char *key, *value, *option; /* a setting from the command line */
};

struct request {
	const char *config;       /* NULL: $STAGERUN_CONFIG, else none */
	const char *agent_config; /* NULL: as settings_read_file() says */
	struct override overrides[16];
	size_t n_overrides;
	bool dry_run, help;
	const char *dependency_file; /* NULL: config.yml's, if any */

	struct stage_spec *stages; /* --stage, in order */
	size_t n_stages;
	struct stage_spec fetch; /* options of `fetch` that shape its one stage */
	const char *sha256;
	struct strings datastores; /* NAME[:VERSION][=DIR] */
	const char *datastore_name, *datastore_version,
		*datastore_mount_dir; /* one, as Grid has it */

	/* Of `prewarm`; and json. */
	struct strings lists;
	uint64_t keep_fresh_ms; /* 0: once */
	bool refresh, low_priority, cache_only;

	/* Of `datastore ...`. */
	const char *name, *role;
	bool extract, no_copy, dereference; /* and fetch.no_extract, .include, .exclude, .replace */
	bool json, force, yes;

	/* Of `cache ...`. */
	bool deep;
	uint64_t evict_to; /* UINT64_MAX: as the settings say */
};

extern const struct option_row common_rows[];  /* log, progress, agent.ini, help */
extern const struct option_row config_rows[];  /* config.yml */
extern const struct option_row run_rows[];     /* stages, dry run */
extern const struct option_row prewarm_rows[]; /* prewarm's own */
extern const struct option_row fetch_rows[];   /* the options of one stage */
extern const struct option_row select_rows[];  /* include, exclude */
extern const struct option_row store_rows[];   /* the store */
/* Of `datastore ...`. */
extern const struct option_row create_rows[], get_rows[], delete_rows[], purge_rows[],
	policy_rows[], json_rows[];

/* Of `cache ...`. */
extern const struct option_row cache_rows[], evict_rows[], verify_rows[];

/* A setting from an option, which is kept until request_settings(). Returns 0. */
int request_override(struct request *r, const char *key, const char *value, const char *option);
void request_done(struct request *r);

/* Reads agent.ini, the environment and the request's overrides, in this order, and sets up the log.
 */
int request_settings(const struct request *r, struct settings **ret, struct error *err);

#endif
