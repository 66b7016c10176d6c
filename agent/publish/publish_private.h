/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_PRIVATE_H
#define STAGERUN_PUBLISH_PRIVATE_H

#include "destination.h"
#include "error.h"
#include "file_sum.h"
#include "inode.h"
#include "journal.h"
#include "losses.h"
#include "text.h"
#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Publishing: the hidden tree becomes visible in DEST, all at once, and replaces nothing that it
 * may not replace. include/destination.h describes the state directory and what happens to DEST.
 * In the order of use:
 *
 *   destination.c  opens and closes a destination, chooses its state directory, recovers
 *   resolve.c      the real path of DEST; missing parents are created
 *   trust.c        which files of which owner are believed
 *   state_dir.c    finds, creates and packs the state directory
 *   owner.c        its lock, a flock; a heartbeat file beside that, for mounts that share no locks
 *   nest.c         mounts and other destinations above and below DEST
 *   holdings.c     what the records hold: which entries are still the files that were published
 *   crash_check.c  whether a record of an earlier boot is still true
 *   replace.c      which entries may be replaced; the survey of changes since they were staged
 *   leftovers.c    removes what earlier runs left; finds the unfinished tree to continue
 *   publish.c      creates the hidden tree; writes the journal of the renames
 *   link.c         a link to a tree of the node cache, or a mount of it, instead of a tree
 *   moves.c        carries out a journal, or undoes it
 *   journal.h, journal.c, packed.c   records and journals as files
 *   inode.h, inode.c                 identity of files; reading of directories
 *
 * Threads: a destination is used by one thread at a time, the stage's thread, unless a comment
 * says otherwise. destination_accepts() may be called by any thread. While a destination is
 * locked, owner.c runs one thread for its heartbeat. */

struct survey;

/* ---- trust.c: which files are believed. Any thread. ---- */

/* This process believes itself and root, as long as nobody else can write the file. The same
 * rule holds for state, for the entries that state describes, and for the directories that
 * contain either. */
enum trust {
	TRUST_OURS,    /* owned by this user */
	TRUST_ROOTS,   /* owned by root, and this user is not root */
	TRUST_OPEN,    /* owned by this user, but writable by others */
	TRUST_FOREIGN, /* owned by another user, or by root and writable by others */
};

/* A file system may give all files to one user, whoever creates them (NFS with squashed root,
 * FUSE), and may not store modes (SMB, FUSE). So where owner or mode do not fit, trust_inode()
 * creates a file and compares: what the file system makes of a file of ours shows what owner and
 * mode mean there. On a read-only file system nobody else can write either.
 *
 * fs_fd: a directory of that file system (O_PATH) to create the file in; -1: no file is created.
 *
 * Kubernetes may give files to a group of this process; then that group may write. Such a file
 * is recognised by the setgid bit of a directory, or, for other files, by setgid bit and group
 * of the directory fs_fd. */
enum trust trust_inode(const struct inode *inode, int fs_fd);

/* Whether this user may rely on it: TRUST_OURS or TRUST_ROOTS. */
bool trust_is_good(enum trust t);

/* ---- nest.c: mounts and destinations above and below. ---- */

/* Appends to ret all mount points of this mount namespace at or below path, a real path; among
 * them bind mounts of the same file system and of files. Any thread. */
void nest_list_mounts(const char *path, struct strings *ret);

/* Returns the first of mounts at or below path, borrowed from mounts; NULL if there is none. Any
 * thread. */
const char *nest_find_mount(const struct strings *mounts, const char *path);

/* Fails when a directory above dir was staged whole and read-only. 0, -ERR_KEPT or another
 * error. */
int nest_check_above(const char *dir, struct error *err);
/* Fails when an entry right in DEST is a destination of its own. 0 or -ERR_KEPT. */
int nest_check_below(const struct destination *d, struct error *err);

/* ---- resolve.c: paths. ---- */

/* Sets *ret_path, owned by the caller, to the real path of dir: realpath(3) of the part that
 * exists, with the missing part appended. Fails for "/", for a dangling symbolic link, for ".."
 * beyond the part that exists, and for the agent's own directories. */
int resolve_path(const char *dir, char **ret_path, struct error *err);

/* The directories of a path that this run created, the deepest first. */
#define MADE_MAX 32
struct made {
	struct inode v[MADE_MAX];
	size_t n;
};

#define MADE_LINK "made" /* a symbolic link, whose text lists the created parents */

/* Writes MADE_LINK for the run that follows if this one is killed, or, if this run created no
 * parents, reads it. */
