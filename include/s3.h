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

/* S3 and what speaks its language (Ceph, MinIO, R2): requests for objects, signed and retried, and errors
 * that say status, S3's code and message, request id, endpoint, bucket, key, credentials' source and the
 * likely fix. https://docs.aws.amazon.com/AmazonS3/latest/API/ */

enum s3_style { S3_STYLE_AUTO, S3_STYLE_PATH, S3_STYLE_VIRTUAL };
enum s3_sign {
	S3_SIGN_AUTO,
	S3_SIGN_YES,
	S3_SIGN_NO
}; /* auto: unless there are no credentials at all */

struct s3_options {
	const char *endpoint; /* "" : AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS itself */
	const char
		*region; /* "" : AWS_REGION, AWS_DEFAULT_REGION, the profile's, found, us-east-1 */
	const char *profile;
	enum s3_style style;
	enum s3_sign sign;
	const struct transfer_options *network; /* ca_file "": AWS_CA_BUNDLE */
	char *const *environment;
};

/* One configuration: credentials, and the regions found for buckets. Any thread. */
struct s3;
struct s3 *s3_new(const struct s3_options *opts); /* no I/O; strings outlive it */
void s3_free(struct s3 *s);                       /* accepts NULL */
char *s3_describe(
	struct s3 *s); /* "https://host (region us-east-1), credentials: ...", for dry runs */

struct s3_place {
	char *bucket;
	char *key; /* as it is, not percent-encoded; "" for the whole bucket */
};
/* "s3://bucket/key" -> place. -ERR_USAGE. */
int s3_place_parse(const char *url, struct s3_place *ret, struct error *err);
void s3_place_done(struct s3_place *p);
bool s3_place_is_prefix(const struct s3_place *p); /* the whole bucket, or a key that ends in '/' */

/* One thread's connection to S3. */
struct s3_client;
int s3_client_new(struct s3 *s, struct cancel *cancel, struct s3_client **ret, struct error *err);
void s3_client_free(struct s3_client *c); /* accepts NULL */

/* What is known of an object. Strings are valid during the callback, or in a struct s3_answer. */
struct s3_object {
	const char *key;
	uint64_t size;
	time_t modified;
	char etag[128]; /* quotes included */
};

/* All of these: worker threads; transient trouble is retried (network.retries, backoff, SlowDown); -ENOENT
 * for NoSuchKey, -EEXIST for 412 to if_absent, -ERR_CHANGED for 412 to if_match, -EACCES for 403,
 * -ERR_HTTP else. */

/* Bytes [offset, offset + len) into buf; fewer only when the object ends before (*ret_len). if_match may be
 * NULL; *ret (may be NULL) is filled from the answer. */
int s3_get(struct s3_client *c, const char *bucket, const char *key, uint64_t offset, void *buf,
	size_t len, const char *if_match, size_t *ret_len, struct s3_object *ret,
	struct error *err);
int s3_head(struct s3_client *c, const char *bucket, const char *key, struct s3_object *ret,
	struct error *err);
int s3_put(struct s3_client *c, const char *bucket, const char *key, const void *bytes, size_t len,
	bool if_absent, struct error *err);
int s3_delete(struct s3_client *c, const char *bucket, const char *const *keys, size_t n,
	struct error *err);

/* Keys with the prefix, in order, after start_after (NULL: from the first). delimiter '/': common prefixes
 * come too, with size SIZE_UNKNOWN and the key ending in '/'; '\0': all keys. each() returns < 0 to stop
 * with that code. */
int s3_list(struct s3_client *c, const char *bucket, const char *prefix, const char *start_after,
	char delimiter, int (*each)(void *ctx, const struct s3_object *o, struct error *err),
	void *ctx, struct error *err);

/* What a listing amounts to, as if all of it were one object: a digest over keys, ETags and sizes for an ETag,
 * the sum of the sizes. Never NULL. */
struct s3_tally;
struct s3_tally *s3_tally_new(void);
void s3_tally_add(struct s3_tally *t, const struct s3_object *o); /* in the order of the listing */
void s3_tally_free(struct s3_tally *t, struct identity *ret);

/* Multipart uploads: parts of 5 MiB and more but for the last, numbered from 1, by any clients. */
int s3_upload_begin(
	struct s3_client *c, const char *bucket, const char *key, char **ret_id, struct error *err);
int s3_upload_part(struct s3_client *c, const char *bucket, const char *key, const char *id,
	unsigned number, const void *bytes, size_t len, char ret_etag[static 128],
	struct error *err);
int s3_upload_complete(struct s3_client *c, const char *bucket, const char *key, const char *id,
	const char (*etags)[128], unsigned n, struct error *err);
int s3_upload_abort(struct s3_client *c, const char *bucket, const char *key, const char *id,
	struct error *err);
/* Uploads under way below the prefix. */
int s3_uploads(struct s3_client *c, const char *bucket, const char *prefix,
	int (*each)(void *ctx, const char *key, const char *id, time_t begun, struct error *err),
	void *ctx, struct error *err);
/* All versions and delete markers below the prefix, where the bucket keeps them: removed. */
int s3_delete_versions(
	struct s3_client *c, const char *bucket, const char *prefix, struct error *err);
/* Whether the bucket keeps versions ("Enabled" or "Suspended" once). */
int s3_is_versioned(struct s3_client *c, const char *bucket, bool *ret, struct error *err);

/* Worker threads. One object through the transfer engine, as parallel ranges, for sources: as
 * http_object_open(). */
int s3_object_open(struct s3 *s, struct transfer *t, const char *bucket, const char *key,
	const struct identity *have, enum object_want want, struct progress *progress,
	struct cancel *cancel, struct object **ret, struct error *err);

#endif
