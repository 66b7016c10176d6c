/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STAGE_PRIVATE_H
#define STAGERUN_STAGE_PRIVATE_H

#include "cancel.h"
#include "destination.h"
#include "error.h"
#include "object.h"
#include "progress.h"
#include "s3.h"
#include "stage.h"
#include "unpack.h"
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

struct manifest;

/* Staging: fetch, decode, unpack, write and publish the sources of one destination. In the order
 * of use:
 *
 *   join.c           specs with the same destination become one stage; keys
 *   stage.c          a set of stages, on the loop thread: starts, joins and cancels their threads;
 *                    one stage, on its own thread, from its destination to its result
 *   spans.c          the stage and its sources in the timeline of the run
 *   cached.c         staging by way of the node cache
 *   resume.c         versions of sources; continuing the tree of a killed run
 *   unpack_source.c  one source into the tree; partial downloads
 *   datastore.c      a datastore as a source
 *   prefix.c         a directory of objects as a source
 *   outlook.c        what a stage would do, for dry runs
 *
 * Threads: the loop thread owns a stage before it is started and after it has ended; in between,
 * the stage thread does. A stage with several sources has one more thread for each source beyond
 * the first, while there are slots. */

/* How many sources may be staged at once, over all stages. A stage holds one slot from before it
 * opens its destination until it ends, and works on its sources with it; each further thread for
 * them needs a further slot. So a stage that holds the lock of a destination never waits for a
 * slot, and two agents that stage into the same destinations in another order never wait for
 * each other. Any thread. */
struct slots {
	atomic_uint free;
	uv_async_t *freed; /* woken for each slot that is released; borrowed */
};

void stage_slots_init(struct slots *s, unsigned n, uv_async_t *freed);
bool stage_slots_take(struct slots *s); /* false: none is free */
void stage_slots_release(struct slots *s);

/* What a source turned out to be, and how long it took to unpack. The fields of a datastore are
 * also set if it is warm. */
struct source_outcome {
	char *format; /* "tar.gz" */
	uint64_t elapsed_ns;
	char *datastore;  /* its name; NULL: not a datastore */
	unsigned version; /* of the datastore */
	char manifest_sha256[65];
	struct selection_left left; /* added to by the threads that unpack */
	uint64_t begun_ns;          /* of its span */
	/* Its version was looked at from then to then; 0: it was not. */
	uint64_t looked_ns, looked_end_ns;
};

/* The version of a source as the destination's record has it. */
struct source_version {
	struct identity identity;
	char sha256[65];
};

struct stage {
	/* Set by stage_join() and stage_set_start(), and constant. */
	const struct stage_env *env;
	/* the first of the joined specs; the others have the same options */
	const struct stage_spec *spec;
	struct stage_source *sources; /* of all joined specs, which own the strings */
	size_t n_sources;
	char **names;      /* of the sources, for messages; heap, each */
	char *to;          /* the canonical destination, which cache_only leaves alone */
	const char *shown; /* where, for messages: to, or "the node cache" with cache_only */
	char key[65];      /* identifies sources and options in state files */
	char lineage[65];  /* identifies the sources alone */
	/* The key, without options that are applied when an entry is delivered. */
	char cache_key[65];
	struct cancel *cancel;        /* the set's: a signal, or another stage failed */
	const atomic_bool *signalled; /* the set's: no time to clean up */
	struct slots *slots;
	unsigned threads; /* decoding threads for each source */

	unsigned span; /* in the timeline; set by its own thread; 0: not recorded */

	/* Any thread. */
	struct progress *progress; /* one for each source */
	atomic_ullong lock_ns;     /* waited for another agent */
	struct cancel attempt;     /* stops the sources of the present attempt */

	struct source_outcome *outcomes; /* one for each source, set by its thread */

	/* Stage thread; its source threads read them. */
	struct destination *destination; /* while an entry of the cache is filled: the entry's */
	struct cache_entry *entry;       /* the entry that is being filled; NULL: none */
	char version[65];                /* of all sources together, for the entry */
	struct tree *tree;
	int root_fd, state_fd;
	/* An attempt found another version: the tree of a killed run is of no use. */
	bool discard_left;

	/* Stage thread, then the loop thread once it has ended. */
	enum stage_end end;
	char *entry_path; /* with cache_only: of the entry, once it is complete; otherwise NULL */
	struct source_version *versions; /* one for each source; NULL: no on_result, or it failed */
	uint64_t bytes, entries, elapsed_ns;
	int code;
	struct error err;
};

/* ---- join.c. Loop thread. ---- */

/* Groups specs by destination into *ret_stages (heap, *ret_n of them, also after a failure).
 * -ERR_USAGE when the options of two specs disagree, or one destination is inside another. The
 * set fills in the members that are its own. */
int stage_join(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct stage **ret_stages, size_t *ret_n, struct error *err);
void stage_done(struct stage *s);
const char *stage_zip_names(const struct stage *s); /* "": none; borrowed. Any thread */

/* ---- stage.c ---- */

/* Stage thread. Stores the versions, bytes and entries of r, which may be NULL, if there is an
 * on_result. */
