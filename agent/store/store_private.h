/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STORE_PRIVATE_H
#define STAGERUN_STORE_PRIVATE_H

#include "datastore.h"
#include "manifest.h"
#include "store.h"
#include <pthread.h>

/* Stores of objects, in S3 or in a directory, and the datastores (versions, leases, deletion) that
 * are kept in them.
 *
 *   store.c       store.h on top of the backends; the marker store.json; the probe
 *   store_file.c  the backend for a directory
 *   store_s3.c    the backend for S3
 *   layout.c      keys: parses them, lists those that belong to a store; sets of keys
 *   manifest.c    manifests, printed as JSON and parsed
 *   versions.c    which versions exist, their manifests and tombstones
 *   publish.c     publishing a version; registering a run
 *   lease.c       leases of creations and collections
 *   delete.c      deleting versions, purging a store
 *   collect.c     garbage collection
 *
 * Threads: a store may be used by any number of worker threads, each with its own store_conn, a
 * connection. All functions with a store_conn sleep and belong to its thread. A lease that is held
 * has one thread of its own, which renews it; versions_read() runs a few threads while it lasts. */

/* --- stores and their backends --- */

struct store_ops;

/* Each backend embeds these three structures in its own. store_new(), store_conn_open() and
 * store_upload_begin() fill the fields that the backend does not set. */
struct store {
	/* Set at creation, by the backend. */
	const struct store_ops *ops;
	char *name;

	pthread_mutex_t mutex; /* initialized by the backend */
	/* Under the mutex. */
	bool probed; /* store_probe() succeeded */
	/* The version that this process published or deleted last; NULL: none. */
	char *written_name;
	unsigned written_version;
};

/* A connection. It belongs to one thread. */
struct store_conn {
	struct store *store;
	struct cancel *cancel; /* may be NULL */
	uint64_t limit_ms;     /* the most that remove() may take, with all retries; 0: no limit */
};

/* Any connection of the store may send parts. */
struct store_upload {
	struct store *store;
	char *key;
};

struct store_read {
	uint64_t offset;
	void *buf;
	size_t len;
	/* Set by read(): the bytes in buf, fewer than len only at the object's end; the size of the
	 * whole object. */
	size_t got;
	uint64_t size;
};

/* What a backend implements. Keys and prefixes have been checked. Return values and errors are
 * those of the functions in store.h. */
struct store_ops {
	/* Whether not even the place of the store exists; NULL: that cannot be told. */
	bool (*is_absent)(const struct store *s);
	void (*free)(struct store *s); /* all but the name and the mutex */
	int (*conn_open)(
		struct store *s, struct cancel *cancel, struct store_conn **ret, struct error *err);
	void (*conn_close)(struct store_conn *h);

	int (*read)(struct store_conn *h, const char *key, struct store_read *r, struct error *err);
	int (*head)(struct store_conn *h, const char *key, uint64_t *ret_size, struct error *err);
	int (*put)(struct store_conn *h, const char *key, const void *bytes, size_t len,
		bool if_absent, struct error *err);
	int (*remove)(struct store_conn *h, const char *const *keys, size_t n, struct error *err);
	int (*list)(struct store_conn *h, const char *prefix,
		int (*each)(void *ctx, const char *key, uint64_t size, time_t modified,
			struct error *err),
		void *ctx, struct error *err);

	int (*upload_begin)(struct store_conn *h, const char *key, struct store_upload **ret,
		struct error *err);
	int (*upload_part)(struct store_conn *h, struct store_upload *u, unsigned number,
		const void *bytes, size_t len, struct error *err);
	int (*upload_complete)(struct store_conn *h, struct store_upload *u, struct error *err);
	void (*upload_abort)(struct store_conn *h, struct store_upload *u);
	void (*upload_free)(struct store_upload *u);

	/* Removes data that no listing shows, of the layout's keys below the prefixes (an array
	 * that ends in NULL): uploads and temporary files that were started before that time and,
	 * if all is set, the old versions of objects. */
	int (*sweep)(struct store_conn *h, const char *const *prefixes, time_t before, bool all,
		struct error *err);
	/* Sets and returns the error for a store that failed the probe: why conditional writes do
	 * not work here, and what to do about it. -ERR_UNSUPPORTED. */
	int (*refuse)(struct store_conn *h, struct error *err);
};

/* The constructors of the backends. No I/O. */
int store_file_new(const struct store_env *env, struct store **ret, struct error *err);
int store_s3_new(const struct store_env *env, struct store **ret, struct error *err);

/* Sets and returns -ENOENT: the key is not in the store. */
int store_missing(const struct store_conn *h, const char *key, struct error *err);

