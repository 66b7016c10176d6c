/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_GLOB_H
#define STAGERUN_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* Whether pattern matches all len bytes of text. '*', '?' and [a-z] stop at '/'; "**" does not, and
 * "**" followed by '/' stands for any number of directories, none included. A backslash takes the
 * next byte as it is. Bytes, not characters: '?' is one byte. */
bool glob_matches(const char *pattern, const char *text, size_t len);

#endif
