/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_UTF8_H
#define STAGERUN_UTF8_H

#include "text.h"
#include <stdbool.h>

/* Names come from URLs and archives and may contain any bytes; terminals and JSON need UTF-8. Any
 * thread. */

/* Returns the length of the UTF-8 character at the beginning of s (NUL-terminated, not empty), 0 if
 * there is none. *ret_code is its code point. */
size_t utf8_character(const char *s, uint32_t *ret_code);

bool utf8_is_valid(const void *bytes, size_t len);

/* Appends s to t, with bytes that are not UTF-8, and control characters, as \xNN. */
void utf8_add_clean(struct text *t, const char *s);

/* Moves *s, which is not empty and without control characters, over its first character. Returns
 * the columns that it takes on a terminal; the larger number where terminals differ. */
size_t utf8_step(const char **s);
size_t utf8_columns(const char *s); /* columns of all of s */

/* Returns the length of the longest beginning of s, of whole characters, that takes at most this
 * many columns. */
size_t utf8_fitting(const char *s, size_t columns);

#endif
