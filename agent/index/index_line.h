/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_INDEX_LINE_H
#define STAGERUN_INDEX_LINE_H

#include "index.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* The fields of an index's lines, read where they stand. All but the last two: false when the field is not
 * what it should be. Any thread. */

/* Cuts the NUL-terminated line at its tabs. How many fields there are; more than max: max + 1. */
size_t line_split(char *line, char **fields, size_t max);

bool field_number(const char *s, uint64_t max, uint64_t *ret);
bool field_mode(const char *s, mode_t *ret);
bool field_time(const char *s, struct timespec *ret);
bool field_unescape(char *s); /* in place */
bool field_sha256(const char *s);

/* A key that a store of ours can have. */
bool key_is_plain(const char *key);

#endif
