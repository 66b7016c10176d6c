/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_CREATE_H
#define STAGERUN_CREATE_CREATE_H

#include "director.h"

/* How the entries of a source come to the director. */

/* What kind of source opts name, by its text and what is there. */
enum create_kind { CREATE_DIRECTORY, CREATE_FILE, CREATE_OBJECT, CREATE_PREFIX };
struct create_source {
	enum create_kind kind;
	char *display; /* for messages and the manifest: without secrets */
	char *path;    /* local ones: heap */
	int root_fd;   /* directories, and where a file lies; else -1 */
};
int create_source_open(
	const struct create_options *opts, struct create_source *ret, struct error *err);
void create_source_close(struct create_source *s);

/* Brings all entries to the director. */
int create_feed(struct director *d, const struct create_source *s, struct error *err);
int create_feed_object(struct director *d, const struct create_source *s, struct error *err);
int create_feed_prefix(struct director *d, struct error *err);

#endif
