/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEMPORARY_H
#define STAGERUN_TEMPORARY_H

#include "error.h"
#include <stdbool.h>

/* Chooses the directory for temporary files: the first of $TMPDIR, /tmp, /var/tmp, $HOME and
 * /dev/shm in which a file can be created and written now. Containers have read-only roots, a
 * TMPDIR that existed only when the image was built, and disks without free inodes. Any thread. */

struct temporary_request {
	const char *tmpdir; /* the values of the variables; NULL or "": not set; borrowed */
	const char *home;
	/* Programs are built and run there: directories mounted noexec are the last choice. */
	bool executes;
};

/* *ret: heap. *ret_why (may be NULL): heap, why the first candidate was not chosen; NULL: it was.
 * The error lists a reason for each candidate. */
int temporary_directory(
	const struct temporary_request *wish, char **ret, char **ret_why, struct error *err);

#endif
