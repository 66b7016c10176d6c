/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_DESTINATION_H
#define STAGERUN_PUBLISH_DESTINATION_H

#include "inode.h"
#include "journal.h"
#include "place.h"
#include "publish.h"
#include "text.h"

/* What the files of this room share. */

enum dest_kind {
	DEST_ABSENT,
	DEST_EMPTY, /* a directory that may be replaced by a rename */
	DEST_OURS,  /* staged whole, and still the same directory, or link into a node cache */
	DEST_LINK,  /* a link into a node cache that leads nowhere, or that no record tells of */
	DEST_OTHER, /* anything else that is there: its entries are merged */
};

struct destination {
	/* Set at opening. */
	struct destination_options opts;
	struct place place;
	int lock_fd;          /* -1: nobody may write here, records are only read */
	struct error refusal; /* why, when lock_fd is -1 */

	/* The stage's thread. */
	bool keep_download;  /* leftovers_remove() keeps that */
	struct record *held; /* what destination_holds() found last */
	char *link;          /* what destination_link() found last */

	/* Set by destination_begin() and constant until the next: destination_accepts() may be
	 * called by any thread. */
	enum dest_kind kind;
	int dest_fd;   /* O_PATH; -1 unless its entries are merged */
	char tree[16]; /* name of the hidden tree in the state directory; "" without one */
	int tree_fd;
	mode_t tree_mode;          /* of a directory made with the user's umask */
	bool keeps_replaced;       /* what was replaced is not removed yet */
	bool replace;              /* DEST_OURS may be replaced */
	struct strings mine;       /* DEST_OTHER: top-level names this stage may replace, sorted */
	enum record_doubt *doubts; /* what was found of each publish_kind; NULL: nobody remembers */
	struct record
		*continued; /* of which version the tree is that was taken up; NULL: it is new */
};

/* What is there. Looks afresh at every call. */
int dest_look(const struct destination *d, enum dest_kind *ret, struct error *err);

/* Opens DEST's directory to rename entries into it (O_PATH). */
int dest_open(const struct destination *d, int *ret_fd, struct error *err);

/* ---- settle.c ---- */

/* Finds and locks the state directory, and proves that it will do. Without one, but with records
 * that can be read: 0, lock_fd -1 and refusal set. */
int settle(struct destination *d, struct error *err);

/* Closes and unlocks it; removes it when it holds no record. */
void settle_leave(struct destination *d);

/* ---- begin.c ---- */

/* What is there, and whether it may be replaced by what is staged under key. */
int begin_judge(struct destination *d, const char *key, struct error *err);

/* Makes d->tree in the state directory, once what else is unfinished there is removed: a directory, or a
 * symbolic link to link. */
int begin_make(struct destination *d, const char *link, struct error *err);

/* Forgets what destination_begin() made, and removes it unless it is to be left. */
void begin_undo(struct destination *d, bool leave_tree);

/* ---- unfinished.c ---- */

/* What says of which version the tree in the state directory is that a killed agent left, if a run may go on
 * with it: its bytes are there, since the kernel that has them still runs. NULL: there is none. */
struct journal *unfinished_open(const struct destination *d);

/* ---- link.c ---- */

/* Where the link at dir_fd/name goes, if that is the tree of a node cache: heap, or NULL. */
char *link_look(int dir_fd, const char *name);

/* ---- holdings.c: what the records say that still holds. Records returned are the caller's. ----
 */

struct record *holdings_whole(const struct destination *d); /* of any key; NULL */
struct record *holdings_find(const struct destination *d, const char *key);
struct record *holdings_sound(
	const struct destination *d, const char *key); /* not what is doubtful */
bool holdings_any(const struct destination *d);
/* Whose entry DEST/name is: NULL when nobody's. */
struct record *holdings_owner(const struct destination *d, const char *name);
/* The top-level names that were merged under key, sorted. */
void holdings_names(const struct destination *d, const char *key, struct strings *ret);

/* ---- doubt.c ---- */

/* Sets the doubt of j's record. If there was none to be had, the record, which is called name in the state
 * directory, says from now on that all is synced. */
void doubt(const struct destination *d, struct journal *j, const char *name);
/* Before the tree of this inode becomes DEST as a whole: notes it where a crash of the machine that loses the
 * record does not lose it. */
void doubt_prepare(const struct destination *d, const struct inode *tree);
/* DEST is such a tree, and its record was lost: one that says so, the caller's. NULL: it is not. */
struct record *doubt_lost(const struct destination *d);
/* Forgets a tree that is no more. */
void doubt_tidy(const struct destination *d);

/* ---- moves.c: what a journal says, done or undone. ---- */

/* Carries out journal.json and makes it a record. After a failure everything is as before and the
 * journal is gone, except after -ECANCELED: then the next run goes on. */
int moves_carry_out(struct destination *d, struct error *err);

/* Carries out what a killed agent had begun, or undoes it: when the kernel was started anew since
 * (the tree's bytes were never synced), or when something is in the way. */
void moves_resume(struct destination *d);

/* ---- leftovers.c ---- */

/* Removes all that is neither lock nor record nor (unless it is NULL) the unfinished tree from the state
 * directory; nothing while a journal is pending. Stops with -ECANCELED; what cannot be removed is warned
 * about and left. */
int leftovers_remove(const struct destination *d, const struct journal *unfinished,
	struct cancel *cancel, struct error *err);

/* Nobody is to go on with the unfinished tree: removes what says that it could be done. */
void leftovers_forget(const struct destination *d);

/* Removes the state directory when it holds no record. The lock is held. */
void leftovers_tidy(const struct destination *d);

#endif
