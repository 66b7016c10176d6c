/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREW_H
#define STAGERUN_CREW_H

#include "budget.h"
#include "tree.h"

/* Writes entries into a tree with as many threads as its file system needs. On a local disk the
 * calling thread writes by itself: queueing an entry costs more than writing it. Where nearly every
 * file takes longer than a local one could (NFS, Lustre: each call is a round trip), the crew
 * starts up to 64 worker threads, as long as there is work for one more; entries are then copied
 * and queued. The kernel lets only one thread at a time create in a directory, so at most two
 * workers create in the same directory; the others continue with later entries.
 *
 * Order is kept where it matters: entries of the same name are written one after the other, and a
 * hard link after its target. Other entries may be created in any order; missing parents are
 * created by the first thread that needs them.
 *
 * Any thread that has a writer of its own; several threads may share a crew. */

struct crew;

struct crew_env {
	struct tree *tree;
	const char *source; /* for messages; borrowed */
	struct budget *budget;
	struct cancel *cancel;
	struct progress *progress; /* may be NULL; disk_ns counts the time that callers waited */
};

struct crew *crew_new(const struct crew_env *env); /* copies env */

/* Waits for all queued entries (code < 0: only for those being written), stops the threads and
 * frees c. Returns the first failure, which may be code itself (described by *err), or 0. */
int crew_finish(struct crew *c, int code, struct error *err);

/* As the writer's functions of these names; own is the calling thread's writer. After a queued
 * entry has failed, each of them returns the first such failure. */
int crew_dir(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	struct error *err);
int crew_symlink(struct crew *c, struct writer *own, const char *name, const char *target,
	const struct meta *m, struct error *err);
int crew_hardlink(struct crew *c, struct writer *own, const char *name, const char *target,
	struct error *err);
int crew_file(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	const struct slice *content, struct error *err);

/* As writer_has(), after waiting until no entry of this name is queued or being written. */
int crew_has(struct crew *c, struct writer *own, const char *name, const struct meta *m,
	uint64_t size, struct error *err);

/* Waits until no entry of this name is queued or being written. To be called before the caller
 * writes this name with its own writer, for example a file in parts. */
int crew_await(struct crew *c, const char *name, struct error *err);

/* Whether workers run: then files of up to CREW_FILE_MAX bytes should be passed to crew_file() as a
 * whole. */
bool crew_has_workers(const struct crew *c);

#define CREW_FILE_MAX ((size_t)1 << 20)

#endif
