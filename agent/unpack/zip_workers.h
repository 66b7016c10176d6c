/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_WORKERS_H
#define STAGERUN_ZIP_WORKERS_H

#include "zip_job.h"

/* Threads that inflate and write whole entries. One thread, the walking one, gives them work, which
 * they get in batches; two entries of one name are never under way on two threads, so that the later
 * one wins. */

struct zip_workers;

#define ZIP_WORKER_BYTES ((uint64_t)128 << 10) /* what each takes, besides parts, at most */

struct zip_workforce {
	const char *source; /* for messages; borrowed */
	struct crew *crew;  /* that writes; borrowed */
	unsigned threads;
	size_t part; /* bytes of the largest job, unpacked */
	uint64_t
		entries; /* about how many there will be: few of them are not to end in one batch */
};

int zip_workers_start(const struct unpack_env *env, const struct zip_workforce *force,
	struct zip_workers **ret, struct error *err);

/* Takes the job's slices over, also when it fails; copies its name. May wait for room, and for an
 * entry of the same name that is still under way. Returns the first failure of any worker, if there
 * was one. */
int zip_workers_add(struct zip_workers *w, const struct zip_job *job, struct error *err);

/* Hands on what was added and has not gone to a worker yet. To be called before the walk waits for
 * anything else: what was added keeps the network's blocks. Fails as zip_workers_add(). */
int zip_workers_flush(struct zip_workers *w, struct error *err);

/* Flushes, and waits until no entry of this name is under way. */
int zip_workers_await(struct zip_workers *w, const char *name, struct error *err);

/* Waits for all work to be done, or, when code says that the walk failed with *err, for the threads
 * to let go of it; ends them and frees w. Returns whichever failure was first, or 0. */
int zip_workers_finish(struct zip_workers *w, int code, struct error *err);

#endif
