/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CACHE_ITEMS_H
#define STAGERUN_CACHE_ITEMS_H

#include "cache_private.h"
#include <dirent.h>

/* What lies in a cache, entry by entry, as far as their records tell: a snapshot, of which every part may change
 * at any time but the items whose lock is held. Any thread. */

/* What an entry takes besides its tree and inventory: directories, locks, its record. */
#define ITEM_OVERHEAD ((uint64_t)32 << 10)

struct item {
	char key[CACHE_KEY_LEN + 1];
	char *what;
	uint64_t disk, bytes, entries;
	struct timespec made, used;
	bool complete;
	int fd; /* of KEY/use, once its lister has taken it alone; -1 */
};

struct items {
	struct item *v; /* the least recently used first */
	size_t n;
};

/* With items_done() afterwards, also when it fails. */
int items_list(const struct cache *c, struct items *all, struct error *err);
void items_done(struct items *all); /* and gives up the locks */

/* All names of v1/. NULL: errno. */
DIR *items_directory(const struct cache *c);

#endif
