/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STAGE_H
#define STAGERUN_STAGE_H

#include "budget.h"
#include "cancel.h"
#include "error.h"
#include "text.h"
#include "tree.h"
#include <stdbool.h>
#include <stdint.h>

/* Staging: brings sources into directories, which means fetch, decode, unpack, write and publish.
 * Every stage runs on a thread of its own; the loop thread starts a set of stages and is notified
 * of their end.
 *
 * The caller owns everything that it passes in, unless a comment says otherwise. Functions return 0
 * or a negative error code, with a message in err. Those without a thread in their comment may be
 * called by any thread. */

typedef struct uv_loop_s uv_loop_t;
struct cache;
struct monitor;
struct timeline;
struct transfer;
struct store;
struct s3;

struct stage_source {
	char *url;    /* a URL, a path, or "datastore:NAME[:VERSION]" */
	char *sha256; /* 64 lower-case hexadecimal digits, or NULL */
};

/* What to stage into one directory. Several sources for one directory are one stage. The spec owns
 * all strings. */
struct stage_spec {
	struct stage_source *sources;
	size_t n_sources;
	char *to; /* the destination directory */
	struct strings include, exclude;
	unsigned strip_components;
	char *zip_names; /* NULL: as in the settings */
	bool no_extract;
	bool replace;
	/* with replace: also if the same version is there, but somebody has changed it */
	bool restore;
	bool renew; /* replaces only what was staged there before */
	/* the old version stays until the next stage, for programs that still read it */
	bool keep_replaced;
	bool keep_changed; /* changes by others are kept, and are not a failure */
	/* the published files have no write bits; datastores only */
	bool read_only;
	unsigned shard_rank, shard_world; /* shard_world 0: not sharded; datastores only */
	/* where the request is from, for messages: "config.yml:12", "--stage" */
	char *origin;
	/* 0: the limit of the settings; else as scratch.size_gb, in bytes */
	uint64_t max_bytes;
	char *max_bytes_why; /* name of that limit, for messages; or NULL */
};

void stage_spec_add_source(struct stage_spec *s, const char *url, const char *sha256);
void stage_spec_done(struct stage_spec *s);

/* Parses "SOURCE=DIR", which is split at the last "=/", "=./" or "=../" (URLs contain many '=').
 * ret is owned by the caller: stage_spec_done(). -ERR_USAGE. */
int stage_spec_parse(const char *arg, struct stage_spec *ret, struct error *err);

/* Checks what stage_set_start() would refuse before it starts: empty destinations, destinations
 * inside each other, options that disagree. Changes nothing. 0 or -ERR_USAGE. */
int stage_specs_check(const struct stage_spec *specs, size_t n, struct error *err);

/* The version of a datastore in a destination. Strings are valid during the callback. */
struct stage_datastore {
	const char *name;
	unsigned version;
	const char *manifest_sha256;
	const char *to; /* as in the spec */
};

/* How a stage ended. The names are for machines. */
#define STAGE_ENDS(X) \
	X(STAGE_WARM, "warm") /* DEST had it already */ \
	X(STAGE_FETCHED, "staged") \
	X(STAGE_CACHED, "cached") /* from the node cache */ \
	X(STAGE_KEPT, "kept")     /* changed by others, and left as it is */ \
	X(STAGE_FAILED, "failed") \
	X(STAGE_CANCELLED, "cancelled") /* by a signal, or another failure */

enum stage_end {
#define X(id, name) id,
	STAGE_ENDS(X)
#undef X
};

/* How many there are. */
enum {
#define X(id, name) COUNTED_##id,
	STAGE_ENDS(X)
#undef X
		STAGE_ENDS_COUNT
};

const char *stage_end_name(enum stage_end e);

struct stage_result_source {
	const char *name;  /* for people */
	uint64_t received; /* bytes as received, compressed */
	/* what its threads waited for, as in struct progress */
	uint64_t network_ns, decode_ns, disk_ns;
	/* The version; "" for what is not known. A datastore has its number and the digest of its
	 * manifest only. */
	const char *etag, *last_modified, *sha256;
	const char *datastore; /* its name; NULL: not a datastore */
	unsigned version;
};

struct stage_result {
	/* as in the spec; with cache_only, to is the path of the cache entry */
	const char *to, *origin;
	enum stage_end end;
	const struct error *err; /* of a failure, otherwise NULL */
	uint64_t bytes, entries; /* of the whole directory; 0 after a failure */
	uint64_t elapsed_ns;
	const struct stage_result_source *sources;
	size_t n_sources;
};

struct stage_env {
	uv_loop_t *loop;
	struct transfer *transfer;
	struct s3 *s3;            /* for s3:// sources; NULL: there is none */
	struct store *store;      /* for datastore: sources; NULL: there is none */
	unsigned connections;     /* to the store, at once, for each source */
	unsigned connections_all; /* of all downloads together */
	struct cache *cache;      /* NULL: there is none */
	bool cache_only;  /* fills only the cache; a source that it cannot store is an error */
	bool cache_keeps; /* the cache is told that what is staged stays in use */
	struct budget *budget;
	struct tree_options tree; /* limits and ownership; the stage sets the rest */
	unsigned threads;         /* decoding and inflating, for all stages together */
	unsigned parallel;        /* stages at once */
	/* character set of names in zips; NULL or "": names are not converted */
	const char *zip_names;
	/* stores the compressed bytes of an archive that is a single stream until it is unpacked */
	bool keep_download;
	struct wait_limit lock_limit; /* of the wait for another agent */
	struct timeline *timeline;    /* stages, sources and requests are recorded; may be NULL */
	unsigned span;                /* in which stages are */
	uint64_t max_rate;            /* bytes per second of all downloads; 0: no limit */
	struct monitor *monitor;      /* shows the progress of each source; NULL: nothing does */
	bool keep_going;              /* a stage that fails does not end the others */
	/* logs the reason of each failure; otherwise only on_done() has one */
	bool log_failures;
	/* Called exactly once for each set, by the loop thread, after every thread has ended: 0, or
	 * the first failure. */
	void (*on_done)(void *ctx, int code, const struct error *err);
	void *on_done_ctx;
	/* Called by the loop thread, before on_done, for each datastore of a stage that succeeded
	 * (or was warm). May be NULL. */
	void (*on_datastore)(void *ctx, const struct stage_datastore *d);
	void *on_datastore_ctx;
	/* Called by the loop thread, before on_done, for each destination. May be NULL. */
	void (*on_result)(void *ctx, const struct stage_result *r);
	void *on_result_ctx;
};

struct stage_set;

/* Loop thread. Joins specs with the same destination into one stage (-ERR_USAGE if their options
 * differ), then starts all. When one fails, the others are cancelled, unless keep_going. env is
 * copied; specs must outlive the set. *ret is owned by the caller: stage_set_free(). */
int stage_set_start(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct stage_set **ret, struct error *err);

/* Loop thread. It may be called again. on_done follows with -ECANCELED. */
void stage_set_cancel(struct stage_set *set);
void stage_set_free(struct stage_set *set); /* loop thread, after on_done; accepts NULL */

#endif
