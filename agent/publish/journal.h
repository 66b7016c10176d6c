/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_JOURNAL_H
#define STAGERUN_JOURNAL_H

#include "destination.h"
#include "inode.h"
#include "json_bytes.h"
#include "lines.h"
#include "text.h"
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

/* A key is part of a file name and of a line of JSON, both without quoting: [a-zA-Z0-9._-], not
 * empty. Records with any other key are not believed. */
bool publish_key_is_valid(const char *key);

/* Whether the version of every source is known, so that a later version can be told from it. */
bool publish_record_is_pinned(const struct record *r);

/* Appends a description for messages: "cats.tar.zst staged at 2026-01-02 03:04:05 UTC (etag
 * "x")". */
void publish_record_describe(const struct record *r, struct text *t);

/* The format of all state files: one JSON object per line, so that memory does not grow with the
 * number of entries.
 *
 *	{"format": 1, "kind": "merge", "tree": "tree.x1y2z3", "boot": "...", "sources": ..., ...}
 *	{"name": "train", "mode": 16877, "ino": 42, "birth": [1767322985, 12]}
 *	{"name": "test", ..., "replace": true, "was": {"mode": 16877, "ino": 41, ...}}
 *	{"name": "old", ..., "gone": true}
 *	{"end": 1}
 *
 * "end" is the number of lines between the first and the last.
 *
 * The first line also has the inode of the state directory ("home"). If that is another inode now,
 * no inode number in the file means anything: the file system does not keep its numbers, or
 * everything was copied. Such a journal is called renumbered. Its entries are recognised by name
 * and type, and their content by a survey (crash_check.c); then the file is rewritten with the
 * present numbers. Otherwise an entry is only the inode that was published.
 *
 * A journal that was carried out becomes the record of what was staged by a rename, so there is no
 * moment with neither. A file without its last line, or with a line that does not parse, counts as
 * absent.
 *
 * All functions: one thread at a time for each journal; none of them has global state. */

#define JOURNAL_FILE    "journal.json"
#define UNFINISHED_FILE "unfinished.json"
#define WHOLE_FILE      "whole.json"
#define MERGED_DIR      "merged"
#define PUBLISHED_LINK  "published"

enum publish_kind {
	PUBLISH_WHOLE,      /* one entry: the tree itself becomes DEST */
	PUBLISH_MERGE,      /* the tree's top-level entries are moved into DEST */
	PUBLISH_UNFINISHED, /* nothing is published yet; one entry: the tree */
};

struct journal_entry {
	const char *name;   /* in DEST; of a whole tree: DEST's own name */
	struct inode inode; /* its mode is that of the published entry */
	bool replace;       /* an entry of this name existed and may be replaced */
	struct inode old;   /* that entry */
	bool gone;          /* an entry of an earlier version, name and inode, that is removed */
};

/* Times of the file system's clock; see struct survey. */
struct marks {
	struct timespec finished;  /* nothing in the tree was changed later */
	struct timespec published; /* no entry was renamed into its place later */
};

struct journal_head {
	int dir_fd;       /* the state directory; borrowed */
	const char *path; /* its path, for messages; borrowed */
	enum publish_kind kind;
	const char *tree; /* name of the tree in the state directory; borrowed */
	const struct record *record;
	const struct marks *marks; /* NULL: the tree is finished now, and not published yet */
};

struct journal_writer {
	int dir_fd;                /* the state directory; borrowed */
	const char *path;          /* its path, for messages; borrowed */
	const char *name;          /* the file's name once it is committed */
	const struct marks *marks; /* borrowed */
	FILE *f;
	uint64_t n;
};

/* Call journal_begin(), journal_add() for each entry, then journal_commit() or journal_abandon().
 * No file is called journal.json (or, for PUBLISH_UNFINISHED, unfinished.json) before
 * journal_commit(), which, if sync is set, first syncs the file, and then the directory. 0 or an
 * error. */
