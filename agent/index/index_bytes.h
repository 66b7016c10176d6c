/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_INDEX_BYTES_H
#define STAGERUN_INDEX_BYTES_H

#include "error.h"
#include <stddef.h>

/* The stored bytes of a part of an index as its text: on the heap, with a NUL behind it and none in it. Any
 * thread. -ERR_FORMAT. */
int index_decompress(const void *bytes, size_t len, char **ret, size_t *ret_len, struct error *err);

#endif
