/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SOURCE_PRIVATE_H
#define STAGERUN_SOURCE_PRIVATE_H

#include "source.h"
#include <stdbool.h>
#include <stddef.h>

/* Sources: objects by URL. Worker threads, except for checks and functions on text, which any
 * thread may call.
 *
 *   source.c  the scheme table; checks and opens any source
 *   file.c    file:// URLs and plain paths
 *   http.c    http:// and https:// URLs
 *   s3.c      s3:// URLs
 *   joined.c  the parts of a split file as one object */

int http_check(const char *url, struct error *err);
int http_open(const struct source_env *env, const struct source_request *req, struct object **ret,
	struct error *err);

int s3_check(const char *url, struct error *err);
int s3_source_open(const struct source_env *env, const struct source_request *req,
	struct object **ret, struct error *err);

int file_check(const char *url, struct error *err);
int file_source_open(const struct source_env *env, const struct source_request *req,
	struct object **ret, struct error *err);

/* --- joined.c: sources whose URL was made by source_join() --- */

bool joined_is(const char *url);
int joined_check(const char *url, struct error *err);    /* as source_check() */
bool joined_begins(const char *url, const char *prefix); /* as source_begins() */
bool joined_is_remote(const char *url);
char *joined_display(const char *url);
char *joined_key(const char *url);
char *joined_file_name(const char *url); /* without the part number */
int joined_open(const struct source_env *env, const struct source_request *req, struct object **ret,
	struct error *err);

#endif
