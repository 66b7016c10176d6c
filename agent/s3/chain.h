/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_S3_CHAIN_H
#define STAGERUN_S3_CHAIN_H

#include "call.h"
#include "credentials.h"
#include "profile.h"
#include <time.h>

/* One search for credentials: the providers are asked in the SDKs' order, on one worker thread.
 *
 *   chain              the table of providers, and how it is gone through
 *   from_environment   variables
 *   from_profile       the shared files, and roles that a profile takes on
 *   from_process       credential_process
 *   from_web_identity  a token in a file, for STS
 *   from_container     ECS and EKS
 *   from_instance      EC2
 *   sts, sts_answer    what STS is asked, and what it says
 *   found              what all of them give */

struct found {
	struct credentials_value value;
	time_t expires; /* 0: never */
};

struct search {
	const struct credentials_options *opts;
	struct cancel *cancel;
	struct shared_files *files; /* NULL: they could not be read, see files_err */
	struct error files_err;
	struct caller *caller; /* made when it is needed */
};

enum { NOTHING_FOUND = 1 }; /* what a provider returns that looked and found it has none */

struct provider {
	/* Where its credentials come from; NULL: it is not configured. Heap. No I/O. */
	char *(*source)(const struct search *s);
	/* Worker threads. 0, NOTHING_FOUND, or why what is configured failed. */
	int (*find)(struct search *s, struct found *ret, struct error *err);
	const char *doubt;     /* after the source, before it was asked; NULL: none */
	const char *looked_at; /* what it needs, for the message when nobody has any */
};

/* chain */
int chain_find(const struct credentials_options *opts, struct cancel *cancel, struct found *ret,
	char **ret_source, struct error *err);
char *chain_describe(const struct credentials_options *opts);

/* the providers */
extern const struct provider from_chosen_profile, from_environment, from_web_identity,
	from_shared_files, from_container, from_instance;

/* What profiles make use of. */
int credential_process_find(
	struct search *s, const char *command, struct found *ret, struct error *err);

/* found */
/* Copies, and hides the secrets from the log. secret must not be NULL. */
void found_set(struct found *f, const char *access_key, const char *secret_key,
	const char *session_token, time_t expires);
void found_done(struct found *f);
/* The JSON of containers, instances and processes, alike but for the name of the token. */
int found_parse(
	const char *json, size_t len, const char *token, struct found *ret, struct error *err);
/* "2026-01-31T10:00:00Z", also with fractions and offsets. */
int found_parse_time(const char *s, time_t *ret, struct error *err);

/* Asks, and again when it is worth it, tries times in all. An answer of 2xx, or an error. */
struct question {
	struct call call;
	unsigned tries;
	bool takes_any_status; /* all but 429 and 5xx are answers */
};
int search_ask(struct search *s, const struct question *q, struct reply *ret, struct error *err);
/* The file's only line. Heap. -errno. */
int search_read_token(const char *path, char **ret, struct error *err);

/* sts */
struct sts_question {
	const char *action;
	const char *const
		*parameters; /* name, value, ..., NULL; those without a value are left out */
	const struct credentials_value *signer; /* NULL: not signed */
	const char *region; /* where nothing that is in force for all says one; may be NULL */
};
int sts_ask(
	struct search *s, const struct sts_question *asked, struct found *ret, struct error *err);

struct web_identity {
	const char *token_file, *role;
	const char *session, *region; /* may be NULL */
};
int web_identity_find(
	struct search *s, const struct web_identity *w, struct found *ret, struct error *err);

/* sts_answer */
struct sts_answer {
	struct text access_key, secret_key, session_token, expiration;
	struct text code, message; /* of an error */
};
bool sts_answer_parse(const char *xml, size_t len, struct sts_answer *ret); /* false: no XML */
void sts_answer_done(struct sts_answer *a);

#endif
