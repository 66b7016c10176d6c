/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_ZIP_BUILDER_H
#define STAGERUN_TEST_ZIP_BUILDER_H

#include "text.h"

/* Zip files with every field under the test's control, so that they can lie. */

struct zip_extra_bytes {
	const void *bytes;
	size_t len;
};

/* One entry; what is zero is made right by itself. */
struct zip_item {
	const char *name;
	const char *content; /* NULL: none */
	size_t len;          /* of content; 0: a string's */
	bool stored;         /* else deflated */
	unsigned method;     /* what the headers say instead, if not 0 */
	unsigned flags;
	unsigned mode;       /* a Unix mode and type; 0: made on DOS */
	unsigned attributes; /* the lower half */
	unsigned dos_time, dos_date;
	bool descriptor;   /* sizes follow the data */
	bool listed_first; /* before all others in the directory, wherever its data is */
	bool zip64;        /* 64-bit sizes in both headers, and a 64-bit offset */
	struct zip_extra_bytes central_extra, local_extra;

	/* Lies. */
	const char *local_name;
	unsigned local_method;
	int size_lie, packed_lie; /* added to the sizes in both headers */
	int local_size_lie;
	unsigned crc_lie; /* xor-ed to both checksums */
	unsigned local_crc_lie;
	long offset_lie;
};

struct zip {
	struct text data;
	struct text directory;
	unsigned n;
};

void zip_add(struct zip *z, const struct zip_item *item);
/* How the file ends. */
struct zip_tail {
	const char *comment;
	bool zip64;
	unsigned disk;
	int count_lie;
};
/* The whole file; frees z. */
struct text zip_build(struct zip *z, const struct zip_tail *tail);

#endif
