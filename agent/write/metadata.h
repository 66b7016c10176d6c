/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_WRITE_METADATA_H
#define STAGERUN_WRITE_METADATA_H

#include "tree_private.h"
#include <stdbool.h>

/* Owner, mode, extended attributes and times: what of an entry's metadata is applied, and how. */

/* The permission bits that are kept. */
mode_t metadata_mode(const struct meta *m);

/* Whether an owner is to be set; (uid_t)-1 and (gid_t)-1 leave one as it is. */
bool metadata_owner(
	const struct tree_options *opts, const struct meta *m, uid_t *ret_uid, gid_t *ret_gid);

/* atime and mtime as utimensat() takes them: atime is left alone. */
void metadata_times(const struct timespec *mtime, struct timespec ret_times[static 2]);

/* The mode to create a file with, so that its attributes can be set although it is read-only. */
mode_t metadata_mode_at_creation(const struct meta *m);

/* After open(O_CREAT) with that mode: owner, attributes, and the mode where it is not right yet.
 * The times come last, by metadata_set_mtime(). */
int metadata_apply(struct writer *w, int fd, const struct meta *m, struct error *err);

int metadata_set_xattrs(struct writer *w, int fd, const struct meta *m, struct error *err);

/* Owner and mtime of a symbolic link, which has no more than these. */
int metadata_apply_symlink(
	struct writer *w, const struct place *at, const struct meta *m, struct error *err);

/* Why the owner of path could not be set to uid:gid, from errno. */
int metadata_owner_error(struct error *err, int fd, const char *path, uid_t uid, gid_t gid);

#endif
