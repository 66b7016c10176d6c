/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CACHE_INVENTORY_H
#define STAGERUN_CACHE_INVENTORY_H

#include "error.h"
#include "publish.h"
#include <stdio.h>
#include <sys/stat.h>

/* What an entry holds, as it was when it was made: lines of a head, padded to INVENTORY_HEAD bytes, then one
 * record for each entry, directories before what they hold:
 *
 *	TYPE MODE SIZE SECONDS.NANOSECONDS PATH NUL
 *
 * TYPE is f, d, l (a symbolic link: another record, its target, follows) or h (one more name of a file: the
 * record that follows is its first name). Modes are the true ones; those in the entry have no write bits. */

#define INVENTORY_NAME "inventory"
#define INVENTORY_HEAD 4096

struct inventory_head {
	uint64_t length; /* of the whole inventory */
	uint64_t bytes, entries, disk, links;
	int64_t made;
	unsigned root_mode; /* (mode_t)-1: the archive does not speak of the root */
	int64_t root_sec;
	long root_nsec;
	unsigned root_uid, root_gid;
	char what[1024]; /* what was staged, for people */
};

/* Reads the head alone. -ENOENT when there is none that is whole. */
int inventory_head_read(int key_fd, struct inventory_head *ret);

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
	char *line, *second;
	size_t line_size, second_size;
};

int inventory_open(int key_fd, struct inventory **ret);
void inventory_close(struct inventory *l); /* accepts NULL */
/* 1, 0 after the last, -ESTALE: it is damaged. ret's strings are the inventory's until the next call. */
int inventory_next(struct inventory *l, struct inventory_entry *ret);
void inventory_rewind(struct inventory *l);
/* Goes to the first record that begins at or after this share (0 to 1) of it. false: there is none. */
bool inventory_seek(struct inventory *l, double share);

/* Lists the tree at root_fd, and takes the write bits of all in it but of root_fd itself. head: what, made and
 * the root's are filled in by the caller, the rest here. */
int inventory_make(int key_fd, int root_fd, struct inventory_head *head,
	const struct cancel *cancel, struct error *err);

/* The mode in the cache of what has mode: nobody writes, and its owner can read it. */
mode_t inventory_mode(mode_t mode);

#endif