/* Checks the characters and the length of a key. Keys may come from a manifest, into which anybody
 * with write access may have written any bytes. Pure. */
bool store_key_is_valid(const char *key);

/* The prefixes of all keys but the marker, "packs/" and so on; NULL-terminated. */
extern const char *const store_roots[];

/* Notes a version that this process has written, so that a listing without it can be recognized as
 * incomplete. Any thread. */
void store_note_written(struct store *s, const char *name, unsigned version);
/* The version noted last (heap), or NULL. Any thread. */
char *store_written(struct store *s, unsigned *ret_version);

/* 16 random hex digits. */
void store_random(char ret[static 17]);

/* Creates the object, atomically among all writers: -EEXIST if the key exists. A retry after a lost
 * answer may also return -EEXIST for the caller's own object: the caller has to compare the
 * content. */
int store_put_if_absent(
	struct store_conn *h, const char *key, const void *bytes, size_t len, struct error *err);

/* Lists the objects below prefix (which ends in '/' or is ""), in the order of their keys. A
 * negative result of each() ends the listing and is returned. */
int store_list(struct store_conn *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err);

/* --- the marker, store.json: the object that proves that a place is a store ---
 *
 * Code that removes objects must have seen it. Readers do not need it. */

#define STORE_MARKER "store.json"

enum marker_state {
	MARKER_NONE,    /* the place holds no objects of a store */
	MARKER_UNKNOWN, /* it holds objects, but nothing proves that they are a store's */
	MARKER_THERE
};

/* Returns the enum, or a negative code. -ERR_UNSUPPORTED: store.json was written by a newer
 * stagerun; -ERR_FORMAT: it was not written by stagerun. A store older than markers gets one if it
 * has a version and all keys below store_roots have the form of the layout. An empty place gets one
 * if create is set. For MARKER_UNKNOWN err holds the reason. */
int store_marker_classify(struct store_conn *h, bool create, struct error *err);
/* Checks the marker only: 0 if it is good or missing, or one of the two errors above. */
int store_marker_check(struct store_conn *h, struct error *err);

/* --- the directory backend --- */

struct store_file {
	struct store base;
	char *root; /* absolute, without a '/' at its end */
};

/* The directory of temporary files, below the root; no key begins with it. */
#define STORE_FILE_TEMPORARY ".tmp"

/* Creates an empty file that is not in the store yet. The caller owns the path (heap) and unlinks
 * the file. */
int store_file_temporary(
	const struct store_conn *h, char **ret_path, int *ret_fd, struct error *err);
/* Syncs the temporary file and moves it (if_absent: links it) into place, so that it survives a
 * power failure. */
int store_file_place(const struct store_conn *h, int fd, const char *temporary, const char *key,
	bool if_absent, struct error *err);

/* --- leases ---
 *
 * Creations and the one collection exclude each other with one object each: a process first writes
 * its own lease, then lists the leases of others. If both start at once, at least one of them sees
 * the other: the collection then ends at once and the creation waits, so that the two never work at
 * the same time.
 *
 * A lease that is not renewed within the lifetime that it states is dead. Its age is measured by
 * the store's own clock, as the difference to an object written just before, because the clocks of
 * machines differ. A lease is dead sooner if its process is known to be gone: it ran on this host,
 * in the same boot and PID namespace, and no such process exists any more, or its start time
 * differs. The store may still execute requests that the process had sent; therefore a collection
 * that had begun to remove objects stays alive for another LEASE_SETTLE_MS. */

/* The lifetime of a creation, and of a lease that states none. */
#define LEASE_LIFE_MS ((uint64_t)5 * 60 * 1000)
/* The lifetime of a collection, for which creations wait. It is renewed every sixth of it, and
 * right before each request that removes objects. Such a request takes at most LEASE_REMOVAL_MS, so
 * that it ends while half of the lifetime is left. */
#define LEASE_COLLECT_LIFE_MS ((uint64_t)60 * 1000)
#define LEASE_REMOVAL_MS      (LEASE_COLLECT_LIFE_MS / 2)
#define LEASE_SETTLE_MS       ((uint64_t)15 * 1000)

enum lease_kind {
	LEASE_CREATE,  /* a creation in progress */
	LEASE_COLLECT, /* a collection in progress */
	LEASE_CLOCK,   /* blocks nothing: written to read the store's clock */
	LEASE_PROBE    /* blocks nothing: left by a probe of the store that was killed */
};

/* Returns 0 as long as the lease is certainly valid; -ERR_RESTART if not. Does not sleep. It is
 * called right before a manifest is published. */
int lease_check(struct lease *l, struct error *err);