void resolve_note_made(struct made *m, int state_fd);

/* Opens (O_PATH) the directory path, a real path, without following links. Creates missing
 * directories and adds them to made; if made is NULL it fails with -ENOENT instead. dest is the
 * name in the error message. */
int resolve_parents(
	const char *path, const char *dest, struct made *made, int *ret_fd, struct error *err);

/* Removes those directories of path that are in m, are still the same and are empty. */
void resolve_remove_made(const char *path, const struct made *m);

/* Whether an errno of a mkdir or rename means that this user cannot stage here: permissions, a
 * read-only file system, or another file system. */
int resolve_is_refusal(int errnum);

/* Prints the reason for such an errno, such as "read-only" or "not writable by uid 1000".
 * Returns buf. */
const char *resolve_describe_refusal(int errnum, char buf[static 64]);

/* ---- state_dir.c: the state directory. ---- */

/* The names of a destination, and its state directory. */
struct state_dir {
	char *path;       /* DEST */
	char *parent;     /* PARENT */
	const char *name; /* NAME; points into path */
	int parent_fd;    /* O_PATH */
	struct made made; /* the parents that were created */

	/* Set by state_dir_open_state() and state_dir_open_existing(). */
	bool inside;   /* the state directory is in DEST: entries are merged */
	int host_fd;   /* O_PATH; PARENT or DEST: the directory that contains base */
	char base[64]; /* name of the directory that contains the state directory */
	int base_fd;   /* O_PATH */
	int state_fd;  /* -1: there are only packed records */
	char *state_path;
	struct packed_records packed; /* if inside: the records of earlier stages */
	/* If inside: root's records. They are read, but never rewritten, and permit no
	 * replacing. */
	struct packed_records roots;
};

void state_dir_init(struct state_dir *p);
void state_dir_done(struct state_dir *p);

/* Resolves dir. make: creates missing parents and records them in p->made; otherwise they are an
 * error, -ENOENT. */
int state_dir_resolve(struct state_dir *p, const char *dir, bool make, struct error *err);

/* Instead of state_dir_resolve(): uses the last component of path in the open directory
 * parent_fd, which it duplicates. path is for messages only; no part of it is resolved. 0 or
 * -errno. */
int state_dir_resolve_at(struct state_dir *p, int parent_fd, const char *path);

/* Opens the state directory beside or inside DEST, and creates it if needed. -ENOENT when
 * another process removed a part of it meanwhile: try again. An error of resolve_is_refusal()
 * when there cannot be one here. */
int state_dir_open_state(struct state_dir *p, bool inside, struct error *err);

/* The name of the directory that contains the state directories: the common one, this user's
 * own, or a random one where other users have taken both. */
enum state_dir_name { STATE_DIR_COMMON, STATE_DIR_OWN, STATE_DIR_RANDOM, STATE_DIR_NAMES };

/* Opens an existing state directory in order to read the records of DEST. Only a directory of
 * root or of this user that nobody else can write is believed. 0; -ENOENT when there is none or
 * it is not believed; -errno. */
int state_dir_open_existing(struct state_dir *p, bool inside, enum state_dir_name n);

/* Opens a state directory beside DEST that belongs to another user, for an error message.
 * *ret_uid is its owner. */
int state_dir_open_foreign(struct state_dir *p, uid_t *ret_uid);

/* Reads the packed records again: they may have changed before the lock was taken. */
void state_dir_load_packed(struct state_dir *p);

/* Whether the directory that contains the open state directory belongs to this user. */
bool state_dir_is_ours(const struct state_dir *p);

void state_dir_close_state(struct state_dir *p);

/* Checks by a trial that a directory which was created in the state directory, and is not empty,
 * can be renamed into the directory target_fd. The lock must be held, since the names that it
 * uses are this destination's. 0 or -errno; then *ret_moves_files says whether at least a file
 * can be renamed, so that the file system refuses directories. */
int state_dir_probe(const struct state_dir *p, int target_fd, bool *ret_moves_files);
/* Whether the directory dir_fd/name can be renamed. On overlayfs a directory of a lower layer
 * cannot. */
bool state_dir_can_move(const struct state_dir *p, int dir_fd, const char *name);

/* Removes the state directory and the directory that contains it, if they are empty. */
void state_dir_remove_state(const struct state_dir *p);

/* Moves the records of a state directory inside DEST into one regular file. The lock must be
 * held and no publish may be under way. Returns false if that failed; then nothing has changed. */
bool state_dir_pack(struct state_dir *p);

