/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_JSON_BYTES_H
#define STAGERUN_JSON_BYTES_H

#include <jansson.h>

/* Names and header values may contain any bytes, but JSON only UTF-8: '%', control bytes and all
 * bytes above ASCII are written as %XX. Any thread. The returned value is the caller's. */
json_t *json_from_bytes(const char *bytes);
char *json_to_bytes(const json_t *value); /* NULL: not such a string; the caller's to free */

#endif
