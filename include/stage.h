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
	bool keep_replaced;               /* until it is staged again, for who still reads it */
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

/* How a destination got what it has. */
#define STAGE_ENDS(X) \
	X(STAGE_WARM, "warm") /* it had it already */ \
	X(STAGE_FETCHED, "staged") \
	X(STAGE_CACHED, "cached") /* the node cache had it */ \
	X(STAGE_FAILED, "failed") \
	X(STAGE_CANCELLED, "cancelled") /* by a signal, or another's failure */

enum stage_end {
#define X(id, name) id,
	STAGE_ENDS(X)
#undef X
};

const char *stage_end_name(enum stage_end e);

struct stage_result_source {
	const char *name;  /* for people */
	uint64_t received; /* bytes, compressed as they came */
	/* Which version it is; "" where there is none. Of a datastore: its number and its manifest's digest, and
	 * no more. */
	const char *etag, *last_modified, *sha256;
	const char *datastore; /* NULL: it is none */
	unsigned version;
};

struct stage_result {
	const char *to, *origin; /* as the spec has them; with cache_only to is the cache's entry */
	enum stage_end end;
	const struct error *err; /* of a failure */
	uint64_t bytes, entries; /* of the whole directory; 0 after a failure */
	uint64_t elapsed_ns;
	const struct stage_result_source *sources;
	size_t n_sources;
};

struct stage_env {
	uv_loop_t *loop;
	struct transfer *transfer;
	struct s3 *s3;        /* for s3:// sources; NULL: there are none */
	struct store *store;  /* for datastore: sources; NULL: there are none */
	unsigned connections; /* to the store, at once, for each source */
	struct cache *cache;  /* NULL: there is none */
	bool cache_only;  /* into the cache, and nowhere else; what that cannot keep is an error */
	bool cache_keeps; /* what is staged goes on to be used, so the cache is told */
	struct budget *budget;
	struct tree_options tree; /* limits and ownership; the stage fills in the rest */
	unsigned threads;         /* decoding and inflating, for all stages together */
	unsigned parallel;        /* stages at once */
	bool keep_download; /* an archive that is one stream is kept as it came, until it is unpacked */
	bool show_progress; /* a live line for each source, on a terminal */
	bool keep_going;    /* one that fails does not end the others */
	bool log_failures;  /* each stage's reason is logged; else only on_done() tells one */
	/* Exactly once for each set, from the loop: 0, or the first failure, when every thread has
	 * ended. */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
	/* From the loop, before on_done, for each datastore of a stage that is done (or was warm): which version
	 * it is, and the digest of its manifest. May be NULL. */
	void (*on_datastore)(void *ctx, const struct stage_datastore *d);
	void *on_datastore_ctx;
	/* From the loop, before on_done, for each destination. May be NULL. */
	void (*on_result)(void *ctx, const struct stage_result *r);
	void *on_result_ctx;
};

struct stage_set;

/* Loop thread. Specs with the same destination are joined into one stage first (options must agree:
 * -ERR_USAGE). Starts all; when one fails, the others are cancelled (unless keep_going). env is copied; specs outlive the
 * set. */
int stage_set_start(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct stage_set **ret, struct error *err);

/* Loop thread; idempotent; on_done follows with -ECANCELED. */
void stage_set_cancel(struct stage_set *set);
void stage_set_free(struct stage_set *set); /* after on_done; accepts NULL */

#endif
