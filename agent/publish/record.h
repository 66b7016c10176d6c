/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_RECORD_H
#define STAGERUN_PUBLISH_RECORD_H

#include "publish.h"
#include "text.h"
#include <jansson.h>

/* Names and header values may be any bytes, JSON takes only UTF-8: '%', control bytes and all above
 * ASCII are written as %XX. */
json_t *bytes_to_json(const char *bytes);
char *bytes_from_json(const json_t *value); /* NULL when it is not one; the caller's to free */

/* The caller's reference; never NULL. */
json_t *record_to_json(const struct record *r);

/* NULL when what a record must have is missing or of another type. Unknown members are ignored. */
struct record *record_from_json(const json_t *object);

/* Whether every source's version is known: only then can it be told from a later one. */
bool record_is_pinned(const struct record *r);

/* "cats.tar.zst staged at 2026-01-02 03:04:05 UTC (etag "x")", for messages. */
void record_describe(const struct record *r, struct text *t);

#endif