/* Removes those of the created parents that are empty. */
void state_dir_remove_parents(struct state_dir *p);

/* ---- owner.c: the lock, a flock, and a heartbeat file beside it. ---- */

/* Two mounts of one file system need not share their locks (NFS and FUSE without locks, or with
 * a flock() that always succeeds). So the agent that holds the lock also creates a file, which
 * only one agent can create, with its identity in it, and rewrites that file every second. An
 * owner whose file changes is alive. */
#define LOCK_FILE  "lock"
#define OWNER_FILE "owner"

struct owner;

/* Takes the destination's lock, creates the owner file and starts the heartbeat. Sleeps as long as
 * another agent holds the lock, or is alive as owner; opts' on_wait or log lines report that.
 * Replaces a dead owner: at once when the owner is known to be dead (this machine has not been
 * restarted since, and either the owner's process is gone, or all locks of this file system are
 * this machine's), otherwise when its file has not changed for some seconds. -ENOENT when the state
 * directory was removed meanwhile: open it again. -ECANCELED within 250 ms of the request. -EBUSY
 * after opts' lock_limit. */
int owner_acquire(const struct state_dir *p, const struct destination_options *opts,
	int *ret_lock_fd, struct owner **ret, struct error *err);

/* Fails with -ESTALE if the file is no longer o's: another machine may have replaced this agent
 * while it was suspended. */
int owner_check(const struct owner *o, struct error *err);

/* Stops the heartbeat, removes the file if it is o's, and frees o; the lock stays. Accepts NULL. */
void owner_release(struct owner *o);

/* ---- destination.c ---- */

enum dest_kind {
	DEST_ABSENT,
	DEST_EMPTY, /* a directory that may be replaced by a rename */
	DEST_OURS,  /* staged as a whole, and still the same directory or link into a node cache */
	DEST_LINK,  /* a link into a node cache that is dangling or has no record */
	DEST_OTHER, /* anything else that exists: entries are merged into it */
};

/* A top-level entry in DEST that was staged under the present key or lineage. */
struct owned {
	char *name;
	struct inode inode;
};

struct destination {
	/* Set by destination_open() and constant. */
	struct destination_options opts;
	struct state_dir place;
	int lock_fd;          /* -1: this user cannot write here, records are only read */
	struct owner *owner;  /* NULL if lock_fd is -1 */
	struct error refusal; /* the reason, if lock_fd is -1; with looks: code 0: none */
	bool looks;           /* destination_look(): lock_fd is -1, and nothing is changed */

	struct losses *losses; /* has a lock of its own: any thread */

	/* The stage's thread. */
	bool keep_download;  /* leftovers_remove() does not remove the partial download */
	struct record *held; /* the last result of destination_holds() */
	char *link;          /* the last result of destination_link() */

	/* Set by destination_begin() and constant until the next call, since
	 * destination_accepts() may be called by any thread. */
	enum dest_kind kind;
	int dest_fd;   /* O_PATH; -1 unless entries are merged into DEST */
	char tree[16]; /* name of the hidden tree in the state directory; "" without one */
	int tree_fd;
	mode_t tree_mode;    /* mode of a new directory under the user's umask */
	bool keeps_replaced; /* the replaced tree is not removed yet */
	bool replace;        /* DEST_OURS may be replaced */
	struct inode old;    /* DEST, if it is to be replaced */
	/* DEST_OTHER: the entries that this stage may replace, sorted by name */
	struct owned *owned;
	size_t n_owned;
	bool surveyed; /* a survey found that nobody has changed what is to be replaced */
	/* The stage's thread, under the lock. What a crash check found, for each publish_kind but
	 * PUBLISH_UNFINISHED; RECORD_UNKNOWN: there was none yet. */
	enum record_condition conditions[2];
	struct record *continued; /* version of the continued tree; NULL: the tree is new */
};

/* Finds out what DEST is now. Asks the file system at every call. */
int destination_classify(struct destination *d, enum dest_kind *ret, struct error *err);

/* Opens DEST's directory (O_PATH), to rename entries into it. */
int destination_open_directory(const struct destination *d, int *ret_fd, struct error *err);

/* Checks, before anything becomes visible, that the state directory still belongs to this agent.
 * 0 or -ESTALE. */
int destination_check_owner(const struct destination *d, struct error *err);

/* ---- publish.c ---- */

/* Sets d->kind, and checks whether DEST may be replaced by a stage with this key. Changes no
 * file. */
int publish_may_begin(struct destination *d, const char *key, struct error *err);

