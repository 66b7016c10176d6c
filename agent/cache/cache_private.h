/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CACHE_PRIVATE_H
#define STAGERUN_CACHE_PRIVATE_H

#include "cache.h"
#include "inventory.h"
#include "text.h"
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

/* The node cache: a directory of entries, each of which is a staged tree with an inventory. The
 * only state shared between agents is in that directory (see cache.h), and is protected by locks of
 * files.
 *
 *   cache.c      opening a cache; locks that show that an entry is in use
 *   entry.c      finding an entry, or the right to fill it; entries that a destination links to
 *   fill.c       filling an entry: progress for other agents, room, the inventory
 *   evict.c      listing entries; removing them, by request and to make room
 *   deliver.c    an entry into a destination: by mount, symbolic link, or as a tree of its own
 *   inventory.c  reading and writing inventories; opening the files that they list (inventory.h)
 *   verify.c     comparing an entry with its inventory
 *
 * Threads: any thread, where nothing else is said; an entry belongs to one thread at a time. fill.c
 * starts one thread for each entry that is being filled, deliver.c several for each tree that it
 * delivers. */

#define USE_NAME     "use"
#define FILLING_NAME "filling"
#define GONE_PREFIX  "gone."

/* Any thread. */
struct cache {
	/* Set at creation. */
	char *dir;                   /* real path */
	int fd;                      /* of DIR/v1; -1: it does not exist and must not be created */
	uint64_t max_size, min_free; /* bytes, as in struct cache_options */
	enum cache_delivery deliver;

	atomic_ullong evicted; /* entries, by this process to make room */

	/* Under mutex. */
	pthread_mutex_t mutex;
	int *kept; /* descriptors of KEY/use, open until cache_close() */
	size_t n_kept;
};

/* One thread at a time. */
struct cache_entry {
	struct cache *cache;
	char key[CACHE_KEY_LEN + 1];
	char *what;              /* for messages */
	char *path;              /* of its tree */
	int key_fd, use_fd;      /* v1/KEY; v1/KEY/use, locked shared */
	struct record *record;   /* NULL: the entry must be filled */
	struct destination *to;  /* while it is being filled */
	struct filling *filling; /* between cache_fill_begin() and cache_fill_end() */
	struct cancel *cancel;
};

/* ---- cache.c ---- */

/* A lock of KEY/use. */
struct use_lock {
	int key_fd; /* v1/KEY */
	int fd;     /* v1/KEY/use, locked */
};

bool cache_is_key(const char *name);

/* Both functions first verify that key names an entry: -ENOENT if there is none, -EPERM if
 * something else has its name. */

/* Locks the entry shared; creates its directory if make. Sleeps only while another agent is
 * evicting the entry. */
int cache_use_lock(const struct cache *c, const char *key, bool make, struct cancel *cancel,
	struct use_lock *ret, struct error *err);
/* Locks the entry exclusively, without waiting. -EBUSY: it is in use. */
int cache_use_lock_exclusive(
	const struct cache *c, const char *key, struct use_lock *ret, struct error *err);
void cache_use_unlock(struct use_lock *use); /* accepts one that is not held: {-1, -1} */
/* Takes ownership of fd, the descriptor of a lock, and closes it in cache_close(). */
void cache_use_hold(struct cache *c, int fd);

/* Checks that the directory belongs to this user and that no other user can write to it. -EPERM if
 * not. */
int cache_check_owner(int fd, const char *path, struct error *err);

/* ---- entry.c ---- */

/* Reads the record of the entry into e->record, NULL if it has none. -errno if the record cannot be
 * read. */
int entry_read_record(struct cache_entry *e, struct error *err);

/* -ESTALE, with this message. */
int entry_damaged(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* After a call on path, a file in an entry, has failed (errno): -ESTALE if the file is missing or
 * replaced (also by a link on the way to it), -EIO if that is not known. */
int entry_access_failed(struct error *err, const char *path);
/* The same for a code of inventory_open() or inventory_next(). */
int entry_inventory_failed(int code, struct error *err);

/* ---- evict.c ---- */

/* Renames the entry away and removes it. The caller holds the exclusive lock, which is released.
 * -ECANCELED: the entry was renamed, and the next eviction removes what is left. */
int evict_entry(const struct cache *c, const char *key, struct use_lock *lock,
	struct cancel *cancel, struct error *err);

/* A request for room. */
struct cache_room {
	struct cache *cache;
	const char *key;       /* the entry that needs it; not evicted for itself */
	struct cancel *cancel; /* checked while waiting for other agents, and while evicting */
	int (*reserve)(
		void *ctx, uint64_t bytes); /* records the room that is reserved; < 0: failed */
	void *ctx;
};
/* Evicts entries that are not in use until `bytes`, in all, fit for this entry, then calls reserve.
 * One agent at a time makes room; others wait. */
int evict_for(const struct cache_room *room, uint64_t bytes, struct error *err);

/* One entry in a list of all. The list is a snapshot: any part of it may be out of date, except for
 * entries that are locked. */
struct cache_item {
	char key[CACHE_KEY_LEN + 1];
	char *what;
	uint64_t disk; /* bytes on the disk, at most the size of the file system */
	uint64_t bytes, entries;
	struct timespec made, used;
	bool complete, damaged;
	char *unreadable;    /* why it cannot be read; NULL: it was read */
	struct use_lock use; /* the exclusive lock, once it is chosen for eviction; else {-1, -1} */
};

struct items {
	struct cache_item *v; /* the least recently used first */
	size_t n;
};

/* Bytes that an entry takes besides its tree and inventory: directories, locks, its record. */
#define ITEM_OVERHEAD ((uint64_t)32 << 10)

/* ---- fill.c ---- */

/* The content of KEY/filling. */
struct filling_state {
	char who[160]; /* "process 12 on host, since ..." */
	uint64_t received, total, expanded, entries, reserved;
};
/* Returns 0 or -errno; -ENOENT if there is no file, or an incomplete one. */
int fill_read(int key_fd, struct filling_state *ret);

/* Stops the thread that records the progress; ok: the entry was published, so the record is
 * removed. Does nothing if the entry is not being filled. */
void fill_stop(struct cache_entry *e, bool ok);

/* ---- inventory.c ---- */

/* Opens the parent directories of an inventory's paths in a tree, without following a link, and
 * keeps the last one open. One thread. */
struct parent_lookup {
	int root_fd; /* borrowed */
	int fd;      /* of dir, O_PATH; -1: none */
	char *dir;
};
#define PARENT_LOOKUP(root) ((struct parent_lookup){.root_fd = (root), .fd = -1})
/* Returns a descriptor of the directory that path is in, and the last component of path. The
 * descriptor is valid until the next call, and is closed by r. -1 and errno on failure. */
int cache_lookup_parent(struct parent_lookup *r, const char *path, const char **ret_base);
void cache_lookup_done(struct parent_lookup *r);

/* ---- verify.c ---- */

/* Compares a sample of the entry's files, spread over the inventory, with the inventory; all of
 * them if there are few. -ESTALE, with the difference; another code: it could not be read. */
int verify_sample(int key_fd, struct error *err);

/* ---- deliver.c ---- */

/* How the files of an entry become files of a tree: they share their blocks, are hard links, or are
 * copies. */
enum tree_way { TREE_SHARE, TREE_ADOPT, TREE_COPY };

#endif
