/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_STORE_H
#define STAGERUN_STORE_H

#include "cancel.h"
#include "error.h"
#include "s3.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* A store: objects of bytes under keys, in S3 below a prefix or as files below a directory. Whole objects
 * appear at once and complete, and put_if_absent is decided for one of any number of writers. Keys are
 * relative, '/'-separated, of the characters [a-zA-Z0-9._/-].
 *
 * What is where (stagerun-store(5)):
 *   datastores/NAME/V/manifest.json    version V of NAME exists when this does; never removed
 *   datastores/NAME/V/deleted.json     its tombstone
 *   datastores/NAME/V/collected.json   its content is gone, too
 *   packs/DD/DIGEST.tar.zst            DIGEST: SHA-256 of the uncompressed tar, DD its first two digits
 *   large/RANDOM.tar.zst               one large file
 *   index/DD/DIGEST.zst                one part of a version's index; SHA-256 of its stored bytes
 *   leases/ID.json                     creations (and one collection) under way
 *   uses/NAME/V/ID.json                registered runs
 *
 * Each backend is one file in agent/store with a struct store_ops. */

struct store;

struct store_env {
	const char *url; /* s3://bucket/prefix, file:///dir or a path */
	struct s3 *s3;   /* for s3:// */
};

/* No I/O. -ERR_USAGE for a URL that is none of these. */
int store_new(const struct store_env *env, struct store **ret, struct error *err);
void store_free(struct store *s); /* accepts NULL; all hands are closed */
const char *store_name(
	const struct store *s); /* for messages and state files; no secrets, no '/' at its end */

/* One thread's way to it. */
struct store_hand;
int store_hand_open(
	struct store *s, struct cancel *cancel, struct store_hand **ret, struct error *err);
void store_hand_close(struct store_hand *h); /* accepts NULL */

/* All of these: the hand's thread; sleep. -ENOENT when there is no such object. */

/* Exactly len bytes at offset; -ERR_TRUNCATED when the object ends before. */
int store_get(struct store_hand *h, const char *key, uint64_t offset, void *buf, size_t len,
	struct error *err);
/* All of a small object (at most max bytes, else -ERR_LIMIT), NUL-terminated: heap, the caller's. */
int store_get_all(struct store_hand *h, const char *key, size_t max, char **ret, size_t *ret_len,
	struct error *err);
/* 1 and *ret_size (may be NULL), or 0 when it is not there. */
int store_has(struct store_hand *h, const char *key, uint64_t *ret_size, struct error *err);
int store_put(
	struct store_hand *h, const char *key, const void *bytes, size_t len, struct error *err);
/* Atomic among all writers: -EEXIST when the key exists. May also say so to its own retry: compare. */
int store_put_if_absent(
	struct store_hand *h, const char *key, const void *bytes, size_t len, struct error *err);
int store_delete(struct store_hand *h, const char *const *keys, size_t n, struct error *err);

/* Objects below prefix (which ends in '/' or is ""), in the order of their keys; < 0 from each() stops. */
int store_list(struct store_hand *h, const char *prefix,
	int (*each)(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err),
	void *ctx, struct error *err);

/* A large object that is sent in parts, each by any hand; the last may be short, others are at least
 * STORE_PART_MIN. It appears when it is complete. */
#define STORE_PART_MIN ((size_t)8 << 20)
struct store_upload;
int store_upload_begin(
	struct store_hand *h, const char *key, struct store_upload **ret, struct error *err);
int store_upload_part(struct store_hand *h, struct store_upload *u, unsigned number,
	const void *bytes, size_t len,
	struct error *err); /* numbers from 1, in any order, any threads */
int store_upload_complete(struct store_hand *h, struct store_upload *u, struct error *err);
void store_upload_abort(struct store_hand *h, struct store_upload *u); /* best effort */
void store_upload_free(struct store_upload *u);                        /* accepts NULL */

/* Everything below the root: objects, old versions of them, uploads under way. */
int store_purge(struct store_hand *h, uint64_t *ret_objects, struct error *err);
/* -ERR_UNSUPPORTED, with what to do, when the store cannot decide store_put_if_absent() (a bucket with
 * versioning in Ceph, an old server, a file system without links): probed once for each process, before
 * the first creation. */
int store_probe(struct store_hand *h, struct error *err);

#endif
