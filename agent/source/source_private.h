/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SOURCE_PRIVATE_H
#define STAGERUN_SOURCE_PRIVATE_H

#include "source.h"
#include <stdbool.h>
#include <stddef.h>

/* Sources: objects by URL. Worker threads, except for checks and functions on text, which any
 * thread may call.
 *
 *   source.c  the scheme table; checks and opens any source; the parts of a split file as one
 *   file.c    file:// URLs and plain paths
 *   http.c    http:// and https:// URLs
 *   s3.c      s3:// URLs */

struct source_scheme {
	const char *prefix; /* "https://"; compared without regard to case */
	bool remote;        /* its bytes come over a network */
	int (*check)(const char *url, struct error *err); /* may be NULL */
	int (*open)(const struct source_env *env, const struct source_request *req,
		struct object **ret, struct error *err);
};

/* The rows of the scheme table; each is defined in the file that implements it. source_path: a
 * path, which has no scheme. */
extern const struct source_scheme source_https, source_http, source_s3, source_file, source_path;

#endif