int journal_begin(struct journal_writer *w, const struct journal_head *head, struct error *err);
int journal_add(struct journal_writer *w, const struct journal_entry *e, struct error *err);
int journal_commit(struct journal_writer *w, bool sync, struct error *err);
void journal_abandon(struct journal_writer *w);
/* Writes a whole journal with one entry, without syncing it. */
int journal_write_one(
	const struct journal_head *head, const struct journal_entry *e, struct error *err);

struct journal {
	/* Set by journal_open() and constant. */
	struct record *record;
	enum publish_kind kind;
	char *tree;      /* name of the tree in the state directory */
	bool this_boot;  /* written since the kernel was started */
	bool renumbered; /* its inode numbers are void */
	struct marks marks;

	off_t entries_at; /* offset in the file */

	/* The state of journal_next(). */
	int own_fd; /* -1: the file is borrowed */
	struct lines lines;
	char *name; /* of the last entry */
};

/* Opens a journal: reads and checks all of it, then goes back to the first entry. -ENOENT if it is
 * absent, damaged or foreign; -errno if it cannot be read. name may contain one '/'
 * ("merged/KEY.json"). The caller calls journal_close(). */
int journal_open(int dir_fd, const char *name, struct journal **ret);

/* Opens a journal that is a part of an open file, which is borrowed until journal_close(). */
struct journal_part {
	int fd;
	off_t at, len;
	/* Times of the file when it was a file of its own: when it was published, and when it
	 * became a record. */
	struct timespec modified, changed;
	bool renumbered;
	/* of a file of its own: the present value of "home"; NULL: renumbered decides */
	const char *home;
};
int journal_open_part(const struct journal_part *part, struct journal **ret);

/* Reads the next entry: 1, or 0 after the last. ret->name is borrowed until the next call. */
int journal_next(struct journal *j, struct journal_entry *ret);
void journal_rewind(struct journal *j);
void journal_close(struct journal *j); /* accepts NULL */

/* Packed records: what remains in a DEST that contains its own state when nothing is under way. All
 * records are in one regular file, since programs take every directory in a data set for a class.
 * The first line names the format. Then comes each record, as it is in merged/KEY.json, after a
 * line with its key, its length in bytes and the time at which it was written:
 *
 *	{"stagerun": "records", "format": 1}
 *	{"key": "...", "bytes": 412, "written": [1767322985, 12], "home": "..."}
 *	...
 *
 * "home" here is the inodes of the file and of DEST; if they differ now, the record is renumbered.
 *
 * One thread at a time, but any thread may call packed_open(). */

struct packed_item {
	char *key;
	int fd; /* one of fds */
	off_t at, len;
	struct timespec written;
	bool renumbered;
};

struct packed_records {
	int fds[2]; /* the open files */
	size_t n_fds;
	/* if a key occurs twice, the record that was read last comes first and counts */
	struct packed_item *v;
	size_t n;
};

void packed_init(struct packed_records *p);
void packed_done(struct packed_records *p);

/* Whether dir_fd/name is such a file, of any owner. */
bool packed_is_one(int dir_fd, const char *name);

/* Reads where the records of dir_fd/name are, if that is such a file and belongs to this user or,
 * with roots_too, to root. Does nothing otherwise. */
void packed_load(struct packed_records *p, int dir_fd, const char *name, bool roots_too);

/* Opens the record of key. 0 or -ENOENT. */
int packed_open(const struct packed_records *p, const char *key, struct journal **ret);

/* Writes state_fd's file PACKED_NEW, and syncs it: the records of merged_fd (a directory of files
 * KEY.json; -1: none) and those of p whose keys are not among them. host_fd: the directory that the
 * file will be in. 0 or -1. */
#define PACKED_NEW "packed.new"
int packed_write(const struct packed_records *p, int host_fd, int state_fd, int merged_fd);

#endif
