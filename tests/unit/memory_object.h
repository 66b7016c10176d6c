/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_MEMORY_OBJECT_H
#define STAGERUN_TEST_MEMORY_OBJECT_H

#include "object.h"

/* Bytes that the caller holds, as an object whose stream hands out copies of slice_bytes each, in
 * blocks of their own: so a sanitizer sees a slice that is used after it was let go of. */
struct object *memory_object(
	const void *bytes, size_t len, size_t slice_bytes, bool seekable, const char *name);

/* Puts so many slices into each block from now on, one behind the other, as a network does. */
void memory_object_fill_blocks(struct object *o, unsigned slices);

/* Whether the stream was pulled to its end. */
bool memory_object_drained(const struct object *o);

#endif
