/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CONTAINERS_H
#define STAGERUN_CONTAINERS_H

#include "unpack.h"

/* The rows of the table in unpack.c, each in the file that knows the format. */
extern const struct unpacker unpack_tar, unpack_cpio, unpack_7z, unpack_zip;

/* The whole stream as one file called input->file_name. */
int unpack_single_file(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err);

/* When a source or an entry says nothing of its time. */
struct timespec input_mtime(const struct unpack_input *input);

#endif
