/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SOURCE_H
#define STAGERUN_SOURCE_H

#include "cancel.h"
#include "object.h"
#include "progress.h"
#include "text.h"
#include <time.h>

/* Sources of bytes, by URL scheme: http://, https://, s3://, file:// and plain paths. A new scheme
 * is one file in agent/source and one line in the table in source.c. The parts of a split file are
 * one URL after source_join(), and one object with one version. Functions on text are for any
 * thread. */

struct transfer;
struct s3;

struct source_env {
	struct transfer *transfer; /* for the schemes that need the network */
	struct s3 *s3;             /* for s3:// */
	struct cancel *cancel;
};

struct source_request {
	const char *url; /* or a plain path */
	/* the version that the caller has, or NULL; see object.not_modified */
	const struct identity *have;
	enum object_want want;
	struct progress *progress; /* may be NULL; outlives the object */
};

/* Returns one URL for several parts, the caller's to free. NULL: a part is empty or contains a line
 * feed. */
char *source_join(char *const *parts, size_t n);

/* Checks without I/O that the scheme is known and the URL well-formed. 0 or -ERR_USAGE. */
int source_check(const char *url, struct error *err);

/* Whether url, or one of its parts, starts with prefix, compared without regard to case. */
bool source_begins(const char *url, const char *prefix);

/* Whether its bytes come over a network. */
bool source_is_remote(const char *url);

/* Worker threads. Sleeps until size and identity are known; transient failures have been retried
 * already. *ret is the caller's to close. */
int source_open(const struct source_env *env, const struct source_request *req, struct object **ret,
	struct error *err);

/* The following three return heap strings, the caller's to free: as the functions of url.h, also
 * for several parts. */
char *source_display(const char *url); /* for messages: no user, password, query or fragment */
/* Identifies the source in state files: no user and password, no signature parameters (X-Amz-*,
 * X-Goog-*, sig, Signature, ...). */
char *source_key(const char *url);
/* The last path component, percent-decoded. "data" if that is "", "." or "..", or contains a
 * '/'. */
char *source_file_name(const char *url);

/* Adds the names that the URL has for its object: first the last component of its path, and then,
 * if that is the name of a program rather than a file, the values of its parameters. */
void source_names(const char *url, struct strings *ret);

#endif
