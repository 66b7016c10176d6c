/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_DESTINATION_H
#define STAGERUN_DESTINATION_H

#include "cancel.h"
#include "error.h"
#include "file_sum.h"
#include "object.h"
#include "text.h"
#include "tree.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

/* The destination of a stage: the hidden tree in which it is unpacked, and the moment at which that
 * tree becomes visible.
 *
 * Let DEST be the destination's real path (resolved once), PARENT/NAME. The state directory is
 * PARENT/.stagerun/NAME; or DEST/.stagerun-UID/.stagerun if DEST is a mount root or PARENT is not
 * writable. In the second case, while nothing is under way, there is no state directory, but one
 * regular file DEST/.stagerun with the records, since programs take each directory in a data set
 * for a class (packed records, journal.h). The state directory contains
 *
 * lock             locked by flock(2) while a stage works on DEST
 * owner            the agent that holds the lock; rewritten every second, since mounts need not
 *                  share their locks
 * tree.XXXXXX/     the unfinished tree (also an old one that is being removed)
 * unfinished.json  the version of the unfinished tree: the next run continues it
 * download         with keep_download: the compressed bytes that have arrived for it
 * download.sums    the digests of these bytes
 * journal.json     the publish that is under way; the next run completes it. For a merge it is
 *                  synced before the first rename. After the last one it is renamed to one of:
 * whole.json       what DEST as a whole was staged from, with DEST's inode
 * merged/KEY.json  what some of DEST's entries were staged from, with their inodes
 * published        a symbolic link whose text is DEST's inode: it is on the disk as soon as DEST
 *                  is, unlike the content of whole.json
 * made             a symbolic link whose text is the list of DEST's parents that the agent created
 *
 * With the lock held, anything else in it is from a dead agent and is removed; so is an unfinished
 * tree, unless unfinished.json shows that it can be continued. A state directory without any record
 * is removed too.
 *
 * What happens to DEST:
 *
 * absent, or an empty directory   whole: one rename of the tree. The mode and owner of an empty
 *                                 directory are kept unless the archive sets them. If it is the
 *                                 current directory, the tree is merged into it: no process is
 *                                 left in a removed directory.
 * staged whole by the agent       if it is the same version, nothing is done. Another version is an
 *                                 error; with replace (also when the source has no version to
 *                                 compare) one exchange puts it in place of the old tree, which
 *                                 is then removed. Without replace a tree is replaced only if
 *                                 nobody has changed, added to or removed from it since, by its
 *                                 times of change (-ERR_KEPT); a tree that contains a mount, or a
 *                                 destination of its own, never is.
 * a link into a node cache        it counts as staged whole; a dangling one counts as absent. No
 *                                 link is followed.
 * anything else, or a mount root  merge: the tree's top-level entries are renamed into DEST one
 *                                 by one, and replace no existing name without replace. Entries
 *                                 of an earlier version that the new one lacks are removed, under
 *                                 the same conditions; with replace also those of the same
 *                                 lineage.
 *
 * Several users may share PARENT. A state directory is used only by the user who owns it; another
 * user uses PARENT/.stagerun-UID instead, or a random name if others have taken that. Records of
 * this user and of root are believed if nobody else can write them: a tree that root has staged
 * whole is warm for everybody, a tree of any other user is an error. Where others can write DEST
 * itself, it is believed only while nothing in it has changed. On a file system that is read-only
 * now, records are read, and any other stage is refused.
 *
 * Entries are identified by inode, type and, where the file system stores it, time of birth; not by
 * device number, which changes whenever a volume is mounted. Where inode numbers do not last, or
 * everything was copied, names, sizes and times identify them (journal.h).
 *
 * After a restart of the machine: trees are not synced when they are published, unless the record
 * says so. A record of an earlier boot is believed if the names and sizes of the files are those of
 * the record and no file has a hole that it should not have; files that were added do not count. (A
 * volume may move between machines, and unmounting syncs it.) Otherwise the machine crashed, and
 * the sources are staged again; but not if anything has changed since, which is somebody's work. A
 * journal of an earlier boot is not believed, since the tree's bytes were not synced: entries that
 * it made visible are removed, entries that it replaced are moved back, and the stage starts again.
 * An unfinished tree of an earlier boot is not continued.
 *
 * Functions return 0 or a negative error code, with a message in err. They are called by worker
 * threads, by one at a time for each destination, unless a comment says otherwise. */

/* In the state directory, beside an unfinished tree: the compressed bytes that have arrived for it.
 * They are removed together with the tree. */
#define KEPT_FILE      "download"
#define KEPT_SUMS_FILE "download.sums" /* digests of its pieces */

