/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_JSON_BYTES_H
#define STAGERUN_JSON_BYTES_H

#include <jansson.h>

/* Names and header values may be any bytes, JSON takes only UTF-8: '%', control bytes and all above
 * ASCII are written as %XX. */
json_t *bytes_to_json(const char *bytes);
char *bytes_from_json(const json_t *value); /* NULL when it is not one; the caller's to free */

#endif
