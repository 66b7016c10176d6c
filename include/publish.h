/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_H
#define STAGERUN_PUBLISH_H

#include "cancel.h"
#include "error.h"
#include "object.h"
#include "tree.h"
#include <stdbool.h>
#include <time.h>

/* The destination of a stage: where its hidden tree grows, and the one moment after which it
 *exists.
 *
 * Let DEST be the destination's real path (resolved once), PARENT/NAME. State lives in the state
 * directory: PARENT/.stagerun/NAME, or DEST/.stagerun when DEST is a mount root or PARENT is not
 * writable. It holds
 *	lock		flock'd while a stage works on DEST: liveness, never a pid
 *	tree.XXXXXX/	the unfinished tree (also an old one that is being removed)
 *	whole.json	what DEST as a whole was staged from, with DEST's device and inode
 *	merged/KEY.json	what some of DEST's entries were staged from, with their inodes
 *	journal.json	the publish that is under way (merge only): fsynced before the first rename,
 *			removed after the last; a rerun completes it
 *
 *	DEST is absent or an empty directory	whole: the tree is renamed to DEST, one rename
 *	DEST was staged whole by the agent	the same version: nothing to do; else an error, or
 *						with replace one exchange, then the old tree is
 *removed DEST exists otherwise, or is a mount root  merge: the tree's top-level entries are renamed
 *into DEST one by one, never over an existing name without replace
 *
 * Worker threads, one at a time for each destination. */

struct record_source {
	char *key;  /* source_key() */
	char *name; /* source_display() */
	struct identity identity;
	char sha256[65]; /* of the bytes as fetched, when it was computed; "" otherwise */
};

/* What was staged. Written as JSON; a file that is damaged or foreign counts as absent. */
struct record {
	char *key; /* names sources and options; hex, fit for a file name */
	struct record_source *sources;
	size_t n_sources;
	uint64_t bytes, entries; /* of the tree */
	time_t staged_at;
};

void record_free(struct record *r); /* accepts NULL */

struct destination_options {
	bool replace;
	struct cancel *cancel;
};

struct destination;

/* Resolves dir, makes missing parents, finds the state directory and proves that a directory can be
 * made and renamed there, before any byte is fetched: the error says what to mount or set. Then
 * waits for the lock (a log line says for whom), completes an interrupted merge and removes what a
 * killed agent left. */
int destination_open(const char *dir, const struct destination_options *opts,
	struct destination **ret, struct error *err);

/* The real path. */
const char *destination_path(const struct destination *d);

/* What is there under this key and still as it was left (same inodes); NULL when nothing is. Owned
 * by the destination. */
const struct record *destination_holds(struct destination *d, const char *key);

/* Makes the hidden tree. An error when DEST was staged from something else (what, when) and replace
 * was not asked. May be called again to start over: the previous tree is removed. The fds are the
 * destination's. state_fd: the state directory, for temporary files. */
int destination_begin(struct destination *d, const char *key, int *ret_root_fd, int *ret_state_fd,
	struct error *err);

/* Fails early, when the first entry with this top-level name is unpacked: would it be published
 * over a name that exists? */
int destination_accepts(struct destination *d, const char *top_name, struct error *err);

/* Makes the hidden tree visible and records it. root is from tree_finish(). After a failure nothing
 * of this tree is visible, except in a merge the entries that were renamed before it, which the
 * journal remembers. */
int destination_publish(struct destination *d, const struct record *record, const struct meta *root,
	struct error *err);

/* Unlocks. An unpublished tree is removed, unless cancel was requested: then it is left for the
 * next run, as a signal leaves no time. Accepts NULL. */
void destination_close(struct destination *d);

#endif
