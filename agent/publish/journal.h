/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PUBLISH_JOURNAL_H
#define STAGERUN_PUBLISH_JOURNAL_H

#include "inode.h"
#include "publish.h"
#include <stdio.h>

/* The one format of all state files: a JSON object a line, so that memory does not grow with the
 * number of entries.
 *
 *	{"format": 1, "kind": "merge", "tree": "tree.x1y2z3", "boot": "...", "key": ..., "sources":
 *...}
 *	{"name": "train", "mode": 16877, "ino": 42, "birth": [1767322985, 12]}
 *	{"end": 1}
 *
 * A journal that was carried out becomes the record of what was staged by being renamed, so there
 *is no moment with neither. A file without its last line, or with a line that does not parse,
 *counts as absent. One thread. */

#define JOURNAL_FILE    "journal.json"
#define UNFINISHED_FILE "unfinished.json"
#define WHOLE_FILE      "whole.json"
#define MERGED_DIR      "merged"
#define PUBLISHED_LINK  "published"

enum publish_kind {
	PUBLISH_WHOLE,      /* one entry: the tree itself becomes DEST */
	PUBLISH_MERGE,      /* the tree's top-level entries go into DEST */
	PUBLISH_UNFINISHED, /* nothing is published yet; one entry: the tree */
};

struct journal_entry {
	const char *name;   /* in DEST; for a whole tree, DEST's own */
	struct inode inode; /* with the mode it shall have once published */
	bool replace;       /* something of this name was there, and may go */
};

struct journal_head {
	int dir_fd;       /* the state directory */
	const char *path; /* its path, for messages */
	enum publish_kind kind;
	const char *tree; /* name of the tree in the state directory */
	const struct record *record;
};

struct journal_writer {
	int dir_fd;       /* the state directory; borrowed */
	const char *path; /* its path, for messages; borrowed */
	const char *name; /* what it is called once committed */
	FILE *f;
	uint64_t n;
};

/* begin, any number of entries, then commit or abandon. Nothing is called journal.json (or, while it is
 * unfinished, unfinished.json) before commit, which with sync puts file and directory on disk first. */
int journal_begin(struct journal_writer *w, const struct journal_head *head, struct error *err);
int journal_add(struct journal_writer *w, const struct journal_entry *e, struct error *err);
int journal_commit(struct journal_writer *w, bool sync, struct error *err);
void journal_abandon(struct journal_writer *w);
/* All of it, with one entry, not synced. */
int journal_write_one(
	const struct journal_head *head, const struct journal_entry *e, struct error *err);

struct journal {
	/* Set at opening. */
	struct record *record;
	enum publish_kind kind;
	char *tree;     /* name of the tree in the state directory */
	bool this_boot; /* written since the kernel started: what it speaks of was not lost with it
			 */

	off_t entries_at; /* in f */

	/* Reading on. */
	FILE *f;
	char *line;
	size_t line_size;
	char *name; /* of the last entry */
};

/* Reads and checks it all, then goes back to the first entry. -ENOENT when it is absent, damaged or
 * foreign. name may hold a '/' of ours ("merged/KEY.json"). */
int journal_open(int dir_fd, const char *name, struct journal **ret);

/* 1, or 0 after the last. ret->name is the journal's until the next call. */
int journal_next(struct journal *j, struct journal_entry *ret);
void journal_rewind(struct journal *j);
void journal_close(struct journal *j); /* accepts NULL */

#endif
