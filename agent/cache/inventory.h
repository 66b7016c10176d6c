/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CACHE_INVENTORY_H
#define STAGERUN_CACHE_INVENTORY_H

#include "destination.h"
#include "error.h"
#include <stdio.h>
#include <sys/stat.h>

/* The inventory of an entry lists the content of its tree as it was when the entry was filled. The
 * file format: a head of text lines, padded with NULs to INVENTORY_HEAD bytes, then one record for
 * each name, directories before their content:
 *
 * TYPE MODE SIZE SECONDS.NANOSECONDS PATH NUL
 *
 * TYPE is f (a file), d (a directory), l (a symbolic link: a second record, > and its target,
 * follows) or h (a further name of a file: a second record, > and the first name of that file,
 * follows). A first record never begins with >, so a reader can start anywhere in the file. MODE is
 * octal, and is the mode of the archive; the files of the entry have no write bits. All names in a
 * directory are listed together, and directories have their content listed in the order in which
 * they are listed themselves.
 *
 * Inventories of format 1 have no > and no time of the root: they can only be read from the
 * beginning.
 *
 * An open inventory belongs to one thread at a time. */

#define INVENTORY_NAME "inventory"
#define INVENTORY_NEW  "inventory.new"
#define INVENTORY_HEAD 4096

/* The most bytes of a record; a path is shorter. */
#define INVENTORY_RECORD ((size_t)64 << 10)

/* The first byte of a second record. */
#define INVENTORY_MARK '>'

struct inventory_head {
	uint64_t length;         /* bytes of the whole inventory */
	uint64_t bytes;          /* content of the tree's files */
	uint64_t entries, links; /* names, and those of them of type h */
	uint64_t disk;           /* bytes on the disk, with the inventory */
	int64_t made;            /* seconds since the epoch */
	unsigned root_mode;      /* (mode_t)-1: the archive has no entry for the root */
	int64_t root_sec;
	long root_nsec;
	unsigned root_uid, root_gid;
	struct timespec top; /* mtime of the root in the entry */
	bool marked;         /* second records begin with INVENTORY_MARK: not format 1 */
	char what[1024];     /* the sources, for messages */
};

/* Opens a file of the entry: a regular file of this user that no other user can write to. Returns a
 * descriptor, -EPERM if the file is anything else, or -errno. */
int inventory_open_file(int key_fd, const char *name, int flags);

/* Reads only the head. Returns 0, -ENOENT, -ESTALE if it is damaged or incomplete, or -errno. */
int inventory_head_read(int key_fd, struct inventory_head *ret);

/* Formats the head as text. -ERR_LIMIT if it does not fit. */
int inventory_head_print(const struct inventory_head *h, char *buf, size_t size);

struct inventory_entry {
	char type;
	mode_t mode;
	uint64_t size;
	struct timespec mtime;
	char *path, *target; /* target: NULL unless type is l or h */
};

struct inventory {
	struct inventory_head head;
	FILE *f;
	char *line, *second; /* the first and second record; INVENTORY_RECORD bytes each */
};

int inventory_open(int key_fd, struct inventory **ret); /* errors as inventory_head_read() */
void inventory_close(struct inventory *l);              /* accepts NULL */
/* Returns 1, 0 after the last entry, -ESTALE if the inventory is damaged, or -EIO. The strings in
 * *ret belong to the inventory and are valid until the next call. */
int inventory_next(struct inventory *l, struct inventory_entry *ret);
void inventory_rewind(struct inventory *l);
/* Moves to the first entry that begins at or after this fraction (0 to 1) of the inventory; not for
 * format 1. Returns false if there is none. */
bool inventory_seek(struct inventory *l, double share);

/* Writes the inventory of the tree at root_fd, and removes the write bits of everything in it
 * except root_fd itself. The caller fills in what, made, top and the root's members of *head; this
 * function fills in the others. */
int inventory_make(int key_fd, int root_fd, struct inventory_head *head,
	const struct cancel *cancel, struct error *err);

/* The mode that a file of this mode has in the cache: not writable, and readable by its owner. */
mode_t inventory_mode(mode_t mode);

#endif
