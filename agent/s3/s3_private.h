/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_S3_PRIVATE_H
#define STAGERUN_S3_PRIVATE_H

#include "call.h"
#include "error.h"
#include "s3.h"
#include "text.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

/* Requests to S3. The search for credentials, in the same room, has its own map:
 * credentials_private.h.
 *
 *   s3.c           one configuration: s3://bucket/key, endpoints, regions, signing or not
 *   s3_client.c    the connection of one thread: signs, sends, retries
 *   s3_object.c    get, head, put, multipart uploads
 *   s3_list.c      lists objects and unfinished uploads; the tally of a listing
 *   s3_delete.c    deletes objects
 *   s3_versions.c  buckets with versioning
 *   s3_stream.c    reads an object through the transfer engine
 *   s3_fault.c     classifies errors of S3 and STS; the table of advice (no I/O)
 *   xml.c          parses S3's answers (no I/O)
 *   encode.c       percent-encoding, dates, ETags (no I/O)
 *
 * Threads: a struct s3 is shared by all threads. A struct s3_client belongs to one worker thread,
 * and its functions sleep. The transfer engine calls s3_stream.c back on the loop thread, which
 * never sleeps. */

/* --- one configuration (s3.c) --- */

/* The environment, with cleaned values (text_clean_value()) of the variables that are read here. */
struct s3_variables {
	/* NULL-terminated. Owned are the array and the strings in cut; the other strings are the
	 * caller's. */
	char **environment;
	struct strings cut;
	struct error fault; /* an unusable value: no request is sent; code 0: there is none */
};

/* chain.c. Logs a warning for each value that it changes. sign: also clean the variables of
 * credentials. */
void s3_variables_init(struct s3_variables *v, char *const *environment, bool sign);
void s3_variables_done(struct s3_variables *v);

struct s3 {
	/* Set at creation. */
	const char *profile;
	struct s3_variables variables;
	char *const *environment; /* that of variables */
	enum s3_style style;
	enum s3_sign sign;
	const char *ca_file; /* network.ca_file, or AWS_CA_BUNDLE; NULL: none */
	struct transfer_options network;
	struct credentials *credentials;

	/* Any thread. */
	atomic_bool warned_of_files; /* a warning of skipped files has been logged */
	atomic_bool no_multi_delete; /* the server does not support POST ?delete */

	/* Under lock. */
	pthread_mutex_t lock;
	bool profile_read; /* endpoint and region are constant from then on */
	char *endpoint;    /* without a '/' at its end; NULL: AWS's, which depends on the region */
	char *region;      /* as configured; NULL: none */
	struct found_region *found;
	/* For S3_SIGN_AUTO: why requests are not signed. NULL: they are, or it is unknown yet. */
	char *no_credentials;
};

/* Any thread. s3_region_of() has to be called first: it also reads the profile, on which the
 * endpoint depends. Strings are heap strings. */
char *s3_region_of(struct s3 *s, const char *bucket);
/* Stores the region of a bucket, as the server stated it. False: it was known, or is malformed. */
bool s3_set_region(struct s3 *s, const char *bucket, const char *region);
/* key NULL: the bucket itself. query is encoded; NULL: none. */
char *s3_url(const struct s3 *s, const char *region, const char *bucket, const char *key,
	const char *query);
bool s3_is_aws(const struct s3 *s);
/* -ERR_UNSUPPORTED for buckets that are not supported. */
int s3_check_bucket(const struct s3 *s, const char *bucket, struct error *err);
char *s3_shown_endpoint(const struct s3 *s, const char *region); /* for messages */
/* Whether the endpoints in the environment and the profile are to be ignored. */
bool s3_ignores_endpoints(char *const *environment);
/* Where the credentials come from, or why there are none: for messages. */
char *s3_credentials_source(struct s3 *s);

/* Worker threads, sleeps. 1: requests are signed with *ret, which the caller frees; 0: requests are
 * not signed. */
int s3_keys(struct s3 *s, struct cancel *cancel, struct credentials_value *ret, struct error *err);

/* --- requests (s3_client.c) --- */

/* Its worker thread. */
struct s3_client {
	struct s3 *s3;
	struct caller *caller;
	struct cancel *cancel; /* may be NULL */
	uint64_t limit_ms;     /* for a request with all its attempts; 0: none */
};

/* A request, with all its attempts. */
struct s3_request {
	const char *method;
	const char *doing; /* "read": the verb for messages */
	const char *bucket;
	const char *key;   /* NULL: the bucket itself */
	const char *query; /* encoded and sorted; NULL: none */
	const char *const *headers;
	const void *body;
	size_t body_len;
	void *into; /* as in struct call */
	size_t into_len;
	const char *permission; /* the IAM action, for messages: "s3:GetObject" */
	long also_status;       /* another status that is a success; 0: none */
	bool *ret_unknown;      /* set if the server does not support this request; may be NULL */
	bool late_error;        /* the body of a 200 answer may contain an error */
};

/* Worker threads. 0: *ret is an answer with a 2xx status or also_status, which the caller frees.
 * *ret_attempts (may be NULL) is set to the number of attempts. */
