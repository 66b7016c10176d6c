/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_H
#define STAGERUN_PUBLISH_H

#include "cancel.h"
#include "error.h"
#include "file_sum.h"
#include "object.h"
#include "tree.h"
#include <stdbool.h>
#include <time.h>

/* The destination of a stage: where its hidden tree grows, and the one moment after which it
 * exists.
 *
 * Let DEST be the destination's real path (resolved once), PARENT/NAME. State lives in the state
 * directory: PARENT/.stagerun/NAME; or DEST/.stagerun/.stagerun when DEST is a mount root or PARENT
 * is not writable. It holds
 *
 * lock             flock'd while a stage works on DEST: liveness, never a pid
 * tree.XXXXXX/     the unfinished tree (also an old one that is being removed)
 * unfinished.json  which version of what that tree is becoming: the next run goes on with it
 * download         the compressed bytes that have arrived for it, where that is wanted (keep_download)
 * journal.json     the publish that is under way; a rerun completes it. Of a merge it is fsynced
 *                  before the first rename. After the last it becomes, by a rename, one of:
 * whole.json       what DEST as a whole was staged from, with DEST's inode
 * published        a symbolic link whose text is that inode: it is on the disk as soon as DEST is there,
 *                  which cannot be said of whole.json's content
 * merged/KEY.json  what some of DEST's entries were staged from, with their inodes
 *
 * and nothing else for long: whatever else is found there with the lock held is a dead agent's and
 * is removed; also an unfinished tree, unless unfinished.json says that it can be gone on with. Without any record the state directory is removed too.
 *
 * What happens to DEST:
 *
 * absent, or an empty directory   whole: one rename of the tree. An empty directory's mode and
 *                                 owner stay unless the archive speaks of them. One that is the
 *                                 current directory is merged into: nobody is left in a removed
 *                                 directory.
 * staged whole by the agent       the same version: nothing to do. Else an error, or with replace
 *                                 (also when the same source gives no version to compare) one
 *                                 exchange, then the old tree is removed.
 * a link into a node cache        as staged whole; when it leads nowhere, as absent. It is never followed
 * anything else, or a mount root  merge: the tree's top-level entries are renamed into DEST one by
 *                                 one, never over an existing name without replace. Entries of an
 *                                 earlier version that the new one does not have stay.
 *
 * Several users may share PARENT. A state directory is used only by the user it belongs to; for
 * another user PARENT/.stagerun-UID takes its place, and what cannot be trusted (a link, a file) is
 * refused. What another user staged whole is warm all the same, and so is what lies on a file
 * system that is now read-only: the records are read, and staging anything else is refused.
 *
 * Entries are known by inode, type and, where the file system keeps it, time of birth; not by
 * device number, which changes whenever a volume is mounted.
 *
 * After the kernel was started anew: nothing is synced when it is published, unless the record says so. A record
 * of another boot is believed when the names and sizes of the files are what it says and none has a hole that it should
 * not have (a volume moves between machines, and unmounting syncs it), files that were added aside. If not, the
 * machine crashed, and what was staged is staged anew; but not when anything has changed since, for that is somebody's work. A
 * journal of another boot is not believed, since the tree's bytes were not synced:
 * what it had made visible is taken back, what it had replaced is put back, and the stage starts
 * anew. Nor is an unfinished tree of another boot gone on with.
 *
 * Worker threads, one at a time for each destination, where nothing else is said. */

/* In the state directory, beside an unfinished tree: the compressed bytes that have arrived for it. It goes where
 * the tree goes. */
#define KEPT_FILE "download"

struct record_source {
	char *key;  /* source_key() */
	char *name; /* source_display() */
	struct identity identity;
	char sha256[65]; /* of the bytes as fetched, when it was computed; "" otherwise */
};

/* Whether what a record of another boot tells of is still there, all of it. */
enum record_doubt {
	RECORD_SOUND,
	RECORD_LOST, /* the machine crashed before it was on the disk, or nothing tells */
	RECORD_TOUCHED, /* the same, but somebody has changed something in it, or has kept us from looking */
	RECORD_UNKNOWN, /* inside of destinations only */
};

/* What was staged. Written as JSON; a file that is damaged or foreign counts as absent. */
struct record {
	char *key; /* names sources and options; hex, fit for a file name */
	struct record_source *sources;
	size_t n_sources;
	uint64_t bytes, entries; /* of the tree */
	time_t staged_at;
	bool synced;             /* it was on the disk before it was published */
	struct file_sum sum;     /* else that tells whether a crash of the machine has damaged it */
	enum record_doubt doubt; /* not written */
};