/* What the holder writes into its lease, apart from the identity of the process. */
struct lease_content {
	const char *name; /* of the datastore that is created, or NULL */
	uint64_t life_ms;
	time_t since; /* by the holder's clock */
	bool removes; /* a collection that has begun to remove objects */
};

struct lease_entry {
	char *key;
	enum lease_kind kind;
	time_t modified; /* by the store's clock */
	bool live;

	/* Of live creations and collections. */
	char *name;      /* of the datastore; NULL: the lease does not state it */
	char *who;       /* the holder: "HOST (process 12 of user 0), since ..." */
	time_t counts_s; /* seconds until it is dead, unless it is renewed */
};

struct leases {
	time_t now; /* the store's clock */
	struct lease_entry *v;
	size_t n, cap;
};

/* Advances *s past "create-" and the like. False: it is none of them. Pure. */
bool lease_parse_kind(const char **s, enum lease_kind *ret);
char *lease_new_key(enum lease_kind kind); /* heap */
int lease_write(struct store_conn *h, const char *key, const struct lease_content *content,
	struct error *err);
/* Best effort, also if h is cancelled. */
void lease_remove(struct store_conn *h, const char *key);

/* Lists the leases of others. own_key must have been written just before. -ERR_RESTART if it is
 * gone. On success free with lease_list_done(). */
int lease_list(struct store_conn *h, const char *own_key, struct leases *ret, struct error *err);
/* The first live lease of the kind, or NULL. */
const struct lease_entry *lease_find(const struct leases *all, enum lease_kind kind);
void lease_list_done(struct leases *all);

/* The identity of the process that wrote a lease. */
struct lease_process {
	const char *host, *scope; /* scope: boot ID and namespaces; "": unknown */
	pid_t pid;
	uint64_t start; /* clock ticks since the boot, from /proc */
};
enum { LEASE_SCOPE_SIZE = 256 };
/* The scope of this process; "": unknown. */
void lease_scope(char ret[static LEASE_SCOPE_SIZE]);
/* Start times; 0: unknown. */
uint64_t lease_own_start(void);
uint64_t lease_process_start(pid_t pid);

/* Milliseconds since the boot, including the time during which the machine slept. */
uint64_t lease_clock_ms(void);

struct lease_times {
	uint64_t life_ms;
	struct wait_limit limit; /* of the wait for a collection */
};
/* lease_take() with another lifetime. */
int lease_take_for(struct store *s, const char *name, const struct lease_times *times,
	struct cancel *cancel, struct lease **ret, struct error *err);

/* Takes a lease for a collection, which is renewed like a creation's until it is released. *ret
 * stays NULL (with code 0) if a creation or another collection is in progress: then the caller does
 * nothing. *others is set in any case; free with lease_list_done(). */
int lease_take_for_collection(
	struct store_conn *h, struct lease **ret, struct leases *others, struct error *err);
/* Renews a collection's lease and records in it that objects are removed from now on. */
int lease_begin_removing(struct lease *l, struct store_conn *h, struct error *err);
/* lease_release() through an open connection. Accepts NULL. */
void lease_release_with(struct lease *l, struct store_conn *h);
/* Like lease_release(), but leaves the object, which expires: the store may still be executing a
 * request. Accepts NULL. */
void lease_abandon(struct lease *l);

/* --- keys ---
 *
 * Code that removes objects, old versions of them, uploads or files checks keys here: a key that
 * has not exactly one of these forms is foreign, wherever it lies. */

enum layout_kind {
	LAYOUT_FOREIGN,
	LAYOUT_MARKER,    /* store.json */
	LAYOUT_MANIFEST,  /* datastores/NAME/V/manifest.json */
	LAYOUT_DELETED,   /* datastores/NAME/V/deleted.json */
	LAYOUT_COLLECTED, /* datastores/NAME/V/collected.json */
	LAYOUT_PACK,      /* packs/DD/DIGEST.tar.zst: 64 hex digits, DD the first two */
	LAYOUT_LARGE,     /* large/RANDOM.tar.zst: 32 hex digits */
	LAYOUT_INDEX,     /* index/DD/DIGEST.zst */
	LAYOUT_LEASE,     /* leases/KIND-RANDOM.json: 16 hex digits */
	LAYOUT_USE        /* uses/NAME/V/SECONDS-RANDOM.json */
};

struct layout_key {
	enum layout_kind kind;
	char name[129];        /* of MANIFEST, DELETED, COLLECTED, USE: NAME */
	unsigned version;      /* V */
	enum lease_kind lease; /* of LEASE */
	time_t expires;        /* of USE: SECONDS */

	/* Set by layout_list() only. */
	uint64_t size;
	time_t modified; /* by the store's clock; 0: the store did not state it */
};

