/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_WRITE_SPOOL_H
#define STAGERUN_WRITE_SPOOL_H

#include "cancel.h"
#include "error.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Numbered lists of records, in one unnamed file: what must be remembered of each directory until a
 * tree is finished, in memory that does not grow with their number. First records are added, by any
 * thread; then the lists are read, by one. A spool that stays small never reaches the disk. */

#define SPOOL_BUFFER ((size_t)64 << 10)
#define SPOOL_RECORD (SPOOL_BUFFER / 4) /* the most bytes of one record */
#define SPOOL_NONE   UINT64_MAX

struct spool_list {
	uint64_t first, last; /* offsets of records; SPOOL_NONE: empty */
};

struct spool {
	int fd;
	pthread_mutex_t mutex;
	/* Under mutex while records are added. */
	uint8_t *buffer; /* the file's bytes from offset start on */
	uint64_t start;
	size_t used;
	bool unwritten; /* the buffer has bytes that the file lacks */
	struct spool_list *lists;
	size_t n_lists;
};

/* A file of this mode that has no name, in dir. -errno. */
int unnamed_file(int dir_fd, mode_t mode);

int spool_init(struct spool *s, int scratch_fd, struct error *err);
void spool_done(struct spool *s); /* accepts one that spool_init() failed on */

/* Puts a record of two parts at the end of a list. */
int spool_add(struct spool *s, size_t list, const struct iovec parts[static 2], struct error *err);

size_t spool_lists(const struct spool *s); /* the number of the last list in use, plus one */

/* Hands every record of a list to visit, in the order they were added, until it fails. visit may
 * not add records. */
int spool_each(struct spool *s, size_t list, struct cancel *cancel,
	int (*visit)(void *ctx, const void *record, size_t len, struct error *err), void *ctx,
	struct error *err);

#endif
