/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CACHE_PRIVATE_H
#define STAGERUN_CACHE_PRIVATE_H

#include "cache.h"
#include "inventory.h"
#include "text.h"
#include <pthread.h>

/* What the files of this room share. */

#define TREE_NAME    "tree"
#define USE_NAME     "use"
#define FILLING_NAME "filling"
#define GONE_PREFIX  "gone."

struct cache {
	/* Set at creation. */
	char *dir; /* real path */
	int fd;    /* of DIR/v1 */
	uint64_t max_size, min_free;
	enum cache_delivery deliver;

	/* Under mutex. */
	pthread_mutex_t mutex;
	int *kept; /* descriptors of KEY/use */
	size_t n_kept;
};

struct cache_entry {
	struct cache *cache;
	char key[CACHE_KEY_LEN + 1];
	char *what;
	char *path;             /* of its tree */
	int key_fd, use_fd;     /* v1/KEY; v1/KEY/use, locked shared */
	struct record *record;  /* NULL: it is to be filled */
	struct destination *to; /* while it is filled */
	struct filling *filling;
	struct cancel *cancel;
};

/* use.c: locks of KEY/use. */

struct use {
	int key_fd; /* v1/KEY */
	int fd;     /* v1/KEY/use, locked shared */
};

/* Shared; makes the entry's directory if make. Sleeps only while somebody evicts it. */
int use_take(const struct cache *c, const char *key, bool make, struct cancel *cancel,
	struct use *ret, struct error *err);
/* Alone, at once: the descriptor; -EBUSY: it is in use; -ENOENT. */
int use_take_alone(const struct cache *c, const char *key);
bool use_is_key(const char *name);
void use_keep(struct cache *c, int fd); /* until cache_close() */

/* evict.c */

/* Renames the entry away and removes it. Who has it alone (use_fd, closed here) does. -ECANCELED: the next
 * eviction removes what is left. */
int evict_alone(const struct cache *c, const char *key, int use_fd, struct cancel *cancel,
	struct error *err);

struct room {
	const struct cache *cache;
	const char *key;       /* whose; never evicted for it */
	struct cancel *cancel; /* of waiting for others that make room, and of evicting */
	int (*set)(void *ctx, uint64_t bytes); /* notes that they are set aside */
	void *ctx;
};
/* Evicts until `bytes`, in all, fit; while no other agent does, and nothing that is in use. */
int evict_for(const struct room *room, uint64_t bytes, struct error *err);

/* filling.c: what KEY/filling says. */
struct filling_state {
	char who[96]; /* "process 12 on host" */
	uint64_t received, total, expanded, entries, reserved;
};
bool filling_read(int key_fd, struct filling_state *ret);
int filling_start(struct cache_entry *e, uint64_t bytes, const struct progress *progress, size_t n,
	struct error *err);
void filling_stop(struct cache_entry *e, bool ok);

/* verify.c: a few entries spread over the inventory; all of a small one. -ESTALE and what is wrong. */
int verify_spots(int key_fd, struct error *err);

/* deliver.c: the entry's record as the destination's. */
struct record deliver_record(const struct cache_entry *e, const struct cache_target *t);

/* deliver_tree.c */
enum tree_way { TREE_SHARE, TREE_ADOPT, TREE_COPY };
int deliver_tree(const struct cache_entry *e, const struct cache_target *t, enum tree_way way,
	struct error *err);

int entry_check_owner(int key_fd, const char *path, struct error *err);
int entry_damaged(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
