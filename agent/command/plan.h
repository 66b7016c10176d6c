/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PLAN_H
#define STAGERUN_PLAN_H

#include "attach.h"
#include "dependencies.h"
#include "request.h"
#include "runfile.h"
#include "text.h"

/* What a run will do, resolved from config.yml, options and the environment before anything is
 * touched. */
struct plan {
	struct runfile *runfile;    /* NULL: no config.yml */
	struct strings environment; /* of actions and the command */
	struct strings command;     /* its words, hyper_params appended; none for prewarm */
	struct attachments attached;
	struct stage_spec *listed; /* of --list files */
	size_t n_listed;
	struct stage_spec *head; /* staged first and at once: attached, options, items; expanded */
	size_t n_head;
	struct strings destinations;       /* the head's directories, each once */
	struct dependencies *dependencies; /* installed meanwhile; NULL: none */
	size_t first_action; /* the first item of the point after the head: of on_experiment_start */
};

/* words: the command of the command line, NULL-terminated. *ret is zeroed first, and to be given to
 * plan_done() also after a failure. */
int plan_make(const struct request *r, const struct settings *s, char *const *words,
	struct plan *ret, struct error *err);
/* The same for one point of config.yml, which must be there (-ERR_USAGE), and no more of it. */
int plan_make_point(const struct request *r, const struct settings *s, enum lifecycle_point point,
	struct plan *ret, struct error *err);
void plan_done(struct plan *p);

/* Adds to p->attached, sets what the environment says of it, and puts directories into p->command. */
int plan_attach(
	struct plan *p, const struct request *r, const struct settings *s, struct error *err);

/* What --list files say, into p->attached and p->listed. Errors name file and line. */
int plan_lists(struct plan *p, const struct request *r, struct error *err);

/* "${VAR}" from the run's environment. */
int plan_expand(struct plan *p, const char *text, char **ret, struct error *err);

/* The actions of a point; none without a config.yml. */
const struct actions *plan_actions(const struct plan *p, enum lifecycle_point point);

#endif
