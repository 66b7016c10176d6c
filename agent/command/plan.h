/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PLAN_H
#define STAGERUN_PLAN_H

#include "dependencies.h"
#include "options.h"
#include "runfile.h"
#include "stage.h"
#include "text.h"
#include <stdbool.h>

/* The plan of a run, made before anything is changed. Loop thread, before any other thread starts.
 *
 *   plan.c    config.yml, options, --list files and the environment to a plan
 *   attach.c  which datastores a run gets by name, and where */

/* --- attach.c --- */

/* Datastores by name come from options, config.yml and the command's arguments, and are merged by
 * directory. No I/O. */

enum attach_rank { ATTACH_ARGUMENT, ATTACH_CONFIG, ATTACH_OPTION }; /* the higher one wins */

struct attachment {
	char *name;    /* without a user */
	char *version; /* NULL: the newest */
	char *to;      /* absolute, without a trailing slash */
	char *origin;  /* "--datastore", "config.yml:7", "argument 2" */
	enum attach_rank rank;
};

struct attachments {
	struct attachment *v;
	size_t n;
};

/* ref must be expanded; it is copied. A relative directory is below cwd. Returns -ERR_USAGE when
 * two of the same rank name one directory for different versions, or when the name is invalid. */
int attach_add(struct attachments *all, const struct datastore_ref *ref, enum attach_rank rank,
	const char *origin, const char *cwd, struct error *err);

/* The file system, as attach_arguments() sees it. An empty directory does not count as existing. */
struct attach_paths {
	bool wanted; /* there is a store, so that /datastores/... may be in it */
	/* Whether path exists for another reason than that a datastore was staged into dir. */
	bool (*is_taken)(const char *path, const char *dir);
	bool (*is_there)(const char *path); /* whether it exists */
};

/* Finds the command's arguments that name a datastore, as a whole word or as the value of --x=.
 * Attaches the datastore if it is not attached yet. "datastore:NAME[:V]" and "grid:NAME:V" are
 * replaced by its directory; "/datastores/NAME[/V][/...]" is not changed. */
int attach_arguments(struct attachments *all, struct strings *command,
	const struct attach_paths *paths, struct error *err);

/* Fills *ret to stage it; free it with stage_spec_done(). */
void attach_spec(const struct attachment *a, struct stage_spec *ret);

/* Sets STAGERUN_DATASTORE_<NAME> to the directory of each; the first of those with the same
 * name. */
void attach_set_directories(const struct attachments *all, struct strings *environment);
/* Adds a line to STAGERUN_DATASTORES: which version was staged into which directory. */
void attach_add_provenance(const struct stage_datastore *d, struct strings *environment);

void attach_done(struct attachments *all);

/* --- plan.c --- */

struct plan {
	struct runfile *runfile;    /* NULL: no config.yml */
	struct strings environment; /* of actions and the command */
	struct strings command;     /* its words, hyper_params appended; none for prewarm */
	struct attachments attached;
	struct stage_spec *listed; /* of --list files */
	size_t n_listed;
	/* Staged first, all at the same time: the attached datastores, the options, and the stage
	 * items before the first shell action. Expanded. */
	struct stage_spec *head;
	size_t n_head;
	struct strings destinations;       /* the head's directories, each once */
	struct dependencies *dependencies; /* installed at the same time; NULL: none */
	size_t first_action; /* index of the first item of the point that is not in the head */
};

/* words: the command from the command line, NULL-terminated. *ret is zeroed first; call plan_done()
 * also after a failure. Returns 0 or a negative code. */
int plan_make(const struct request *r, const struct settings *s, char *const *words,
	struct plan *ret, struct error *err);
/* The same for a single point of config.yml. Returns -ERR_USAGE without a config.yml. */
int plan_make_point(const struct request *r, const struct settings *s, enum lifecycle_point point,
	struct plan *ret, struct error *err);
void plan_done(struct plan *p);

/* Reads the --list files into p->attached and p->listed. Errors name file and line. */
int plan_lists(struct plan *p, const struct request *r, struct error *err);

/* The actions of a point; none without a config.yml. */
const struct actions *plan_actions(const struct plan *p, enum lifecycle_point point);

#endif
