/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_NAMES_H
#define STAGERUN_NAMES_H

#include <stddef.h>
#include <stdint.h>

/* Names inside archives as lists of components: empty ones and "." are none. */

/* The next component of *name: its start (NULL: there is none) and length; *name moves after it. */
const char *name_next_component(const char **name, size_t *ret_len);

/* "./a//b/" becomes "a/b". Heap string. */
char *name_plain(const char *name);

/* The same for all spellings of one name. */
uint64_t name_hash(const char *name);

#endif
