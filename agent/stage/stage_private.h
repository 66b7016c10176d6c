/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STAGE_PRIVATE_H
#define STAGERUN_STAGE_PRIVATE_H

#include "cancel.h"
#include "object.h"
#include "progress.h"
#include "publish.h"
#include "stage.h"

/* One stage: all specs with the same destination, joined. Made by the loop thread, then the stage
 * thread's until it has ended; the threads of its sources see what is marked so. */

/* How many sources may be worked on at once, over all stages. Worker threads. */
struct slots {
	pthread_mutex_t mutex;
	pthread_cond_t freed;
	unsigned free;
};

void slots_init(struct slots *s, unsigned n);
void slots_done(struct slots *s);
int slots_take(struct slots *s, struct cancel *cancel, struct error *err);
void slots_give(struct slots *s);

/* What a source turned out to be ("tar.gz"), and how long it took to unpack. Of a datastore also, and when it is
 * warm only, which version it is. */
struct arrival {
	char *format;
	uint64_t elapsed_ns;
	char *datastore;  /* its name; NULL: no datastore */
	unsigned version; /* of it */
	char manifest_sha256[65];
};

/* What the destination says that a source is, once it is there. */
struct found {
	struct identity identity;
	char sha256[65];
};

struct stage {
	/* Set at creation. */
	const struct stage_env *env;
	const struct stage_spec
		*spec; /* the first of the joined; the others have the same options */
	struct stage_source *sources; /* of all the joined; strings are the specs' */
	size_t n_sources;
	char *to;              /* canonical destination */
	char key[65];          /* names sources and options in state files */
	char cache_key[65];    /* as key, but for what is applied when an entry is delivered */
	struct cancel *cancel; /* the set's: a signal, or another stage failed */
	const atomic_bool *signalled; /* the set's: no time to clean up */
	struct slots *slots;
	unsigned threads; /* for decoding, each source */

	/* Any thread. */
	struct progress *progress; /* one for each source */
	struct cancel attempt;     /* stops the sources of the attempt under way */

	struct arrival *arrivals; /* one for each source, filled in by its thread */

	/* Stage thread; its source threads read them. */
	struct destination *destination; /* while an entry of the cache is filled: the entry's */
	struct cache_entry *entry;       /* of the cache; NULL: none is filled */
	char version[65];                /* of all sources: what the entry must become */
	struct tree *tree;
	int root_fd, state_fd;
	bool anew; /* what a killed run left is of no use: an attempt found another version */

	/* Stage thread, then the loop thread once it has ended. */
	enum stage_end end;
	struct found *found; /* one for each source; NULL: nobody wants to know, or it failed */
	uint64_t bytes, entries, elapsed_ns;
	int code;
	struct error err;
};

/* Groups specs by destination into *ret_stages (heap, *ret_n of them, also on failure): -ERR_USAGE
 * when the options of two disagree, or one destination lies inside another. The set fills in what
 * is its. */
int stages_join(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct stage **ret_stages, size_t *ret_n, struct error *err);
void stage_done(struct stage *s);
void stage_digest(const struct text *t, char hex[static 65]);

/* Stage thread: the whole story. Leaves its outcome in s->code and s->err. */
void stage_run(struct stage *s);

/* result.c. Stage thread: notes what r says is there (NULL: nothing), if somebody wants to know. */
void stage_note_found(struct stage *s, const struct record *r);
const char *stage_place(const struct stage *s); /* where its content is, for who asked for it */
/* Loop thread: tells it. */
void stage_tell_result(const struct stage *s);

/* Fetches source i and unpacks it into s->tree. Its own thread when there are several. *ret is
 * filled in for the state file. */
int stage_unpack_source(struct stage *s, size_t i, struct record_source *ret, struct error *err);

/* Whether the destination already holds these sources at their present versions: 1, 0, or an error.
 */
int stage_is_warm(struct stage *s, struct error *err);

/* ---- stage.c, for cached.c ---- */

/* Fetches and unpacks into s->destination, and publishes that. */
int stage_fill(struct stage *s, struct error *err);
void stage_report_warm(const struct stage *s);
struct tree_options stage_tree_options(const struct stage *s);

/* ---- continue.c: the tree that a killed run left, or that the next one will find. ---- */

/* Takes the destination's unfinished tree, or makes a new one. */
int stage_open_tree(struct stage *s, struct error *err);
/* The one source of s is open and is id: its entries go on in the tree, if that is of the same version; else in
 * an empty one. From now on the next run can go on. */
int stage_continue(struct stage *s, const struct identity *id, struct error *err);
/* Once all entries are there: says so if some were before. */
void stage_tell_continued(const struct stage *s);

/* ---- pin.c: versions of all sources together, known before their bytes are there. ---- */

/* What the record's sources tell from other versions; false: not known, or not for certain (as Last-Modified). */
bool pin_record(const struct stage *s, const struct record *r, char version[static 65]);

/* Asks each source for its version, first whether it is still the one that the cache has. 1: s->version is it, and
 * *ret_bytes are expected (0: not known). 0: there is none that is certain. */
int pin_sources(struct stage *s, uint64_t *ret_bytes, struct error *err);

/* ---- cached.c ---- */

/* Brings it out of the node cache, filling that first if need be. 1, or 0: it is to be staged directly. */
int stage_from_cache(struct stage *s, struct error *err);
/* Makes sure that it is there, and no more. */
int stage_into_cache(struct stage *s, struct error *err);

/* Keeps in use what the destination, which is warm with record had, shares with the cache. false: that is not
 * whole any more. */
bool stage_keep_shared(struct stage *s, const struct record *had);

/* warm.c: 1: had is still the current version. */
int stage_source_is_unchanged(
	struct stage *s, size_t i, const struct record_source *had, struct error *err);

#endif