void record_free(struct record *r); /* accepts NULL */

struct destination_options {
	bool replace;
	bool renew; /* replace, but only what the agent staged there itself: whole, or under this key */
	bool keep_replaced; /* what is replaced stays, hidden, until the next open, for who still reads it */
	struct cancel *cancel;
	/* While another agent has the lock: called at once and then four times a second, in place of the log
	 * line. May be NULL. */
	void (*on_wait)(void *ctx);
	void *on_wait_ctx;
};

struct destination;

/* Resolves dir, makes missing parents, finds the state directory and proves that a directory can be
 * made and renamed there, before any byte is fetched: the error says what to mount or set. Then
 * waits for the lock (a log line says for whom), completes an interrupted publish and removes what a
 * killed agent left. */
int destination_open(const char *dir, const struct destination_options *opts,
	struct destination **ret, struct error *err);

/* The real path. */
const char *destination_path(const struct destination *d);

/* What is there under this key and still as it was left (same inodes); NULL when nothing is. Owned
 * by the destination, until the next call. */
const struct record *destination_holds(struct destination *d, const char *key);

/* Makes the hidden tree. An error when DEST was staged from something else (what, when) and replace
 * was not asked. May be called again to start over: the previous tree is removed. The fds are the
 * destination's. state_fd: the state directory, for temporary files. */
int destination_begin(struct destination *d, const char *key, int *ret_root_fd, int *ret_state_fd,
	struct error *err);

/* As destination_begin(), but when a killed agent left a tree for this key, that tree is taken up as it is, and
 * destination_continued() says of which version it is. NULL: it is a new one. */
int destination_continue(struct destination *d, const char *key, int *ret_root_fd,
	int *ret_state_fd, struct error *err);
const struct record *destination_continued(const struct destination *d);

/* As destination_begin(), but KEPT_FILE stays: it is of the version that the new tree will be of. */
int destination_restart(struct destination *d, const char *key, int *ret_root_fd, int *ret_state_fd,
	struct error *err);

/* What destination_begin() would refuse; makes nothing and removes nothing. */
int destination_check(struct destination *d, const char *key, struct error *err);

/* Before the first entry: what the tree is becoming, for a run that has to go on with it (bytes and entries do not
 * matter). *ret_since: what is changed in the tree from now on has this time of change or a later one, by the
 * file system's clock. */
int destination_note(struct destination *d, const struct record *r, struct timespec *ret_since,
	struct error *err);

/* Any thread, between begin and publish. Fails early, when the first entry with this top-level name
 * is unpacked: would it be published over a name that exists? Names of the agent's own
 * (".stagerun") are refused always. */
int destination_accepts(struct destination *d, const char *top_name, struct error *err);

/* Makes the hidden tree visible and records it. root is from tree_finish(). After a failure nothing
 * of this tree is visible. Cancelled between two renames of a merge it is half done: the tree and the
 * journal stay, whatever destination_close() is told, and the next run completes it. */
int destination_publish(struct destination *d, const struct record *record, const struct meta *root,
	struct error *err);

/* Instead of destination_begin() and destination_publish(): DEST becomes a symbolic link to target, the tree
 * of a node cache. -ENOTEMPTY, -EBUSY and the like when there is something that a link cannot take the place
 * of: others' entries, a mount, a directory that somebody is in. As with any tree, what was staged before
 * is only replaced when that was asked. */
int destination_publish_link(struct destination *d, const char *key, const char *target,
	const struct record *record, struct error *err);

/* Where the link goes that DEST is; NULL: it is none. The destination's, until the next call. */
const char *destination_link(struct destination *d);

/* Whether path is such a link: it is a destination itself, not the way to another one. */
bool destination_is_link(const char *path);

/* As above, but the directory target is mounted on DEST, read-only. The record says so for as long as
 * the mount is there. -EPERM where it is not permitted. */
int destination_publish_mount(struct destination *d, const char *key, const char *target,
	const struct record *record, struct error *err);

/* What dir as a whole was staged from, asked without the lock; NULL: nothing, or not yet. The caller's. */
struct record *destination_peek(const char *dir);

/* Unlocks. An unpublished tree is removed, or left for the next run when a signal leaves no time.
 * Accepts NULL. */
void destination_close(struct destination *d, bool leave_tree);

#endif
