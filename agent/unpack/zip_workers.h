/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_WORKERS_H
#define STAGERUN_ZIP_WORKERS_H

#include "zip_job.h"

/* Threads that inflate and write whole entries. One thread, the walking one, gives them work; two
 * entries of one name are never under way at once, so that the later one wins. */

struct zip_workers;

int zip_workers_start(const struct unpack_env *env, const char *source, unsigned threads,
	size_t part, struct zip_workers **ret, struct error *err);

/* Takes the job over, also when it fails. Waits for room, and for an entry of the same name that is
 * still under way. Returns the first failure of any worker, if there was one. */
int zip_workers_submit(struct zip_workers *w, const struct zip_job *job, struct error *err);

/* Waits until no entry of this name is under way. */
int zip_workers_await(struct zip_workers *w, const char *name, struct error *err);

/* Waits for all work to be done, or, when code says that the walk failed with *err, for the threads
 * to let go of it; ends them and frees w. Returns whichever failure was first, or 0. */
int zip_workers_finish(struct zip_workers *w, int code, struct error *err);

#endif