int s3_perform(struct s3_client *c, const struct s3_request *what, struct reply *ret,
	unsigned *ret_attempts, struct error *err);
/* Milliseconds of CLOCK_BOOTTIME, which includes the time during which the machine is suspended:
 * leases expire then, too. Any thread. */
uint64_t s3_clock_ms(void);
/* Sleeps. -ECANCELED if c is cancelled. */
int s3_pause(struct s3_client *c, uint64_t ms, struct error *err);

/* One object to delete. */
struct s3_deletion {
	const char *key, *version; /* version NULL: the present one */
};
enum { S3_PAGE = 1000 }; /* the most keys in a request, and in an answer */
/* s3_delete.c. At most S3_PAGE. */
int s3_delete_page(struct s3_client *c, const char *bucket, const struct s3_deletion *v, size_t n,
	struct error *err);

/* --- listings (s3_list.c). Pure --- */

/* The position in a listing. It detects servers and proxies that send the same page forever. */
struct s3_cursor {
	char *key;  /* the last key, or where the next page begins; NULL: before the first page */
	char *more; /* distinguishes positions with the same key; may be NULL */
	unsigned stalled; /* consecutive pages at the same key */
};
/* Moves to the start of the next page. -ERR_HTTP if that is no progress. */
int s3_cursor_move(struct s3_cursor *at, const char *key, const char *more,
	const struct s3_request *what, struct error *err);
void s3_cursor_done(struct s3_cursor *at);

/* --- encodings (encode.c). Pure --- */

void s3_encode(struct text *t, const char *s, bool keep_slashes);
/* Decodes keys of a listing with encoding-type=url (heap). NULL if there is a NUL in it. */
char *s3_decode(const char *s);
/* Appends a parameter. Signatures require the order of the names. */
void s3_query_add(struct text *query, const char *name, const char *value);
/* "2026-11-25T19:10:04.123Z" and "Wed, 25 Nov 2026 19:10:04 GMT"; 0 for others. */
time_t s3_time(const char *s);
/* Copies an ETag, with quotes; "" if it is too long. */
void s3_copy_etag(char to[static 128], const char *etag);

/* --- XML (xml.c). Pure --- */

/* Called at the end of each element, with its path below the root ("Contents/Key"; "": the root)
 * and its text. A negative result ends the parsing and is returned. */
typedef int (*s3_xml_on_end)(void *ctx, const char *path, const char *text, struct error *err);
/* -ERR_FORMAT if it is not XML with that root element. */
int s3_xml_read(const char *bytes, size_t len, const char *root, s3_xml_on_end on_end, void *ctx,
	struct error *err);
/* s3_xml_read() for a successful answer; errors name the request. */
int s3_xml_answer(const struct s3_request *what, const struct reply *reply, const char *root,
	s3_xml_on_end on_end, void *ctx, struct error *err);
void s3_xml_escape(struct text *t, const char *s);

/* --- errors (s3_fault.c). Pure --- */

/* An answer that is no success. */
struct s3_fault {
	long status;
	char code[64], message[256]; /* "" without a body */
	int is_page;                 /* the body is not S3's, but that of a proxy */
	char request_id[96];
	char region[32]; /* of the bucket; "": the answer does not state it */
	time_t date;     /* the server's clock; 0: the answer does not state it */
};

/* What a message needs to know of the request. */
struct s3_subject {
	const char *doing;        /* "read" */
	const char *bucket, *key; /* key NULL: the bucket itself */
	const char *permission;   /* "s3:GetObject" */
	const char *endpoint, *region;
	const char *who; /* source of the credentials, or why there are none */
	int is_signed;
};

enum s3_verdict {
	S3_FINAL,  /* permanent */
	S3_LATER,  /* transient */
	S3_SLOWER, /* transient, and the server asks for fewer requests */
	S3_RENEW,  /* retry with new credentials */
	S3_MOVED,  /* the bucket is in fault.region */
};

/* Initializes *f. body: that of the answer, may be empty. */
void s3_fault_read(struct s3_fault *f, long status, const char *body, size_t len);
/* Adds the values of headers, each of which may be NULL. */
void s3_fault_headers(
	struct s3_fault *f, const char *request_id, const char *region, const char *date);
enum s3_verdict s3_fault_classify(const struct s3_fault *f, const char *asked_region);
/* Whether the server does not support the request at all. */
bool s3_fault_is_unknown(const struct s3_fault *f, const char *asked_region);
/* Sets and returns the error: -ENOENT (only if S3 states that the object does not exist), -EEXIST
 * for 412, -EACCES for 403, or -ERR_HTTP. */
int s3_fault_error(const struct s3_fault *f, const struct s3_subject *what, struct error *err);

enum s3_service { S3_S3, S3_STS };
/* The advice for a code and message of either service; NULL: none. */
const char *s3_advice_on(enum s3_service service, const char *code, const char *message);

/* Buckets of S3 Express One Zone, which need other requests and sessions. */
#define S3_DIRECTORY_BUCKET \
	"it is a directory bucket (S3 Express One Zone), and those are not supported: copy what " \
	"is " \
	"needed to a general purpose bucket"
bool s3_is_directory_bucket(const char *bucket);

#endif
