/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STORE_H
#define STAGERUN_STORE_H

#include "cancel.h"
#include "error.h"
#include "progress.h"
#include "s3.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* A store holds objects of bytes under keys, in S3 below a prefix or as files below a directory. An
 * object appears at once and complete. A conditional write is decided for exactly one of any number
 * of writers. Keys are relative paths of the characters [a-zA-Z0-9._/-].
 *
 * The layout of a store (stagerun-store(5)):
 *   store.json                         marks the place as a store
 *   datastores/NAME/V/manifest.json    version V of NAME exists if this does; never removed
 *   datastores/NAME/V/deleted.json     its tombstone
 *   datastores/NAME/V/collected.json   its content has been removed, too
 *   packs/DD/DIGEST.tar.zst            DIGEST: SHA-256 of the uncompressed tar, DD its first digits
 *   large/RANDOM.tar.zst               one large file
 *   index/DD/DIGEST.zst                one part of a version's index; SHA-256 of its stored bytes
 *   leases/KIND-ID.json                creations (and one collection) in progress
 *   uses/NAME/V/SECONDS-ID.json        registered runs
 *
 * Each backend is one file in agent/store with a struct store_ops. */

struct store;

struct store_env {
	const char *url; /* s3://bucket/prefix, file:///dir or a path */
	struct s3 *s3;   /* for s3:// URLs; borrowed by the store */
};

/* Does no I/O. Returns -ERR_USAGE for any other URL. */
int store_new(const struct store_env *env, struct store **ret, struct error *err);
/* Accepts NULL. All connections must be closed. */
void store_free(struct store *s);
/* Returns the name for messages and state files, without secrets and without a '/' at its end. The
 * store owns it. */
const char *store_name(const struct store *s);
/* Whether the directory of the store does not exist, so that the store has nothing; false where
 * that cannot be told. */
bool store_is_absent(const struct store *s);

/* A connection to the store, for one thread. */
struct store_conn;
/* cancel (may be NULL) aborts the requests of this connection with -ECANCELED. */
int store_conn_open(
	struct store *s, struct cancel *cancel, struct store_conn **ret, struct error *err);
void store_conn_close(struct store_conn *h); /* accepts NULL */

/* All functions below belong to the connection's thread and sleep. They return 0 or a negative
 * code: -ENOENT if there is no such object, -ECANCELED, or the backend's error. */

/* Reads exactly len bytes at offset; -ERR_TRUNCATED if the object is shorter. */
int store_get(struct store_conn *h, const char *key, uint64_t offset, void *buf, size_t len,
	struct error *err);
/* Reads a small object whole, NUL-terminated, into *ret (heap; the caller frees it). -ERR_LIMIT if
 * it has more than max bytes. ret_len may be NULL. */
int store_get_all(struct store_conn *h, const char *key, size_t max, char **ret, size_t *ret_len,
	struct error *err);
/* Returns 1 and sets *ret_size (may be NULL), or 0 if there is no such object. */
int store_has(struct store_conn *h, const char *key, uint64_t *ret_size, struct error *err);
int store_put(
	struct store_conn *h, const char *key, const void *bytes, size_t len, struct error *err);
/* Objects that do not exist are no error. */
int store_delete(struct store_conn *h, const char *const *keys, size_t n, struct error *err);

/* A large object that is written in parts, by any connections. All parts but the last have at least
 * STORE_PART_MIN bytes. The object appears when the upload is completed. */
#define STORE_PART_MIN ((size_t)8 << 20)
struct store_upload;
int store_upload_begin(
	struct store_conn *h, const char *key, struct store_upload **ret, struct error *err);
/* Parts are numbered from 1, and may come in any order, from any threads. */
int store_upload_part(struct store_conn *h, struct store_upload *u, unsigned number,
	const void *bytes, size_t len, struct error *err);
int store_upload_complete(struct store_conn *h, struct store_upload *u, struct error *err);
void store_upload_abort(struct store_conn *h, struct store_upload *u); /* best effort */
void store_upload_free(struct store_upload *u);                        /* accepts NULL */

/* Removes all objects of the store, their old versions, and unfinished uploads. Foreign objects
 * stay and are logged as a warning. -ERR_UNSUPPORTED, and nothing is removed, if the place is not
 * known to be a store. ret_objects (may be NULL): the number of objects removed, also on failure.
 * progress (may be NULL) counts what is listed as total and entries_total, what is removed as
 * received and entries. */
int store_purge(
	struct store_conn *h, struct progress *progress, uint64_t *ret_objects, struct error *err);
/* Checks that conditional writes work, once for each process, before the first creation.
 * -ERR_UNSUPPORTED, with advice, if the store cannot decide which of two writers comes first (a
 * bucket with versioning in Ceph, an old server, a file system without hard links). Also fails with
 * the errors of store_claim() for the marker. */
int store_probe(struct store_conn *h, struct error *err);
/* Marks the place as a store (store.json), before the first object of a creation. If objects are
 * there that cannot be proved to be a store's, it stays unmarked, and 0 is returned.
 * -ERR_UNSUPPORTED, -ERR_FORMAT: store.json belongs to a newer stagerun, or not to stagerun. */
int store_claim(struct store_conn *h, struct error *err);

#endif
