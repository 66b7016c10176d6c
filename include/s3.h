/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_S3_H
#define STAGERUN_S3_H

#include "cancel.h"
#include "credentials.h"
#include "error.h"
#include "object.h"
#include "transfer.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* S3 and compatible services (Ceph, MinIO, R2): requests for objects, signed and retried. Errors
 * name the status, S3's code and message, the request ID, the endpoint, bucket and key, the source
 * of the credentials and the likely fix. https://docs.aws.amazon.com/AmazonS3/latest/API/ */

enum s3_style { S3_STYLE_AUTO, S3_STYLE_PATH, S3_STYLE_VIRTUAL };
/* AUTO: requests are signed unless no provider has credentials. */
enum s3_sign { S3_SIGN_AUTO, S3_SIGN_YES, S3_SIGN_NO };

struct s3_options {
	/* "": AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile's, or AWS. */
	const char *endpoint;
	/* "": AWS_REGION, AWS_DEFAULT_REGION, the profile's, the region that the server states for
	 * the bucket, or us-east-1. */
	const char *region;
	const char *profile;
	enum s3_style style;
	enum s3_sign sign;
	const struct transfer_options *network; /* copied; ca_file "": AWS_CA_BUNDLE */
	char *const *environment;
};

/* One configuration: the credentials, and the regions of buckets as far as they are known. Any
 * thread. */
struct s3;
/* Does no I/O, and never returns NULL. The strings in opts must outlive the result. */
struct s3 *s3_new(const struct s3_options *opts);
void s3_free(struct s3 *s); /* accepts NULL */
/* "https://host (region us-east-1), credentials: ...", for dry runs (heap). */
char *s3_describe(struct s3 *s);

struct s3_bucket_key {
	char *bucket;
	char *key; /* not percent-encoded; "" for the whole bucket */
};
/* Parses "s3://bucket/key". -ERR_USAGE. Free with s3_bucket_key_done(). */
int s3_bucket_key_parse(const char *url, struct s3_bucket_key *ret, struct error *err);
void s3_bucket_key_done(struct s3_bucket_key *p);
/* Whether this is the whole bucket, or a key that ends in '/'. */
bool s3_bucket_key_is_prefix(const struct s3_bucket_key *p);

/* The connection of one thread to S3. */
struct s3_client;
/* cancel may be NULL. */
int s3_client_new(struct s3 *s, struct cancel *cancel, struct s3_client **ret, struct error *err);
void s3_client_free(struct s3_client *c); /* accepts NULL */
/* Limits each following request, with all its retries, to ms; 0: no limit. */
void s3_client_limit(struct s3_client *c, uint64_t ms);

/* An object of a listing or an answer. key is valid during the callback; in the result of s3_get()
 * and s3_head() it is the caller's argument. */
struct s3_object {
	const char *key;
	uint64_t size;
	time_t modified;
	char etag[128]; /* with quotes; "": unknown */

	/* Set by listings only. */
	char archive[24]; /* storage class of an object that must be restored first; "": readable */
	bool restoring;   /* the restoration is in progress */
	bool ends_page;   /* the last object of a page of the listing */
};

/* Returns -ERR_UNSUPPORTED for an object that must be restored before it can be read. */
int s3_object_check_archive(const char *bucket, const struct s3_object *o, struct error *err);

/* Whether two objects with one key are certainly different versions, by ETag or size, as far as
 * both are known (SIZE_UNKNOWN: unknown). */
bool s3_object_differs(const struct s3_object *is, const struct s3_object *was);

/* The requests below are for worker threads and sleep. Transient failures are retried
 * (network.retries, backoff, SlowDown). Errors: -ENOENT for NoSuchKey, -EEXIST for 412 (if_absent),
 * -EACCES for 403, -ECANCELED, otherwise -ERR_HTTP. */

/* Reads bytes [offset, offset + len) into buf; *ret_len is less than len only if the object is
 * shorter. expected: the version that must be read, by its ETag ("": unknown) and size;
 * -ERR_CHANGED for any other, even from a server that ignores If-Match. NULL: any version. *ret
 * (may be NULL) is filled from the answer. */
int s3_get(struct s3_client *c, const char *bucket, const char *key, uint64_t offset, void *buf,
	size_t len, const struct s3_object *expected, size_t *ret_len, struct s3_object *ret,
	struct error *err);
int s3_head(struct s3_client *c, const char *bucket, const char *key, struct s3_object *ret,
	struct error *err);
/* A retry after a lost answer may return -EEXIST for the caller's own object. */
int s3_put(struct s3_client *c, const char *bucket, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err);
/* Objects that do not exist are no error. */
int s3_delete(struct s3_client *c, const char *bucket, const char *const *keys, size_t n,
	struct error *err);

/* Lists the keys with the prefix, in order, after start_after (NULL: from the first one). delimiter
 * '/': common prefixes are included, with size SIZE_UNKNOWN and a key that ends in '/'; '\0': all
 * keys. A negative result of each() ends the listing and is returned. */
int s3_list(struct s3_client *c, const char *bucket, const char *prefix, const char *start_after,
	char delimiter, int (*each)(void *ctx, const struct s3_object *o, struct error *err),
	void *ctx, struct error *err);

/* The identity of a listing, as if it were one object: a digest of keys, ETags and sizes for an
 * ETag, and the sum of the sizes. */
struct s3_tally;
struct s3_tally *s3_tally_new(void);                              /* never NULL */
void s3_tally_add(struct s3_tally *t, const struct s3_object *o); /* in the order of the listing */
void s3_tally_free(struct s3_tally *t, struct identity *ret);     /* sets *ret and frees t */

/* Multipart uploads. Parts are numbered from 1, may be sent by any clients, and have at least 5
 * MiB, except for the last. *ret_id is a heap string. */
int s3_upload_begin(
	struct s3_client *c, const char *bucket, const char *key, char **ret_id, struct error *err);
int s3_upload_part(struct s3_client *c, const char *bucket, const char *key, const char *id,
	unsigned number, const void *bytes, size_t len, char ret_etag[static 128],
	struct error *err);
int s3_upload_complete(struct s3_client *c, const char *bucket, const char *key, const char *id,
	const char (*etags)[128], unsigned n, struct error *err);
int s3_upload_abort(struct s3_client *c, const char *bucket, const char *key, const char *id,
	struct error *err);
/* Lists the unfinished uploads below the prefix. begun 0: unknown. */
int s3_uploads(struct s3_client *c, const char *bucket, const char *prefix,
	int (*each)(void *ctx, const char *key, const char *id, time_t begun, struct error *err),
	void *ctx, struct error *err);

/* Selects keys. */
struct s3_chooser {
	bool (*is_chosen)(void *ctx, const char *key);
	void *ctx;
};
/* Deletes all versions and delete markers of the selected keys below the prefix. */
int s3_delete_versions(struct s3_client *c, const char *bucket, const char *prefix,
	const struct s3_chooser *which, struct error *err);
/* Whether the bucket has versioning, or once had (then it is "Suspended"). */
int s3_is_versioned(struct s3_client *c, const char *bucket, bool *ret, struct error *err);

/* Worker threads. Opens an object as parallel ranges through the transfer engine, as
 * transfer_object_open() does. */
int s3_object_open(struct s3 *s, struct transfer *t, const char *bucket, const char *key,
	const struct identity *have, enum object_want want, struct progress *progress,
	struct cancel *cancel, struct object **ret, struct error *err);

#endif
