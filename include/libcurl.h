/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_LIBCURL_H
#define STAGERUN_LIBCURL_H

#include "error.h"

/* libcurl is not linked but loaded, with its dependencies, when it is first needed. Its own header
 * documents its functions; those that the agent uses are listed in the table in libcurl.c. */

/* Any thread; idempotent. Must be called before any function of libcurl. -ERR_UNSUPPORTED: libcurl
 * cannot be loaded. */
int libcurl_load(struct error *err);

#endif
