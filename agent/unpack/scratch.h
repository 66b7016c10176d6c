/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_SCRATCH_H
#define STAGERUN_SCRATCH_H

#include "object.h"
#include "unpack.h"

/* Bytes kept in an unnamed file on disk, as an object: for what must be read at random and cannot
 * be read so where it comes from. Worker thread. Closing the object frees the disk space. */

/* The most memory that a scratch object takes while it is streamed. */
#define SCRATCH_MEMORY ((uint64_t)1 << 20)

/* Everything that in still holds. */
int scratch_from_reader(
	const struct unpack_env *env, struct reader *in, struct object **ret, struct error *err);

/* The range of o that begins at offset. */
int scratch_from_object(const struct unpack_env *env, struct object *o, uint64_t offset,
	uint64_t len, struct object **ret, struct error *err);

/* Without content: scratch_append() it. */
int scratch_new(
	const struct unpack_env *env, const char *name, struct object **ret, struct error *err);
int scratch_append(struct object *o, const void *bytes, size_t len, struct error *err);

/* The file itself, for mmap(); the object's. */
int scratch_fd(const struct object *o);

#endif
