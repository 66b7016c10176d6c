/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_CACHE_FIXTURE_H
#define STAGERUN_TEST_CACHE_FIXTURE_H

#include "cache.h"
#include "error.h"
#include <sys/stat.h>

/* A node cache in a directory of its own, and stages in miniature through it. */

struct cached {
	char *dir; /* of the test: dir/cache, and destinations beside it */
	struct cache *cache;
	struct cancel cancel;
	struct error err;
};

void cached_open(struct cached *c, const struct cache_options *opts);
void cached_done(struct cached *c);

/* Entries are told apart by one letter. */
int entry_open(struct cached *c, char letter, struct cache_entry **ret);
/* What fill_with() makes, in place of the usual: files of `size` bytes. */
int entry_fill(struct cached *c, struct cache_entry *e, size_t size);
/* Opens and, if need be, fills it. */
struct cache_entry *entry_of(struct cached *c, char letter, size_t size);
char *entry_path(const struct cached *c, char letter, const char *name);

struct wanted {
	const char *to; /* beside the cache */
	bool read_only, keeps;
};

/* *ret_how: as cache_deliver(); may be NULL. */
int deliver(struct cached *c, struct cache_entry *e, const struct wanted *w, const char **ret_how);

/* The usual tree: a (0644, "aaa…"), d/ (0750, a time of its own), d/run (0755), d/s -> run, d/h is a, empty/ */
void assert_usual(const char *path, bool writable, size_t size);
struct stat look(const char *path, const char *name);
bool there(const struct cached *c, char letter);

#endif