/* Parses any bytes. Sets *ret also for LAYOUT_FOREIGN, with that kind. Pure. */
enum layout_kind layout_parse(const char *key, struct layout_key *ret);
/* Whether this is the name of a file in STORE_FILE_TEMPORARY: 16 hex digits. Pure. */
bool layout_is_temporary(const char *name);

/* The foreign keys that a listing found. */
struct layout_foreign {
	size_t n;
	char *first;
};
void layout_foreign_done(struct layout_foreign *f);
/* Logs one warning if there are any. */
void layout_foreign_warn(const struct layout_foreign *f, const struct store_conn *h);

/* store_list() for keys of the layout, parsed. Foreign keys are only counted, in *foreign. */
typedef int layout_each_cb(
	void *ctx, const char *key, const struct layout_key *k, struct error *err);
int layout_list(struct store_conn *h, const char *prefix, layout_each_cb *each, void *ctx,
	struct layout_foreign *foreign, struct error *err);

/* A set of keys, as digests. Zeroed: empty. */
struct key_set {
	uint8_t (*digests)[32];
	size_t n, cap;
	bool sorted;
};
void layout_key_set_add(struct key_set *s, const char *key);
bool layout_key_set_has(struct key_set *s, const char *key);
void layout_key_set_done(struct key_set *s);

/* --- manifests --- */

/* Larger manifests are neither written nor read. Enough for 250,000 packs, 8 TB. */
#define MANIFEST_MAX_BYTES ((size_t)64 << 20)

/* Returns the JSON (heap), and sets m->sha256. */
char *manifest_print(struct manifest *m);
/* Parses untrusted bytes. -ERR_FORMAT; -ERR_UNSUPPORTED for a newer format. */
int manifest_parse(const char *json, size_t len, struct manifest **ret, struct error *err);

/* Frees and empties the lists of index parts and objects: the manifest of a version whose content
 * has been removed. */
void manifest_forget_content(struct manifest *m);

/* --- versions --- */

/* What one listing of the store shows of a version. */
struct store_version {
	char *name;
	unsigned number;
	bool has_manifest;
	bool exists; /* has a manifest and no tombstone */
	bool deleted;
	bool collected;             /* its content has been removed */
	time_t created, deleted_at; /* by the store's clock */
};

struct versions {
	struct store_version *v; /* ordered by name and number */
	size_t n, cap;
};

/* Appends to *ret, which is freed on failure. name NULL: all datastores. */
int versions_list(struct store_conn *h, const char *name, struct versions *ret, struct error *err);
void versions_done(struct versions *v);

/* Sets and returns -ENOENT; the message names what exists instead. version 0: any. */
int versions_missing(struct store_conn *h, const struct versions *of_name, const char *name,
	unsigned version, struct error *err);

/* "datastores/NAME/V/FILE"; heap. */
char *version_key(const char *name, unsigned number, const char *file);
/* Reads the manifest of a version, also of a deleted one. */
int version_manifest(struct store_conn *h, const char *name, unsigned number, struct manifest **ret,
	struct error *err);

/* Writes the version's tombstone, unless one exists. */
int version_mark_deleted(
	struct store_conn *h, const char *name, unsigned number, struct error *err);

/* Reads the manifests of the versions for which want() returns true and passes them to each(), in
 * their order. Several are read in parallel, since each is a round trip. m is NULL if it could not
 * be read: then err holds the reason, -ENOENT if it does not exist any more. A negative result of
 * each() ends the loop and is returned. */
typedef int versions_read_cb(
	void *ctx, const struct store_version *v, const struct manifest *m, struct error *err);
int versions_read(struct store_conn *h, const struct versions *all,
	bool (*want)(void *ctx, const struct store_version *v), versions_read_cb *each, void *ctx,
	struct error *err);

/* Writes the manifest of version m->version unless one exists. 1: this creation owns the number
 * now; 0: another one does. */
int publish_number(struct store_conn *h, struct manifest *m, struct error *err);

/* --- garbage collection --- */

struct collect_options {
	uint64_t grace_ms; /* how long readers may use a version after its deletion */
	/* Objects that no manifest ever named are kept for at least so long: a new creation can
	 * reuse those of a creation that was killed. */
	uint64_t orphan_ms;
};

#define COLLECT_ORPHAN_MS ((uint64_t)10 * 60 * 1000)
/* Creations wait for a collection, so it ends after this time and leaves the rest to the next. */
#define COLLECT_MOST_MS ((uint64_t)150 * 1000)

struct collected {
	uint64_t objects, bytes;
};

/* Adds to *ret what was removed, also on failure. -ERR_RESTART: the rest is left to the next
 * one. */
int collect_with(struct store_conn *h, const struct collect_options *opts, struct collected *ret,
	struct error *err);

#endif
