/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DRY_RUN_H
#define STAGERUN_DRY_RUN_H

#include "outlook.h"
#include "run.h"

/* A dry run: what a run or a prewarm would do, and whether it would work. Nothing is changed.
 *
 *   dry_run.c       the plan for people, and the command
 *   dry_run_ask.c   asks the sources, looks at destinations, cache, dependencies and command
 *   dry_run_json.c  the plan for programs */

struct dry_run {
	/* Borrowed. */
	const struct request *request;
	const struct plan *plan;
	const struct hooks *hooks;
	const struct settings *settings;

	/* Set by dry_run_ask(). */
	struct outlook *outlook; /* NULL: nothing is staged */
	char *store, *s3;        /* which are used, with the credentials; NULL: none */
	char *cache;             /* the node cache that is used; NULL: none */
	char *cache_why;         /* why there is none although it is configured; or NULL */
	char *dependencies;      /* the command that installs them; NULL: none */
	struct error dependencies_err;
	char *command;    /* the path of the program; NULL: there is none, yet */
	int command_code; /* 0, 127 or 126 */
	struct error command_err;
	const char *bringer;     /* of the command, or of PATH; see command_check_bringer() */
	struct strings problems; /* a sentence for each; none: all would do */
};

/* Returns 0, or 128+n after signal n; then other threads may still use d. */
int dry_run_ask(struct dry_run *d, const struct inherited *in);
void dry_run_done(struct dry_run *d);

/* Whether settings that have their default are shown. */
bool dry_run_is_verbose(const struct dry_run *d);
/* The spec that the source is from. */
const struct stage_spec *dry_run_spec(const struct dry_run *d, const struct outlook_source *q);
/* "warm", "cached", ...; for programs. */
const char *dry_run_result_name(enum outlook_result r);

/* The plan as one JSON object, without a newline; heap. */
char *dry_run_json(const struct dry_run *d);

#endif
