/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_OUTLOOK_H
#define STAGERUN_OUTLOOK_H

#include "disk.h"
#include "error.h"
#include "object.h"
#include "stage.h"
#include "text.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* What a set of stages would do, found without creating or changing anything: for dry runs. The
 * sources are asked for their versions; the destinations and the node cache are looked at. */

struct manifest;

/* One source. */
struct outlook_source {
	const struct stage_source *source;
	const char *name; /* for people */
	int code;         /* of the question */
	struct error err;
	struct identity identity;
	struct manifest *manifest; /* of a datastore; NULL: it is none, or was not found */
};

enum outlook_result {
	OUTLOOK_FETCH,   /* it would be fetched */
	OUTLOOK_WARM,    /* it is there already */
	OUTLOOK_CACHED,  /* it would come from the node cache */
	OUTLOOK_KEPT,    /* others have changed it, and it would be left as it is */
	OUTLOOK_REFUSED, /* it would fail */
};

/* One destination. */
struct outlook_stage {
	const struct stage_spec *spec; /* the first of those with this destination */
	struct outlook_source *sources;
	size_t n_sources;

	/* Set by outlook_look(). */
	enum outlook_result result;
	struct error err;          /* OUTLOOK_REFUSED: why the destination is refused; code 0: a
				  source is the reason */
	bool asked;                /* the answers of the sources matter */
	bool continues;            /* an interrupted run is continued */
	struct strings names;      /* some entries of others in the destination, which stay */
	size_t n_more;             /* how many there are besides */
	uint64_t bytes, files;     /* what it needs at least; 0: not known, or nothing */
	uint64_t max_bytes;        /* what it may have; UINT64_MAX: no limit */
	const char *max_bytes_why; /* the name of that limit, or NULL; borrowed */
	bool knows_space;
	struct disk_space space; /* of the file system of the destination */
	dev_t disk;              /* identifies that */
};

struct outlook;

/* Joins specs with the same destination, as stage_set_start() does. specs, and what env refers to,
 * must outlive the result; of env no member is used that starts, shows or reports anything. *ret is
 * the caller's: outlook_free(). -ERR_USAGE. */
int outlook_new(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct outlook **ret, struct error *err);
void outlook_free(struct outlook *o); /* accepts NULL */

struct outlook_stage *outlook_stages(struct outlook *o, size_t *ret_n);

/* Worker threads, sleeps: asks source k of stage i. */
void outlook_ask(struct outlook *o, size_t i, size_t k);
/* Worker threads: looks at the destination of stage i, after all of its sources were asked. */
void outlook_look(struct outlook *o, size_t i);

/* Any thread: whatever is asked ends soon with -ECANCELED. */
void outlook_cancel(struct outlook *o);

#endif