/* Removes other unfinished trees, then creates d->tree in the state directory: a directory, or,
 * unless link is NULL, a symbolic link with the text link. */
int publish_make_tree(struct destination *d, const char *link, struct error *err);

/* Resets what destination_begin() has set, and removes the tree unless leave_tree. */
void publish_discard_tree(struct destination *d, bool leave_tree);

/* ---- replace.c: which entries may be replaced. ---- */

/* DEST_OURS: checks whether a stage with this key may replace DEST; sets d->old. */
int replace_whole(struct destination *d, const char *key, struct error *err);

/* DEST_OTHER: opens d->dest_fd and sets d->owned, the entries that may be replaced. lineage: of
 * what is staged; NULL before it is known. */
int replace_entries(struct destination *d, const char *key, const char *lineage, struct error *err);
void replace_forget_owned(struct destination *d); /* clears d->owned */
/* Whether the entry name, which now is the inode there, is in d->owned. Any thread. */
bool replace_is_owned(const struct destination *d, const char *name, const struct inode *there);

/* Returns -EXDEV with a message: path cannot be renamed. */
int replace_refuse_immovable(const char *path, struct error *err);

/* Checks whether DEST/name, which the agent did not stage, may be replaced, as the user has
 * asked. s: from replace_survey_init(), one for all such entries. */
int replace_foreign(
	const struct destination *d, struct survey *s, const char *name, struct error *err);

/* A survey visits everything that was staged and finds what has changed since, and what prevents
 * it from being replaced. It reads no file content, only the state of each file: about two
 * seconds for a million files that the kernel has cached.
 *
 * It relies on the times of change (ctime), since no user can set them. Everything in the tree
 * was changed before the tree was finished, and the tree became visible only after the clock had
 * advanced. So a file with a later ctime was changed since, whatever its mtime is. A file with a
 * ctime before the tree was begun was changed under a clock that had been set back. The sum of
 * names and sizes shows that no file is missing, added or of another size. Writes through a
 * mapping are found too, except on a tmpfs, which does not update the times for them. */

/* Sums of files: of all, of those that have no hole, and of all with their times of
 * modification. */
struct sums {
	uint64_t all, dense, times;
};

struct survey {
	/* Set by replace_survey_init(). */
	const char *root; /* DEST; file_sum_mark() takes paths relative to it */
	struct marks marks;
	bool shared; /* hard links into a node cache: a new link changes the ctime of all */
	struct cancel *cancel;
	bool sizes_come_first; /* the file system stores a size before the bytes, so holes count */
	struct strings mounts; /* mount points at or below root */
	struct timespec began; /* birth of the entry that is visited; 0: not known */

	/* Sums of every file; of those that were not written later (a change of owner does not
	 * write); of those that did not change at all. If files were added, or owners changed,
	 * or both, one of them still fits. */
	struct sums every, unwritten, unchanged;
	char *changed; /* the first path that has changed since, preferably a file; NULL: none */
	bool changed_is_file;
	char *suspect; /* a directory that may be the reason if the sums do not fit; NULL: none */
	char *mount;   /* a mount point in the tree; NULL: none */
	char *nested;  /* a destination of its own in the tree; NULL: none */
	bool partial;  /* something could not be read */
};

void replace_survey_init(struct survey *s, const struct destination *d, const struct marks *marks,
	const struct record *r);
void replace_survey_done(struct survey *s);

/* Visits path, which is DEST or an entry in it, and everything below. inode: of path when it was
 * published; NULL: not known. */
void replace_survey_add(struct survey *s, const char *path, const struct inode *inode);
/* Visits all entries of j that should exist. */
void replace_survey_journal(struct survey *s, struct journal *j);

/* Whether found, one of the sums of s, is the sum want. It differs if any name or size does. */
bool replace_survey_fits(
	const struct survey *s, const struct sums *found, const struct file_sum *want);
/* The same, and the times of modification must fit too, for cases in which inodes do not
 * identify the files. */
bool replace_survey_fits_dated(
	const struct survey *s, const struct sums *found, const struct file_sum *want);

/* ---- link.c ---- */

/* Returns the target of the link dir_fd/name if that is the tree of a node cache: heap, or NULL. */
char *link_read_target(int dir_fd, const char *name);

/* Whether path is such a link: it is a destination itself, not a part of the path to another
 * one. */
bool destination_is_link(const char *path);

/* ---- holdings.c: what the records hold. Returned records and journals are owned by the caller.
 * ---- */

