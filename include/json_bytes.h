/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_JSON_BYTES_H
#define STAGERUN_JSON_BYTES_H

#include "text.h"
#include <jansson.h>

/* Names and header values may contain any bytes, but JSON only UTF-8: '%', control bytes and all
 * bytes above ASCII are written as %XX. Any thread. The returned value is the caller's. */
json_t *json_from_bytes(const char *bytes);
char *json_to_bytes(const json_t *value); /* NULL: not such a string; the caller's to free */

/* Text for people. If it is not UTF-8, all of its bytes above ASCII are replaced. */
enum json_odd {
	JSON_ODD_HEX,      /* by \xNN */
	JSON_ODD_QUESTION, /* by '?' */
};
json_t *json_from_text(const char *s, enum json_odd odd);

/* Appends s as a JSON string to output that is printed as it arises. A byte that is not UTF-8
 * becomes \udcNN, as in Python's file names. */
void json_add_text(struct text *to, const char *s);

#endif
