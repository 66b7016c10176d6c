/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_ZIP_BUILDER_H
#define STAGERUN_TEST_ZIP_BUILDER_H

#include "text.h"

/* Zip files in which the test controls each field, so that the fields can be wrong. */

struct zip_extra_bytes {
	const void *bytes;
	size_t len;
};

/* One entry. A field that is zero gets its correct value. */
struct zip_item {
	const char *name;
	const char *content; /* NULL: none */
	size_t len;          /* of content; 0: content is a string */
	bool stored;         /* false: deflated */
	unsigned method;     /* the method in the headers; 0: the real one */
	unsigned flags;
	unsigned mode;       /* Unix mode and file type; 0: made on DOS */
	unsigned attributes; /* the lower 16 bits of the external attributes */
	unsigned made_on;    /* 0: Unix if there is a mode, else DOS */
	unsigned dos_time, dos_date;
	bool descriptor;   /* the sizes follow the data */
	bool listed_first; /* first in the directory, although its data is not first */
	bool zip64;        /* 64-bit sizes in both headers, and a 64-bit offset */
	struct zip_extra_bytes central_extra, local_extra, comment;

	/* Wrong values. */
	const char *local_name;
	unsigned local_method;
	int size_lie, packed_lie; /* added to the size in both headers */
	int local_size_lie;
	unsigned crc_lie; /* XORed with the checksum in both headers */
	unsigned local_crc_lie;
	long offset_lie;
};

struct zip {
	struct text data;
	struct text directory;
	unsigned n;
};

void zip_add(struct zip *z, const struct zip_item *item);
/* The end records of the file. */
struct zip_tail {
	const char *comment;
	bool zip64;
	unsigned disk;
	int count_lie;
};
/* Returns the whole file, and frees z. tail may be NULL. */
struct text zip_build(struct zip *z, const struct zip_tail *tail);

#endif
