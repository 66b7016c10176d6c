/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_TAR_BUILDER_H
#define STAGERUN_TEST_TAR_BUILDER_H

#include "text.h"
#include <time.h>

struct archive;

/* Archives for tests: byte by byte where they are hostile, by libarchive where they are honest. */

/* One ustar header with a right checksum, and the content padded to whole blocks. */
void tar_add(struct text *tar, char type, const char *name, const char *link, const char *content);
void tar_end(struct text *tar); /* the two blocks of zeros */

/* A pax header with these records, as for the entry that follows. */
void tar_add_pax(struct text *tar, char type, const char *records);

struct archive *archive_begin(struct text *to, int (*set_format)(struct archive *));
/* type: AE_IFREG etc.; content and link may be NULL. */
void archive_add(
	struct archive *a, unsigned type, const char *name, const char *link, const char *content);
void archive_end(struct archive *a);

/* Fixed for all that archive_add() adds. */
#define BUILDER_MTIME      1600000000
#define BUILDER_MTIME_NSEC 123456789

/* The output of a shell command; fails the test when the command does. */
void run_tool(struct text *to, const char *command);

#endif
