/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_S3_PRIVATE_H
#define STAGERUN_S3_PRIVATE_H

#include "call.h"
#include "s3.h"
#include "s3_fault.h"
#include "text.h"
#include <pthread.h>

/* What S3's files share:
 *
 *   s3        one configuration; whose keys
 *   s3_where  endpoint, style, regions
 *   place     s3://bucket/key
 *   encode    percent-encoding of keys and queries
 *   s3_client one thread's connection: signs, sends, retries
 *   s3_fault  what an answer that is no success means: again, or why not (no I/O)
 *   s3_advice what to do about it (no I/O)
 *   xml       S3's answers (no I/O)
 *   s3_object get, head, put; s3_delete, s3_list, s3_upload, s3_uploads, s3_versions: the other requests
 *   s3_stream an object through the transfer engine */

struct s3 {
	/* Set at creation. */
	const char *profile;
	char *const *environment;
	enum s3_style style;
	enum s3_sign sign;
	const char *ca_file; /* AWS_CA_BUNDLE, when nothing else is configured; NULL: none */
	struct transfer_options network;
	struct credentials *credentials;

	/* Under lock. */
	pthread_mutex_t lock;
	bool settled;   /* then constant: */
	char *endpoint; /* without a '/' at its end; NULL: AWS's, by region */
	char *region;   /* as configured; NULL: none */
	struct found_region *found;
	char *no_credentials; /* auto: why requests are not signed; NULL: they are, or nobody has asked yet */
};

struct s3_client {
	struct s3 *s3;
	struct caller *caller;
	struct cancel *cancel;
};

/* Any thread. */
char *s3_clean_endpoint(const char *url);            /* heap; NULL for NULL */
bool s3_ignores_endpoints(char *const *environment); /* those of environment and profile */
void s3_forget_regions(struct s3 *s);
/* Before the others: it also looks at the profile. */
char *s3_region_of(struct s3 *s, const char *bucket);                       /* heap */
bool s3_found_region(struct s3 *s, const char *bucket, const char *region); /* false: no news */
char *s3_url(const struct s3 *s, const char *region, const char *bucket, const char *key,
	const char *query);
char *s3_endpoint_of(
	const struct s3 *s, const char *region); /* "https://s3.eu-west-1.amazonaws.com"; heap */
/* Worker threads. 1 and *ret filled; 0: requests are not signed. */
int s3_keys(struct s3 *s, struct cancel *cancel, struct credentials_value *ret, struct error *err);
char *s3_who(struct s3 *s); /* whose credentials, for messages; heap */

/* encode */
void s3_encode(struct text *t, const char *s, bool keep_slashes);
char *s3_decode(const char *s); /* of encoding-type=url; NULL when it holds a NUL. Heap */
void s3_query_add(
	struct text *query, const char *name, const char *value); /* in the order of names */

/* One request to be made, as often as it takes. */
struct s3_request {
	const char *method;
	const char *doing; /* "read", for messages: what cannot be done */
	const char *bucket;
	const char *key;   /* NULL: the bucket itself */
	const char *query; /* encoded and sorted; NULL: none */
	const char *const *headers;
	const void *body;
	size_t body_len;
	void *into;
	size_t into_len;
	const char *permission; /* what IAM calls it: "s3:GetObject" */
	long also;              /* this status is an answer too; 0: none */
	bool late_error;        /* 200 may be followed by an error */
};

/* Worker threads. 0: *ret is a 2xx answer (or also), the caller's. *ret_attempts (may be NULL): sent so often. */
int s3_perform(struct s3_client *c, const struct s3_request *what, struct reply *ret,
	unsigned *ret_attempts, struct error *err);
int s3_pause(struct s3_client *c, uint64_t ms, struct error *err); /* -ECANCELED */

/* xml. Called at the end of each element: its path below the root ("Contents/Key"; "" is the root) and its
 * text. */
typedef int (*s3_xml_on_end)(void *ctx, const char *path, const char *text, struct error *err);
int s3_xml_read(const char *bytes, size_t len, const char *root, s3_xml_on_end on_end, void *ctx,
	struct error *err);
/* Of a 2xx answer; says whose it was. */
int s3_xml_answer(const struct s3_request *what, const struct reply *reply, const char *root,
	s3_xml_on_end on_end, void *ctx, struct error *err);
void s3_xml_escape(struct text *t, const char *s);

/* times: "2026-11-25T19:10:04.123Z" and "Wed, 25 Nov 2026 19:10:04 GMT"; 0 for others */
time_t s3_time(const char *s);
void s3_copy_etag(char to[static 128], const char *etag); /* with quotes; "" when it is too long */

/* One key to delete; version NULL: the present one. */
struct s3_doomed {
	const char *key, *version;
};
enum { S3_PAGE = 1000 }; /* keys in one request, and in one answer */
int s3_delete_page(struct s3_client *c, const char *bucket, const struct s3_doomed *v, size_t n,
	struct error *err);

#endif
