/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_TEST_CACHE_FIXTURE_H
#define STAGERUN_TEST_CACHE_FIXTURE_H

#include "cache.h"
#include "error.h"
#include <sys/stat.h>

/* A node cache in a new directory, and simple stages through it. */

struct cached {
	char *dir; /* contains the cache (dir/cache) and the destinations */
	struct cache *cache;
	struct cancel cancel;
	struct error err;
};

void cached_open(struct cached *c, const struct cache_options *opts);
void cached_done(struct cached *c);

/* Opens the entry that the letter identifies. */
int entry_open(struct cached *c, char letter, struct cache_entry **ret);
/* Fills the entry with the usual tree, whose file `a` has `size` bytes. */
int entry_fill(struct cached *c, struct cache_entry *e, size_t size);
/* Opens the entry, and fills it if it is empty. */
struct cache_entry *entry_of(struct cached *c, char letter, size_t size);
char *entry_path(const struct cached *c, char letter, const char *name);

struct wanted {
	const char *to; /* name of the destination in cached.dir */
	bool read_only, keeps;
};

/* Delivers the entry into a destination. *ret_how is set as by cache_deliver(); ret_how may be
 * NULL. */
int deliver(struct cached *c, struct cache_entry *e, const struct wanted *w, const char **ret_how);

/* Asserts that path contains the usual tree: a (0644, "aaa…", size bytes), d/ (0750), d/run
 * (0755), d/"odd name\n" (0600), d/s -> run, d/h (a hard link to a) and empty/ (0700). If not
 * writable, no write bit is set. */
void assert_usual(const char *path, bool writable, size_t size);
struct stat look(const char *path, const char *name); /* lstat; fails the test if it fails */
/* Whether the entry has a tree. */
bool there(const struct cached *c, char letter);

#endif
