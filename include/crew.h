/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREW_H
#define STAGERUN_CREW_H

#include "budget.h"
#include "tree.h"

/* Writes entries into a tree with as many hands as its file system needs. On a local disk the calling
 * thread writes by itself: handing work over costs more than the work. Where nearly every file takes
 * longer than a local one could (NFS, Lustre: each call is a round trip), threads are hired, as many as
 * find work, up to 64, and entries are copied and handed over. The kernel lets one thread at a time
 * create in a directory, so that no more than two stand in line for each; the others go on with what
 * comes after.
 *
 * What matters stays in order: entries of one name follow each other, a hard link its target. What does
 * not may be created in any order: parents are made by whoever comes first.
 *
 * Any thread that has a writer of its own; several may share a crew. */

struct crew;

struct crew_env {
	struct tree *tree;
	const char *source; /* for messages; borrowed */
	struct budget *budget;
	struct cancel *cancel;
	struct progress *progress; /* may be NULL; disk_ns counts what the callers waited */
};

struct crew *crew_new(const struct crew_env *env); /* env is copied */

/* Waits for all that was handed over (code < 0: for what is under way), ends the threads and frees c.
 * Returns whichever failure was first, code (which *err describes) among them, or 0. */
int crew_finish(struct crew *c, int code, struct error *err);

/* As the functions of the writer's, which is the caller's own. After the first failure of an entry that
 * was handed over, that failure. */
int crew_dir(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	struct error *err);
int crew_symlink(struct crew *c, struct writer *own, const char *name, const char *target,
	const struct meta *m, struct error *err);
int crew_hardlink(struct crew *c, struct writer *own, const char *name, const char *target,
	struct error *err);
int crew_file(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	const struct slice *content, struct error *err);

/* As writer_has(), once nothing of this name is under way. */
int crew_has(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	uint64_t size, struct error *err);

/* Waits until nothing of this name is under way, before the caller writes it with its own writer: a
 * file in parts, say. */
int crew_await(struct crew *c, const char *name, struct error *err);

/* Whether files up to CREW_FILE_MAX bytes are better brought to crew_file() whole. */
bool crew_has_hands(const struct crew *c);

#define CREW_FILE_MAX ((size_t)1 << 20)

#endif
