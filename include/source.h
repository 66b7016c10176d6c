/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SOURCE_H
#define STAGERUN_SOURCE_H

#include "cancel.h"
#include "object.h"
#include "progress.h"

/* Anything bytes come from, by URL scheme: http://, https://, s3://, file:// and plain paths. A new scheme
 * is one file in agent/source and one line in the table in source.c. */

struct transfer;
struct s3;

struct source_env {
	struct transfer *transfer; /* for the schemes that need the network */
	struct s3 *s3;             /* for s3:// */
	struct cancel *cancel;
};

struct source_request {
	const char *url;             /* or a plain path */
	const struct identity *have; /* a version at hand, or NULL; see object.not_modified */
	enum object_want want;
	struct progress *progress; /* may be NULL; outlives the object */
};

/* Without any I/O: is the scheme known and the URL well-formed? 0 or -ERR_USAGE with a sentence. */
int source_check(const char *url, struct error *err);

/* Whether its bytes come over a network. */
bool source_is_remote(const char *url);

/* Worker threads; sleeps until the size and identity are known. Connection problems were retried. */
int source_open(const struct source_env *env, const struct source_request *req, struct object **ret,
	struct error *err);

/* All three: heap strings, the caller's to free. */
char *source_display(const char *url); /* for people: no user, password, query or fragment */
char *source_key(const char *url);     /* names the source in state files: no user and password, no
				      signature parameters (X-Amz-*, X-Goog-*, sig, Signature, ...) */
char *source_file_name(const char *url); /* last path component, percent-decoded; never "" or with
					    a '/', "." or "..": then "data" */

/* The path of a file:// URL, percent-decoded; NULL when it names another host. Heap string. */
char *url_file_path(const char *url);

/* One row of the scheme table. */
struct source_scheme {
	const char *prefix; /* "https://"; matched without regard to case */
	int (*check)(const char *url, struct error *err); /* may be NULL */
	int (*open)(const struct source_env *env, const struct source_request *req,
		struct object **ret, struct error *err);
};

#endif
