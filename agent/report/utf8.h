/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_REPORT_UTF8_H
#define STAGERUN_REPORT_UTF8_H

#include "text.h"

/* Names come from URLs and archives and may hold any byte; terminals and JSON want UTF-8. */

/* The length of the UTF-8 character that s (NUL-terminated, not empty) begins with, 0 when it begins
 * with none. *ret_code is its code point. */
size_t utf8_character(const char *s, uint32_t *ret_code);

/* Adds s to t; bytes that are no UTF-8 and control characters as \xNN. */
void utf8_add_clean(struct text *t, const char *s);

/* Moves *s over its first character, clean and not empty, and returns the columns that it takes on a
 * terminal: at most, since terminals do not agree on what is wide. */
size_t utf8_step(const char **s);
size_t utf8_columns(const char *s); /* of all of it */

/* The longest beginning of s, ending with a whole character, that takes at most this many columns. */
size_t utf8_fitting(const char *s, size_t columns);

#endif
