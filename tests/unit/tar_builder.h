/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_TAR_BUILDER_H
#define STAGERUN_TEST_TAR_BUILDER_H

#include "text.h"
#include <time.h>

struct archive;

/* Archives for tests: written byte by byte if they are hostile, else with libarchive. */

/* Appends a ustar header with a correct checksum, and the content padded to whole blocks. */
void tar_add(struct text *tar, char type, const char *name, const char *link, const char *content);
void tar_end(struct text *tar); /* the two blocks of zeros */

/* Appends a pax header with these records, for the next entry or (type 'g') for all. */
void tar_add_pax(struct text *tar, char type, const char *records);

struct archive *archive_begin(struct text *to, int (*set_format)(struct archive *));
/* type: AE_IFREG etc.; content and link may be NULL. */
void archive_add(
	struct archive *a, unsigned type, const char *name, const char *link, const char *content);
void archive_end(struct archive *a);

/* The modification time of all entries from archive_add(). */
#define BUILDER_MTIME      1600000000
#define BUILDER_MTIME_NSEC 123456789

/* Appends the output of a shell command. Fails the test if the command fails. */
void run_tool(struct text *to, const char *command);

#endif
