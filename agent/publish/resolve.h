/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_RESOLVE_H
#define STAGERUN_PUBLISH_RESOLVE_H

#include "error.h"

/* What the agent calls its own; no destination and no top-level entry may be called so. */
#define STATE_NAME ".stagerun"

/* The real path of dir: what exists by realpath(3), what is missing appended. Refused are "/", a
 * dangling symbolic link, ".." beyond what exists, and the agent's own directories. The caller's to
 * free. */
int resolve_path(const char *dir, char **ret_path, struct error *err);

/* Opens (O_PATH) the directory path without following links; makes what is missing of it. path is
 * real; dest is what the message says cannot be made. */
int resolve_parents(const char *path, const char *dest, int *ret_fd, struct error *err);

/* ".stagerun" and what begins with ".stagerun-". */
int resolve_is_own_name(const char *name);

/* Whether an errno of making or renaming something says: not here, by this user. */
int resolve_is_refusal(int errnum);

/* "read-only", or "not writable by uid 1000": why errnum refused. buf is returned. */
const char *resolve_why(int errnum, char buf[static 64]);

#endif
