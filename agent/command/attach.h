/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ATTACH_H
#define STAGERUN_ATTACH_H

#include "runfile.h"
#include "stage.h"
#include "text.h"
#include <stdbool.h>

/* Which datastores a run gets by name, and where: from options, config.yml and the command's arguments,
 * merged by directory. No I/O. */

enum attach_rank { ATTACH_ARGUMENT, ATTACH_CONFIG, ATTACH_OPTION }; /* a higher one wins */

struct attachment {
	char *name;    /* without a user */
	char *version; /* NULL: the newest */
	char *to;      /* absolute, without a slash at its end */
	char *origin;  /* "--datastore", "config.yml:7", "argument 2" */
	enum attach_rank rank;
};

struct attachments {
	struct attachment *v;
	size_t n;
};

/* ref's texts are expanded; a relative directory is below cwd. -ERR_USAGE when two of the same rank want one
 * directory for different versions, or the name is none. */
int attach_add(struct attachments *all, const struct datastore_ref *ref, enum attach_rank rank,
	const char *origin, const char *cwd, struct error *err);

/* Arguments of the command that name a datastore, as a whole word or the value of --x=: "datastore:NAME[:V]" and
 * "grid:NAME:V" become its directory; "/datastores/NAME[/V][/...]" stays. What is not attached already is
 * added. */
struct attach_paths {
	bool wanted; /* there is a store, so that /datastores/... may be in it */
	/* Whether path is there, and not because a datastore was staged into dir: then it stays what it is. */
	bool (*is_taken)(const char *path, const char *dir);
};
int attach_arguments(struct attachments *all, struct strings *command,
	const struct attach_paths *paths, struct error *err);

/* What it takes to stage one. */
void attach_spec(const struct attachment *a, struct stage_spec *ret);

/* STAGERUN_DATASTORE_<NAME> for each: its directory. Where two have the same, the first. */
void attach_set_directories(const struct attachments *all, struct strings *environment);
/* Adds a line to STAGERUN_DATASTORES: which version turned out to be where. */
void attach_add_provenance(const struct stage_datastore *d, struct strings *environment);

void attachments_done(struct attachments *all);

#endif