struct timeline;

struct record_source {
	char *name; /* source_display(); owned by the record */
	struct identity identity;
	/* of the bytes as received, in hexadecimal, if it was computed; "" otherwise */
	char sha256[65];
};

/* Whether the files of a record of an earlier boot are still there and complete. */
enum record_condition {
	RECORD_SOUND,
	/* the machine crashed before they were on the disk, or nothing shows that they are */
	RECORD_LOST,
	RECORD_TOUCHED, /* the same, but somebody has changed a file, or a file could not be read */
	RECORD_UNKNOWN, /* not checked yet; only inside of the implementation */
};

/* What was staged. Written as JSON; a file that is damaged or foreign counts as absent. */
struct record {
	/* identifies sources and options; hexadecimal, also used as a file name */
	char *key;
	char lineage[65]; /* identifies the sources without options and versions; "": not known */
	struct record_source *sources;
	size_t n_sources;
	uint64_t bytes, entries; /* bytes of content, and number of entries, of the tree */
	time_t staged_at;
	bool synced; /* it was on the disk before it was published */
	bool shared; /* its files are hard links into a node cache */
	/* if not synced, it shows whether a crash of the machine has damaged the files */
	struct file_sum sum;
	enum record_condition condition; /* written only if it is RECORD_TOUCHED */
};

void publish_record_free(struct record *r); /* accepts NULL */

struct destination_options {
	bool replace;
	/* with replace: a destination with changes by others does not count as held */
	bool restore;
	/* replaces only what the agent staged there itself: as a whole, or under this key */
	bool renew;
	/* refuses to stage around other destinations, since the result must not contain anything
	 * else */
	bool alone;
	/* The replaced tree stays, hidden, until the next destination_open(), for programs that
	 * still read it; but not inside of DEST. */
	bool keep_replaced;
	struct cancel *cancel;
	/* Called while another agent has the lock: at once, then four times a second, instead of
	 * the log lines. May be NULL. */
	void (*on_wait)(void *ctx);
	void *on_wait_ctx;
	/* Where a wait for the lock is recorded, beneath which span; and to what its length is
	 * added. May be NULL. */
	struct timeline *timeline;
	unsigned span;
	atomic_ullong *lock_ns;
	struct wait_limit lock_limit; /* -EBUSY when another agent holds the lock for longer */
	uint64_t log_every_ms;        /* interval of the log lines; 0: one minute */
};

struct destination;

/* Resolves dir, creates missing parents, chooses the state directory, and shows by a trial that a
 * directory can be created and renamed there, before any byte is fetched: the error says what to
 * mount or set. Then waits for the lock (log lines name its holder, and since when that one has
 * held it), completes an interrupted publish, and removes what a killed agent left. *ret is owned
 * by the caller: destination_close(). */
int destination_open(const char *dir, const struct destination_options *opts,
	struct destination **ret, struct error *err);

/* The same, but DEST is the last component of path in the directory parent_fd, which is borrowed.
 * path is for messages; no part of it is resolved or followed. */
int destination_open_in(int parent_fd, const char *path, const struct destination_options *opts,
	struct destination **ret, struct error *err);

/* Opens DEST only to find out what a stage into it would do: creates, locks, completes and changes
 * nothing, and does not wait. Only destination_path(), destination_holds(), destination_check(),
 * destination_outlook() and destination_close() may be called then. destination_check() also has
 * the reason if this user cannot stage here. A record of an earlier boot is believed without a look
 * at its files. */
int destination_look(const char *dir, const struct destination_options *opts,
	struct destination **ret, struct error *err);

/* What is there. */
struct destination_outlook {
	int disk_fd;          /* a directory of the new tree's file system (O_PATH); borrowed */
	bool continues;       /* a killed agent left a tree for the key */
	struct strings names; /* some entries of others, which stay; text_strings_done() */
	size_t n_more;        /* how many of these there are besides */
};
/* After destination_look() and destination_check(). */
void destination_outlook(
	const struct destination *d, const char *key, struct destination_outlook *ret);

/* Returns the real path; borrowed. */
const char *destination_path(const struct destination *d);

/* Returns the object in which trees for this destination note the attributes that the file system
 * does not support; destination_publish() logs them. Borrowed. Any thread. */
struct losses *destination_losses(struct destination *d);

/* Returns the record of what was staged under this key, if it is still there as it was left (same
 * inodes); otherwise NULL. The destination owns it, until the next call. */
const struct record *destination_holds(struct destination *d, const char *key);

