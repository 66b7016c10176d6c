/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_MEMORY_OBJECT_H
#define STAGERUN_TEST_MEMORY_OBJECT_H

#include "object.h"

/* An object of bytes that the caller owns. Its stream returns copies of slice_bytes each, in a
 * separate block, so that a sanitizer detects the use of a slice after it was dropped. */
struct object *memory_object(
	const void *bytes, size_t len, size_t slice_bytes, bool seekable, const char *name);

/* From now on, each block contains this number of slices, one after another, as blocks from a
 * network do. */
void memory_object_fill_blocks(struct object *o, unsigned slices);

/* Whether the stream was read to its end. */
bool memory_object_drained(const struct object *o);

#endif
