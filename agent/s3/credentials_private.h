/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREDENTIALS_PRIVATE_H
#define STAGERUN_CREDENTIALS_PRIVATE_H

#include "call.h"
#include "credentials.h"
#include "error.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

/* The search for AWS credentials: the providers are queried in the order of the SDKs.
 *
 *   credentials.c     the current credentials; the thread that renews them
 *   chain.c           the table of providers, keys in the environment, requests with retries
 *   profile.c         parses the files that the AWS tools share; the providers for profiles, and
 *                     the roles that a profile assumes
 *   from_process.c    credential_process
 *   from_container.c  the provider for ECS and EKS
 *   from_instance.c   the provider for EC2
 *   sts.c             requests to STS; the provider for web identities
 *
 * Threads: a search runs on one worker thread, or on the renewal thread. It sleeps. Only struct
 * credentials is shared. */

/* --- the search (chain.c) --- */

/* Credentials that a provider found. Owned by the holder; free with credentials_found_done(). */
struct credentials_found {
	struct credentials_value value;
	time_t expires; /* 0: never */
};

/* One search; belongs to its thread. */
struct credentials_search {
	const struct credentials_options *opts;
	struct cancel *cancel;
	struct shared_files *files; /* NULL: they could not be read, see files_err */
	struct error files_err;
	struct caller *caller; /* created by the first request */
	/* A likely reason why a provider found nothing, for the message; NULL: none. */
	const char *note;
};

/* Returned by a provider that has no credentials. */
enum { NOTHING_FOUND = 1 };

struct provider {
	/* Where the credentials would come from (heap); NULL: the provider is not configured. No
	 * I/O. */
	char *(*source)(const struct credentials_search *s);
	/* Sleeps. 0; NOTHING_FOUND; or the error of a provider that is configured. */
	int (*find)(struct credentials_search *s, struct credentials_found *ret, struct error *err);
	const char *caveat; /* appended to the source before a search; NULL: none */
	const char
		*looked_at; /* what it reads, for the message that there are none; NULL: nothing */
};

extern const struct provider from_chosen_profile, from_environment, from_named_profile,
	from_web_identity, from_shared_files, from_container, from_instance;

/* Queries the providers. *ret_source (heap) is where the credentials come from. -ENOKEY: no
 * provider has any. */
int chain_find(const struct credentials_options *opts, struct cancel *cancel,
	struct credentials_found *ret, char **ret_source, struct error *err);
/* The source that a search would use (heap). Reads the shared files only. */
char *chain_describe(const struct credentials_options *opts);

/* Copies the strings, and hides the secrets from the log. secret_key must not be NULL. */
void credentials_found_set(struct credentials_found *f, const char *access_key,
	const char *secret_key, const char *session_token, time_t expires);
void credentials_found_done(struct credentials_found *f);
/* Parses the JSON of containers, instances and processes, which differs only in the name of the
 * token's member. */
int credentials_found_parse(const char *json, size_t len, const char *token,
	struct credentials_found *ret, struct error *err);
/* "2026-01-31T10:00:00Z", also with fractions and offsets. -ERR_FORMAT. */
int credentials_parse_time(const char *s, time_t *ret, struct error *err);

/* A request to a service that issues credentials. */
struct service_request {
	struct call call;
	/* Attempts without any answer, from a service that has answered before or may be absent. */
	unsigned tries;
	/* The service may not exist: the patience of [network] does not apply. */
	bool may_be_absent;
	/* How long transient refusals are retried, from the first one on: those of
	 * credentials_search_is_busy() and of is_transient(). */
	unsigned patience_s;
	/* Whether an answer is a transient refusal. Sets ret_code to the code in it, or "". May be
	 * NULL. */
	bool (*is_transient)(const struct reply *r, char ret_code[static 64]);
	/* Answers with any other status are returned, and in the end transient refusals as well. */
	bool takes_any_status;
};
/* Whether the status means that the service is busy, or has only just started. */
bool credentials_search_is_busy(long status);
/* Sends the request until there is a 2xx answer (*ret, which the caller frees) or an error.
 * Transient failures are retried with pauses that grow and are random, so that clients that were
 * refused together do not return together: a service that is busy or starting is no reason to
 * continue with other credentials. */
int credentials_search_ask(struct credentials_search *s, const struct service_request *q,
	struct reply *ret, struct error *err);
/* Reads a file with one line, cleaned, into *ret (heap). named_by: the variable or key that names
 * the file, for messages. -errno, -ERR_CONFIG, -ERR_FORMAT. */
int credentials_search_read_token(
	const char *path, const char *named_by, char **ret, struct error *err);

/* The value of a variable; NULL if it is not set or empty (profile.c). */
const char *credentials_variable(char *const *environment, const char *name);

/* --- credential_process (from_process.c) --- */

int from_process_find(struct credentials_search *s, const char *command,
	struct credentials_found *ret, struct error *err);

/* --- STS (sts.c) --- */

struct sts_request {
	const char *action;
	/* Name, value, ..., NULL. Parameters with the value NULL are omitted. */
	const char *const *parameters;
	const struct credentials_value *signer; /* NULL: not signed */
	/* Used if neither agent.ini nor the environment has a region; may be NULL. */
	const char *region;
};
int sts_ask(struct credentials_search *s, const struct sts_request *asked,
	struct credentials_found *ret, struct error *err);

struct web_identity {
	const char *token_file, *role;
	const char *named_by;         /* the variable or key that names the file */
	const char *session, *region; /* may be NULL */
};
int sts_web_identity_find(struct credentials_search *s, const struct web_identity *w,
	struct credentials_found *ret, struct error *err);

/* The elements of an answer; empty: missing. */
struct sts_answer {
	struct text access_key, secret_key, session_token, expiration;
	struct text code, message; /* of an error */
};
/* Pure. False: it is not XML; *ret has what was parsed before. Free *ret in any case. */
bool sts_answer_parse(const char *xml, size_t len, struct sts_answer *ret);
void sts_answer_done(struct sts_answer *a);

/* --- the shared files (profile.c) ---
 *
 * ~/.aws/credentials and ~/.aws/config, or the paths in AWS_SHARED_CREDENTIALS_FILE and
 * AWS_CONFIG_FILE. https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html */

struct shared_files;

/* Missing files count as empty, and so do unreadable files at their default paths, because HOME may
 * belong to another user: see profile_files_warn_skipped(). A file that a variable names must be
 * readable: -errno. -ERR_CONFIG for malformed lines. */
int profile_files_read(char *const *environment, struct shared_files **ret, struct error *err);
void profile_files_free(struct shared_files *f); /* accepts NULL */

/* A value of the profile, from the credentials file if it is there; NULL: none. "s3.endpoint_url"
 * is endpoint_url nested in "s3 =". Valid as long as f. */
const char *profile_files_value(const struct shared_files *f, const char *profile, const char *key);
/* "/root/.aws/credentials and /root/.aws/config", and the skipped ones (heap). */
char *profile_files_names(const struct shared_files *f);

/* Logs a warning of skipped files, once: unless *told is set, which it sets. told NULL: logs
 * nothing. */
void profile_files_warn_skipped(const struct shared_files *f, atomic_bool *told);

/* The name of the selected profile: chosen (agent.ini's), else AWS_PROFILE, else
 * AWS_DEFAULT_PROFILE, else "default". */
const char *profile_name(char *const *environment, const char *chosen);
/* The endpoint of S3: endpoint_url of "s3" in [services], or of the profile. NULL: not set. Valid
 * as long as f. */
const char *profile_endpoint(const struct shared_files *f, const char *profile);

#endif
