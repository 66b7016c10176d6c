/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STAGE_H
#define STAGERUN_STAGE_H

#include "budget.h"
#include "error.h"
#include "text.h"
#include "tree.h"
#include <stdbool.h>
#include <stdint.h>

/* To bring sources into a directory: fetch, decode, unpack, write, publish. Every stage is a thread of
 * straight-line code; a set of them is started and awaited by the loop thread. */

typedef struct uv_loop_s uv_loop_t;
struct cache;
struct transfer;
struct store;
struct s3;

struct stage_source {
	char *url;    /* or a path, or "datastore:NAME[:VERSION]" */
	char *sha256; /* 64 lower-case hex digits, or NULL */
};

/* What to stage. Several sources into one directory are one stage. All strings are the spec's. */
struct stage_spec {
	struct stage_source *sources;
	size_t n_sources;
	char *to; /* destination directory */
	struct strings include, exclude;
	unsigned strip_components;
	bool no_extract;
	bool replace;
	bool renew;                       /* replace, but only what was staged there before */
	bool read_only;                   /* what is published has no write bits; datastores only */
	unsigned shard_rank, shard_world; /* world 0: not sharded; datastores only */
	char *origin;                     /* who asked: "config.yml:12", "--stage", for messages */
	uint64_t max_bytes;               /* 0: the settings' limit; else as for scratch.size_gb */
	char *max_bytes_why;              /* what that limit is called, or NULL */
};

void stage_spec_add_source(struct stage_spec *s, const char *url, const char *sha256);
void stage_spec_done(struct stage_spec *s);

/* "SOURCE=DIR", split at the last "=/", "=./" or "=../" (URLs hold many '='). */
int stage_spec_parse(const char *arg, struct stage_spec *ret, struct error *err);

/* What stage_set_start() would refuse before it starts: destinations that are empty or lie inside each
 * other, options that disagree. Touches nothing. -ERR_USAGE. */
int stage_specs_check(const struct stage_spec *specs, size_t n, struct error *err);

/* Which version of a datastore is where. */
struct stage_datastore {
	const char *name;
	unsigned version;
	const char *manifest_sha256;
	const char *to; /* as the spec has it */
};

struct stage_env {
	uv_loop_t *loop;
	struct transfer *transfer;
	struct s3 *s3;        /* for s3:// sources; NULL: there are none */
	struct store *store;  /* for datastore: sources; NULL: there are none */
	unsigned connections; /* to the store, at once, for each source */
	struct cache *cache;  /* NULL: there is none */
	bool cache_keeps;     /* what is staged goes on to be used, so the cache is told */
	struct budget *budget;
	struct tree_options tree; /* limits and ownership; the stage fills in the rest */
	unsigned threads;         /* decoding and inflating, for all stages together */
	unsigned parallel;        /* stages at once */
	bool show_progress;       /* a live line for each source, on a terminal */
	bool log_failures;        /* each stage's reason is logged; else only on_done() tells one */
	/* Exactly once for each set, from the loop: 0, or the first failure, when every thread has
	 * ended. */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
	/* From the loop, before on_done, for each datastore of a stage that is done (or was warm): which version
	 * it is, and the digest of its manifest. May be NULL. */
	void (*on_datastore)(void *ctx, const struct stage_datastore *d);
	void *on_datastore_ctx;
};

struct stage_set;

/* Loop thread. Specs with the same destination are joined into one stage first (options must agree:
 * -ERR_USAGE). Starts all; when one fails, the others are cancelled. env is copied; specs outlive the
 * set. */
int stage_set_start(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct stage_set **ret, struct error *err);

/* Loop thread; idempotent; on_done follows with -ECANCELED. */
void stage_set_cancel(struct stage_set *set);
void stage_set_free(struct stage_set *set); /* after on_done; accepts NULL */

#endif
