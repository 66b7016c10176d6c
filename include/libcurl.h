/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_LIBCURL_H
#define STAGERUN_LIBCURL_H

#include "error.h"

/* libcurl is not linked but loaded, with the libraries behind it, when it is first needed. Its own
 * header says what its functions do; those that the agent uses are in the table in libcurl.c. */

/* Any thread; idempotent. Before any function of libcurl is called. -ERR_UNSUPPORTED when it is not
 * there. */
int libcurl_load(struct error *err);

#endif
