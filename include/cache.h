/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CACHE_H
#define STAGERUN_CACHE_H

#include "cancel.h"
#include "destination.h"
#include "error.h"
#include "progress.h"
#include "tree.h"
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* The node cache: trees that were staged once, and are delivered from then on to all agents of one
 * user on this node. The directory DIR belongs to one user and contains
 *
 *   v1/room           locked (flock) while an agent makes room
 *   v1/KEY/use        locked shared by each agent that fills, delivers or uses the entry; its mtime
 *                     is the time of the last use
 *   v1/KEY/tree       the entry: a destination (destination.h) that is staged as any other, but
 *                     without write bits; the entry exists once this directory exists
 *   v1/KEY/.stagerun  the state of that destination; the kernel releases its lock when its holder
 *                     ends
 *   v1/KEY/inventory  the list of the tree's files, with their original modes; written and synced
 *                     before the tree appears
 *   v1/KEY/filling    the progress of the agent that fills the entry, and the room reserved for it
 *   v1/KEY/digests    of the files; exists after the first deep verification
 *   v1/gone.PID.HEX   an evicted entry that is being removed; HEX is 16 digits
 *
 * KEY consists of a digest of the request (sources, options) and one of the version: the content of
 * an entry never changes. An entry is removed only by an agent that has locked KEY/use exclusively,
 * and KEY is renamed first; an entry is never replaced in place. An agent waits for KEY/use only
 * during that rename.
 *
 * Nothing else in v1 is ever renamed or removed: a name is an entry only if it has exactly this
 * form and is a directory of this user that contains `use` and nothing that is not in this list.
 * Files are read only if they are regular files of this user. Only ENOENT means that a file does
 * not exist: after any other error the entry stays, and is neither delivered nor reported as
 * damaged.
 *
 * After a crash of the machine an entry with a complete record and inventory is exact: both became
 * visible after the tree was written to the disk. Any other entry is removed. */

enum cache_delivery {
	CACHE_AUTO,
	CACHE_BIND,
	CACHE_SYMLINK,
	CACHE_REFLINK,
	CACHE_HARDLINK,
	CACHE_COPY,
};

struct cache_options {
	const char *dir;
	uint64_t max_size; /* bytes of all entries on the disk; 0: no limit */
	uint64_t min_free; /* bytes that must stay free on its file system */
	enum cache_delivery deliver;
	/* Creates what does not exist. If unset, a DIR that does not exist is an error, and an
	 * empty one is an empty cache. */
	bool make;
};

struct cache;

/* Returns -EPERM if DIR belongs to another user, or other users may write to it; -ENOENT if it does
 * not exist, without make. */
int cache_open(const struct cache_options *opts, struct cache **ret, struct error *err);
void cache_close(struct cache *c);            /* accepts NULL; entries kept in use are released */
const char *cache_dir(const struct cache *c); /* its real path */

/* Any thread. Entries that are kept in use stay in use for the program that this process executes,
 * and its children: they inherit the descriptors of the locks, with high numbers, and no others of
 * the agent. */
void cache_pass_on(struct cache *c);

/* ---- An entry. Each belongs to one thread at a time. ---- */

struct cache_request {
	const char *asked;     /* hex digest of sources and options, of at least 32 digits */
	const char *version;   /* the same of the version */
	const char *what;      /* for messages */
	struct cancel *cancel; /* checked while waiting, making room and removing */
	struct progress
		*progress; /* set to the other agent's progress while waiting; may be NULL */
	struct wait_limit lock_limit; /* of the wait for another agent */
	/* where that wait is recorded; as in struct destination_options */
	struct timeline *timeline;
	unsigned span;
	atomic_ullong *lock_ns;
};

struct cache_entry;

/* Finds the entry or, if it does not exist, locks it so that the caller can fill it. Waits while
 * another agent fills it, and returns the lock if that agent dies. A damaged entry is removed, with
 * a warning, and must be filled again. -EPERM: it belongs to another user. -EROFS: it does not
 * exist and cannot be created. */
int cache_entry_open(struct cache *c, const struct cache_request *wish, struct cache_entry **ret,
	struct error *err);

const char *cache_entry_path(const struct cache_entry *e); /* of its tree */
/* Returns the record, which belongs to the entry. NULL: the entry must be filled. */
const struct record *cache_entry_record(const struct cache_entry *e);

/* Unlocks and frees e. keep: the entry stays in use until cache_close(). leave_tree: an unfinished
 * tree stays, as with destination_close(). Accepts NULL. */
void cache_entry_close(struct cache_entry *e, bool keep, bool leave_tree);