void stage_store_versions(struct stage *s, const struct record *r);

/* Stage thread. Resets s->attempt for a new attempt. The set requests its own cancel first and
 * s->attempt after it, so that one of the two checks in this function sees the request. 0 or
 * -ECANCELED. */
int stage_begin_attempt(struct stage *s, struct error *err);

/* Stage thread. Unpacks all sources for s->destination and publishes the tree; tries again where
 * that may help. */
int stage_fill(struct stage *s, struct error *err);
void stage_report_warm(const struct stage *s);
struct tree_options stage_tree_options(const struct stage *s);

/* ---- spans.c: each does nothing without a timeline. ---- */

/* Stage thread, or the loop thread for a stage without one: at its beginning; once its result is
 * known. */
void stage_span_begin(struct stage *s);
void stage_span_end(struct stage *s);

/* Source thread: around an attempt to unpack source i. */
void stage_span_source_begin(struct stage *s, size_t i);
void stage_span_source_end(struct stage *s, size_t i, int code, const struct error *err);

/* Stage thread. The version of source i was looked at since began_ns; code: the result. */
void stage_span_looked(
	struct stage *s, size_t i, uint64_t began_ns, int code, const struct error *err);

/* Stage thread. Something is moved into place; returns the span for timeline_end(). */
unsigned stage_span_publish(const struct stage *s);
void stage_span_published(const struct stage *s, unsigned span, int code, const struct error *err);

/* ---- unpack_source.c ---- */

/* Source thread. Fetches source i and unpacks it into s->tree. *ret is set for the record, which
 * owns its name. */
int stage_unpack_source(struct stage *s, size_t i, struct record_source *ret, struct error *err);

/* ---- resume.c: the tree of a killed run, and versions of sources. Stage thread. ---- */

/* Whether the destination already holds these sources at their present versions: 1, 0, or an
 * error. */
int stage_is_warm(struct stage *s, struct error *err);

/* Opens the destination's unfinished tree, or creates a new one. */
int stage_open_tree(struct stage *s, struct error *err);
/* Called when a source is open; id: its identity. If it is the only source, and the tree is of
 * the same version, entries are added to that tree; otherwise to an empty one. From now on the
 * next run can continue. */
int stage_continue(struct stage *s, const struct identity *id, struct error *err);
/* Logs how many entries an earlier run had left, if there were any. Call it once all entries are
 * there. */
void stage_report_continued(const struct stage *s);

/* Sets version to a digest of the versions of the record's sources. Returns false if one of them
 * is not known, or not certain, as Last-Modified is not. */
bool resume_pin_record(const struct stage *s, const struct record *r, char version[static 65]);

/* Asks each source for its version; first, whether it still has the version in the cache. 1:
 * s->version is set, and *ret_bytes are expected (0: not known). 0: a version is not certain. */
int resume_pin_sources(struct stage *s, uint64_t *ret_bytes, struct error *err);

/* ---- cached.c. Stage thread. ---- */

/* Delivers the sources from the node cache, after filling its entry if needed. 1; 0: stage
 * directly; or an error. */
int stage_from_cache(struct stage *s, struct error *err);
/* Fills the cache entry if needed, and delivers nothing. */
int stage_into_cache(struct stage *s, struct error *err);

/* The destination is warm with the record had. If it is the tree of a cache entry, marks the
 * entry as used. Returns false if the entry is not complete any more. */
bool stage_retain_shared(struct stage *s, const struct record *had);

/* ---- datastore.c: "datastore:NAME" is the newest version, "datastore:NAME:3" always the same.
 * ---- */

/* Returns the name of source i for state files, without a version; heap. */
char *stage_datastore_key(const struct stage *s, size_t i);

/* Stage's or source's thread. Fetches the version into the tree and stores it in s->outcomes[i];
 * *ret identifies it. */
int stage_datastore_fetch(struct stage *s, size_t i, struct identity *ret, struct error *err);
/* Returns 1 and sets s->outcomes[i] if had, the version that is there, is the version that is
 * asked for; 0 if not; or an error. */
int stage_datastore_is_unchanged(
	struct stage *s, size_t i, const struct identity *had, struct error *err);

/* Sets *ret to the manifest of the version that is asked for, which the caller frees, and *ret_id
 * to its identity. */
int stage_datastore_find(struct stage *s, size_t i, struct manifest **ret, struct identity *ret_id,
	struct error *err);

/* Sets *ret to the version that is asked for, without fetching its content; adds the size of
 * that to *ret_bytes. */
int stage_datastore_identify(
	struct stage *s, size_t i, struct identity *ret, uint64_t *ret_bytes, struct error *err);
/* Sets s->outcomes[i] to the version id. */
void stage_datastore_store_version(struct stage *s, size_t i, const struct identity *id);

/* ---- prefix.c: "s3://bucket/prefix/". ---- */

/* Whether the source is a directory of objects. Any thread. */
bool stage_is_prefix(const char *url);

/* Stage's or source's thread. Stages all objects below the prefix; *ret identifies this state of
 * it. */
int stage_prefix(struct stage *s, size_t i, struct identity *ret, struct error *err);

#endif