/* Creates the hidden tree. Fails if DEST was staged from something else (the message says what and
 * when) and replace was not asked for. May be called again to start over: the previous tree is
 * removed. The fds are borrowed. *ret_state_fd: the state directory, for temporary files. */
int destination_begin(struct destination *d, const char *key, int *ret_root_fd, int *ret_state_fd,
	struct error *err);

/* As destination_begin(), but if a killed agent left a tree for this key, that tree is used as it
 * is, and destination_continued() returns the version that it is of. NULL: the tree is new. */
int destination_continue(struct destination *d, const char *key, int *ret_root_fd,
	int *ret_state_fd, struct error *err);
const struct record *destination_continued(const struct destination *d);

/* As destination_begin(), but KEPT_FILE is not removed: it is of the version that the new tree will
 * have. */
int destination_restart(struct destination *d, const char *key, int *ret_root_fd, int *ret_state_fd,
	struct error *err);

/* Checks what destination_begin() would refuse. Creates and removes nothing. */
int destination_check(struct destination *d, const char *key, struct error *err);

/* Writes unfinished.json, before the first entry, for a run that has to continue the tree. r: the
 * version of the tree (its bytes and entries are ignored). *ret_since: anything that is changed in
 * the tree from now on has this time of change or a later one, by the file system's clock. */
int destination_note(struct destination *d, const struct record *r, struct timespec *ret_since,
	struct error *err);

/* Any thread, between begin and publish. Called when the first entry with this top-level name is
 * unpacked, to fail early: -EEXIST if the entry would replace a name that it may not replace,
 * -ERR_REFUSED for the agent's own names (".stagerun"). */
int destination_accepts(struct destination *d, const char *top_name, struct error *err);

/* Makes the hidden tree visible and records it. root is from tree_finish(). After a failure nothing
 * of this tree is visible. If it is cancelled between two renames of a merge, it is half done: the
 * tree and the journal stay, whatever is passed to destination_close(), and the next run completes
 * it. */
int destination_publish(struct destination *d, const struct record *record, const struct meta *root,
	struct error *err);

/* Instead of destination_begin() and destination_publish(): DEST becomes a symbolic link to target,
 * the tree of a node cache. -ENOTEMPTY, -EBUSY and the like if DEST is something that a link cannot
 * replace: entries of others, a mount, the current directory. As with any tree, what was staged
 * before is replaced only if that was asked for. */
int destination_publish_link(struct destination *d, const char *key, const char *target,
	const struct record *record, struct error *err);

/* Returns the target, if DEST is such a link; otherwise NULL. The destination owns it, until the
 * next call. */
const char *destination_link(struct destination *d);

/* Whether users other than this one can write the file or directory fd, by its mode. Write
 * permission of a group of this process that comes from Kubernetes' fsGroup does not count. dir_fd:
 * the directory that contains the file. Any thread. */
bool destination_is_open_to_others(int fd, int dir_fd);

/* A tree of a node cache (cache.h) is DIR/v1/KEY/tree. KEY is two digests with a '-' between them:
 * of what was asked for, and of its version. */
#define CACHE_TREES_NAME "v1"
#define CACHE_TREE_NAME  "tree"
#define CACHE_KEY_DIGITS 32
#define CACHE_KEY_LEN    (2 * CACHE_KEY_DIGITS + 1)
/* Whether s begins with such a KEY. Any thread. */
bool destination_has_cache_key(const char *s);

/* Sets *ret_path, owned by the caller, to an absolute path by which two spellings of one
 * destination compare equal: the real path of the part that exists, with the rest as it is. Whether
 * anything can be staged there is checked when it is opened. Fails only if dir is relative and the
 * current directory is not known. Any thread. */
int destination_canonical_path(const char *dir, char **ret_path, struct error *err);

/* As destination_publish_link(), but the directory target is mounted on DEST, read-only. The record
 * holds for as long as the mount exists. -EPERM where mounting is not permitted. */
int destination_publish_mount(struct destination *d, const char *key, const char *target,
	const struct record *record, struct error *err);

/* Returns the record of dir as a whole, without taking the lock; NULL: there is none yet. The
 * caller frees it with publish_record_free(). */
struct record *destination_peek(const char *dir);

/* The same for the last component of path in parent_fd, as in destination_open_in(). *ret NULL:
 * there is no record. -errno: it cannot be read. */
int destination_peek_in(int parent_fd, const char *path, struct record **ret, struct error *err);

/* Releases the lock and frees d. An unpublished tree is removed; or, if leave_tree, left for the
 * next run, when a signal leaves no time. Accepts NULL. */
void destination_close(struct destination *d, bool leave_tree);

#endif