/* Returns the record of the version of this request that was used last, so that the caller can
 * check whether it is still current. NULL: the cache has none. The caller frees it with
 * publish_record_free(). */
struct record *cache_newest(const struct cache *c, const char *asked);

/* ---- Filling an entry: the calls in this order. ---- */

/* Makes room for bytes (as far as the size is known; more room is made while the entry is filled)
 * by evicting the least recently used entries. -ERR_SPACE: there is not enough room, since the
 * other entries are in use, or the limit is smaller; -ECANCELED. Then a thread reads progress, an
 * array of n, until cache_fill_end(). */
int cache_fill_begin(struct cache_entry *e, uint64_t bytes, const struct progress *progress,
	size_t n, struct error *err);
/* Returns the destination to stage the entry into, which belongs to the entry. */
struct destination *cache_fill_destination(struct cache_entry *e);
/* It is called after tree_finish() and before destination_publish(). Writes the inventory of the
 * tree at root_fd, removes the tree's write bits and syncs everything to the disk. *root is changed
 * to the metadata to publish. */
int cache_fill_seal(struct cache_entry *e, int root_fd, struct meta *root,
	const struct record *record, struct error *err);
/* It is called also after a failure. ok: the tree was published. */
int cache_fill_end(struct cache_entry *e, bool ok, struct error *err);

/* ---- Delivering an entry. ---- */

struct cache_target {
	struct destination *to;
	const char *key; /* as for destination_begin() */
	bool read_only;  /* a link is allowed; copies have no write bits */
	bool keeps;      /* this process, or the program that it executes, uses the destination */
	struct tree_options tree; /* as for staging; other members are filled in */
	struct cancel *cancel;
	unsigned threads;
	struct progress *progress; /* may be NULL */
};

/* Publishes the entry in the target, by the method that is set or else the first that works.
 * *ret_how is the name of the method ("symlink"); *ret_keep: the entry must be kept in use.
 * -ESTALE: the entry is damaged, and the caller removes it with cache_entry_discard(). -EIO: it
 * could not be read. */
int cache_deliver(struct cache_entry *e, const struct cache_target *t, const char **ret_how,
	bool *ret_keep, struct error *err);

/* Closes and removes the entry; if cancelled, at least renames it away. Returns false if others use
 * it. */
bool cache_entry_discard(struct cache_entry *e);

/* path was staged for this request, at this version. If it is the tree of the entry itself, by a
 * link or a mount, updates the time of the entry's last use, verifies a sample of it, and with keep
 * holds it in use until cache_close(). Returns false if the entry is damaged or gone; true also if
 * path is not the tree of the entry. */
bool cache_hold_shared(
	struct cache *c, const struct cache_request *wish, const char *path, bool keep);

/* ---- All entries. ---- */

struct cache_info {
	const char *key;
	const char *what; /* its sources, joined; "" if not known */
	uint64_t disk; /* bytes on the disk or, while it is being filled, bytes reserved for it */
	uint64_t bytes, entries;
	time_t made, used;
	bool complete; /* false: it is being filled, or was left by a killed agent */
	bool damaged;  /* it has a tree but no complete inventory */
	bool in_use;
	const char *unreadable; /* why it cannot be read; NULL: it was read */
};

/* Calls each for all entries, the least recently used first, until it fails. The strings in info
 * are valid during the call. */
int cache_each(const struct cache *c,
	int (*each)(void *ctx, const struct cache_info *info, struct error *err), void *ctx,
	struct error *err);

/* Evicts the least recently used entries until at most `keep` bytes are left (settings: max_size)
 * and min_free bytes are free; entries that are in use, or cannot be read, stay. If key is not
 * NULL, evicts only that entry: -EBUSY if it is in use, -ENOENT if there is none. *ret_removed
 * (entries) and *ret_bytes are set also after a failure. */
int cache_evict(struct cache *c, uint64_t keep, const char *key, uint64_t *ret_removed,
	uint64_t *ret_bytes, struct error *err);

/* How many entries this process has evicted to make room. */
uint64_t cache_evicted(const struct cache *c);

/* Compares an entry with its inventory: finds files that are missing, changed or added; deep: also
 * compares every byte, by the digests of the first deep verification. Returns 0; -ESTALE with the
 * difference; -ENOENT: there is no such entry; another code: it could not be read. progress (may be
 * NULL) counts the bytes of files that were looked at, or deep: read, as received. */
int cache_verify(const struct cache *c, const char *key, bool deep, struct progress *progress,
	struct cancel *cancel, struct error *err);

#endif