/* The record of DEST as a whole, of any key; NULL if there is none. */
struct record *holdings_whole(struct destination *d);
/* The journal of DEST as a whole; NULL also if the record was lost in a crash. */
struct journal *holdings_open(struct destination *d);
/* The record of key; NULL if an entry of it is missing or replaced, or its condition is not
 * RECORD_SOUND. */
struct record *holdings_sound(struct destination *d, const char *key);
/* Whether any record holds. */
bool holdings_any(struct destination *d);
/* The record of the merge that staged the entry DEST/name; NULL if none did. */
struct record *holdings_owner(const struct destination *d, const char *name);
/* Iterates over the journals of merges, in files of their own or packed. holdings_next() returns
 * NULL at the end. */
struct holdings_list {
	DIR *dir; /* NULL: there are no files */
	size_t packed;
};
void holdings_list(const struct destination *d, struct holdings_list *l);
struct journal *holdings_next(const struct destination *d, struct holdings_list *l);
void holdings_list_done(struct holdings_list *l);
/* The journal of the merge with this key; NULL if there is none. */
struct journal *holdings_merged(const struct destination *d, const char *key);
/* Whether at least one entry of j is still the inode that was published. */
bool holdings_any_entry_left(struct journal *j, int dest_fd);
/* Whether dir_fd/name is the entry e of j: the same inode; or, if j is renumbered, an entry of
 * that name and type that belongs to this user or root, whose content crash_check_record() has
 * to check. */
bool holdings_entry_matches(const struct destination *d, const struct journal *j, int dir_fd,
	const struct journal_entry *e, const char *name);
/* Rewrites renumbered records with the present inode numbers. The lock must be held. */
void holdings_renumber(struct destination *d);

/* ---- crash_check.c: records of an earlier boot. ---- */

/* Reads the id of this boot of this kernel; "" if it cannot be read. Any thread. */
void publish_boot_id(char buf[static 64]);

/* Sets the condition of j's record. name: of its file in the state directory. If j is
 * renumbered, names, sizes and times of modification must be those that were published; the
 * result is written with the present inode numbers. If j is of an earlier boot and sound, it is
 * rewritten as synced. */
void crash_check_record(struct destination *d, struct journal *j, const char *name);
/* Before the tree becomes DEST as a whole: writes PUBLISHED_LINK, which survives a crash of the
 * machine that loses the record. tree: its inode. */
void crash_check_write_link(const struct destination *d, const struct inode *tree);
/* If DEST is the tree of PUBLISHED_LINK and its record was lost: a record for the messages,
 * owned by the caller; otherwise NULL. */
struct record *crash_check_lost_record(struct destination *d);
/* Surveys such a tree. Returns false, without a survey, if DEST is not one. */
bool crash_check_survey_lost(const struct destination *d, struct survey *ret);
/* Removes PUBLISHED_LINK if DEST is not that tree. */
void crash_check_remove_stale_link(const struct destination *d);

/* ---- moves.c: carries out journals. ---- */

/* The name in spare_fd of what is replaced, during an exchange in several steps. */
#define SLOT_SPARE "replaced"

/* The two names of an entry: hidden before it is published, visible after. Fds are borrowed. */
struct slot {
	int hidden_fd;
	const char *hidden;
	int visible_fd;
	const char *visible;
	int spare_fd;    /* the state directory, for an exchange in steps */
	bool over_empty; /* the visible name may be an empty directory */
};

/* Carries out journal.json and turns it into a record. After a failure everything is as before
 * and the journal is removed, except after -ECANCELED: then the next run continues. */
int moves_carry_out(struct destination *d, struct error *err);

/* Carries out the journal of a killed agent. Undoes it instead if the machine was restarted
 * since (the tree's bytes were never synced) or an entry cannot be moved. */
void moves_resume(struct destination *d);

/* ---- leftovers.c: what earlier runs left in the state directory. ---- */

/* Removes everything from the state directory except the lock, the owner file, the records and
 * the tree and download of unfinished, which may be NULL. Removes nothing while a journal is
 * pending. Stops with -ECANCELED. Logs a warning for what cannot be removed, and leaves it. */
int leftovers_remove(const struct destination *d, const struct journal *unfinished,
	struct cancel *cancel, struct error *err);

/* Removes unfinished.json and the partial download, so that no run continues the unfinished
 * tree. */
void leftovers_forget_unfinished(const struct destination *d);

/* Opens the journal of the tree that a killed agent left, if this run may continue it: its bytes
 * are there, since the kernel that has them in memory still runs. NULL: there is none. The
 * caller closes it. */
struct journal *leftovers_open_unfinished(const struct destination *d);

#endif
