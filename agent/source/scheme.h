/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SOURCE_SCHEME_H
#define STAGERUN_SOURCE_SCHEME_H

#include "source.h"

/* The rows of the scheme table, one implementation a file. */

int http_check(const char *url, struct error *err);
int http_open(const struct source_env *env, const struct source_request *req, struct object **ret,
	struct error *err);

int s3_check(const char *url, struct error *err);
int s3_source_open(const struct source_env *env, const struct source_request *req,
	struct object **ret, struct error *err);

int file_check(const char *url, struct error *err);
int file_source_open(const struct source_env *env, const struct source_request *req,
	struct object **ret, struct error *err);

#endif
