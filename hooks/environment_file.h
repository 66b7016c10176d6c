/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_HOOKS_ENVIRONMENT_FILE_H
#define STAGERUN_HOOKS_ENVIRONMENT_FILE_H

#include "error.h"
#include "text.h"

/* The file that $STAGERUN_ENV names, one for each try of an item: it appends NAME=VALUE lines, which
 * become variables of later items and of the command. The value goes to the end of its line, quotes and
 * all; the last line of a name wins. */

/* A new, empty file that only this user can read, in dir. *ret_path is the caller's. */
int environment_file_create(const char *dir, char **ret_path, struct error *err);

/* Sets in env what the file at path says; warns, as who, about lines that say nothing. A file that the
 * item removed says nothing at all. */
int environment_file_read(
	const char *path, const char *who, struct strings *env, struct error *err);

#endif
