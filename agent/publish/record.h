/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_RECORD_H
#define STAGERUN_PUBLISH_RECORD_H

#include "json_bytes.h"
#include "publish.h"
#include "text.h"

/* The caller's reference; never NULL. */
json_t *record_to_json(const struct record *r);

/* NULL when what a record must have is missing or of another type. Unknown members are ignored. */
struct record *record_from_json(const json_t *object);

/* Whether every source's version is known: only then can it be told from a later one. */
bool record_is_pinned(const struct record *r);

/* "cats.tar.zst staged at 2026-01-02 03:04:05 UTC (etag "x")", for messages. */
void record_describe(const struct record *r, struct text *t);

#endif
