/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CACHE_H
#define STAGERUN_CACHE_H

#include "cancel.h"
#include "error.h"
#include "progress.h"
#include "publish.h"
#include "tree.h"
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* The node cache: trees that were staged once and are delivered from then on, whoever wants them on this
 * node. DIR belongs to one user, and holds
 *
 * v1/room           flock'd while somebody makes room
 * v1/KEY/use        flock'd shared by whoever fills, delivers or uses the entry; its mtime is the last use
 * v1/KEY/tree       the entry: a destination (publish.h) that is staged as any other, but without write
 *                   bits; there is no entry before it is there
 * v1/KEY/.stagerun  that destination's state: its lock dies with its holder
 * v1/KEY/inventory    what the tree holds, with true modes; written and synced before the tree appears
 * v1/KEY/filling    how far whoever fills it has come, and the room that was set aside for it
 * v1/KEY/digests    of the files, from the first deep verification on
 * v1/gone.XXXXXX    an evicted entry that is being removed
 *
 * KEY is a digest of what was asked for (sources, options) and one of the version that it was: what is found
 * under it never changes. An entry is removed only by who has KEY/use alone, and by a rename of KEY first;
 * it is never replaced in place. Nobody waits for KEY/use but for the moment of that rename.
 *
 * After a crash of the machine an entry with a whole record and inventory is exact: both became visible after
 * the tree was on the disk. Anything less is removed. */

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
	uint64_t max_size; /* of all entries, as they lie on the disk; 0: no limit */
	uint64_t min_free; /* of its file system */
	enum cache_delivery deliver;
};

struct cache;

/* Makes DIR. -EPERM when it is another user's, or others may write to it. */
int cache_open(const struct cache_options *opts, struct cache **ret, struct error *err);
void cache_close(struct cache *c); /* accepts NULL; what it kept in use is not any more */
const char *cache_dir(const struct cache *c); /* its real path */

/* Any thread. What was kept in use stays so for the program that this process becomes, and its children: by
 * descriptors with high numbers, the only ones of the agent's that pass. */
void cache_pass_on(struct cache *c);

/* ---- An entry. One thread at a time, each its own. ---- */

#define CACHE_KEY_LEN 65

struct cache_wish {
	const char *asked;         /* hex digest of sources and options, of at least 32 digits */
	const char *version;       /* the same of the version */
	const char *what;          /* for messages */
	struct cancel *cancel;     /* of waiting, of making room and of removing */
	struct progress *progress; /* shows the other's while waiting; may be NULL */
};

struct cache_entry;

/* Finds the entry or, when it is not there, locks it to be filled: waits for another agent that does so, and
 * takes over when that dies. A damaged one is removed, with a warning, and is to be filled. -EPERM: it is
 * another user's. -EROFS: it is not there and cannot be made. */
int cache_entry_open(struct cache *c, const struct cache_wish *wish, struct cache_entry **ret,
	struct error *err);

const char *cache_entry_path(const struct cache_entry *e); /* of its tree */
/* NULL: it is to be filled. */
const struct record *cache_entry_record(const struct cache_entry *e);

/* Unlocks. keep: it stays in use until cache_close(). Accepts NULL. */
void cache_entry_close(struct cache_entry *e, bool keep, bool leave_tree);

/* The records of the versions that the cache has of what was asked for, the last used first; for telling whether
 * one is still the current one. NULL: none. The caller's. */
struct record *cache_newest(const struct cache *c, const char *asked);

/* ---- Filling it, in this order. ---- */

/* Makes room for bytes (those known to come; more is made while it is filled), evicting what was not used for
 * longest. -ERR_SPACE: it cannot be made, since what is there is in use, or would never fit; -ECANCELED. Then
 * progress, n of them, is watched until cache_fill_end(). */
int cache_fill_begin(struct cache_entry *e, uint64_t bytes, const struct progress *progress,
	size_t n, struct error *err);
/* Where it is staged to. */
struct destination *cache_fill_destination(struct cache_entry *e);
/* After tree_finish() and before destination_publish(): lists the tree at root_fd, takes its write bits and
 * puts all on the disk. *root becomes what is to be published. */
int cache_fill_seal(struct cache_entry *e, int root_fd, struct meta *root,
	const struct record *record, struct error *err);
/* Also after a failure. ok: it was published. */
int cache_fill_end(struct cache_entry *e, bool ok, struct error *err);

/* ---- Delivering it. ---- */

struct cache_target {
	struct destination *to;
	const char *key;          /* as destination_begin() */
	bool read_only;           /* may be a link; copies have no write bits */
	bool keeps;               /* this process, or what it becomes, goes on to use it */
	struct tree_options tree; /* as for staging; the rest is filled in */
	struct cancel *cancel;
	unsigned threads;
	struct progress *progress; /* may be NULL */
};

/* Publishes the entry in the target, by the way that the settings ask for or the first that works; *ret_how
 * tells ("symlink"), *ret_keep whether the entry must be kept. -ESTALE: it is damaged (said so), and was
 * closed to be removed: cache_entry_discard(). */
int cache_deliver(struct cache_entry *e, const struct cache_target *t, const char **ret_how,
	bool *ret_keep, struct error *err);

/* Closes and removes it; when cancelled, its name at least. false: others use it. */
bool cache_entry_discard(struct cache_entry *e);

/* path was staged as what is asked for, at that version. If it is the very tree of the entry, by a link or a mount,
 * the entry is in use from now on, and with keep until cache_close(). false: it is not whole any more. */
bool cache_keep_shared(struct cache *c, const struct cache_wish *wish, const char *path, bool keep);

/* ---- All entries. ---- */

struct cache_info {
	const char *key;
	const char *what; /* its sources, joined; "" when not known */
	uint64_t disk;    /* bytes it takes or, while it is filled, that are set aside */
	uint64_t bytes, entries;
	time_t made, used;
	bool complete; /* false: being filled, or what a killed agent left */
	bool in_use;
};

/* The least recently used first. */
int cache_each(const struct cache *c,
	int (*each)(void *ctx, const struct cache_info *info, struct error *err), void *ctx,
	struct error *err);

/* Evicts the least recently used until at most `keep` bytes are left (settings: max_size) and min_free is free;
 * what is in use stays. key not NULL: only that entry; -EBUSY when it is in use. */
int cache_evict(struct cache *c, uint64_t keep, const char *key, uint64_t *ret_removed,
	uint64_t *ret_bytes, struct error *err);

/* Compares an entry with its inventory; deep: every byte, with the digests of the first deep verification.
 * 0, or -ESTALE and what is wrong. */
int cache_verify(const struct cache *c, const char *key, bool deep, struct cancel *cancel,
	struct error *err);

#endif
