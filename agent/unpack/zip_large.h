/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_LARGE_H
#define STAGERUN_ZIP_LARGE_H

#include "zip_stream.h"

/* Where the file goes. */
struct zip_target {
	struct writer *writer;
	const char *name;
	struct cancel *cancel;
};

/* Unpacks the data at which the stream stands as it comes, in memory of a fixed size. */
int zip_unpack_large(struct zip_stream *s, const struct zip_entry *e, const struct zip_target *to,
	struct error *err);

#endif
