/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_BATCH_H
#define STAGERUN_ZIP_BATCH_H

#include "text.h"
#include "zip_job.h"

/* Small entries that one worker writes one after another, in the order in which they were added: to
 * wake a thread for each of them would take as long as to write it. Used by one thread at a time. */

#define ZIP_BATCH_JOBS 32

struct zip_batch {
	unsigned n;
	uint64_t bytes; /* of all jobs, compressed and not */
	struct zip_job jobs[ZIP_BATCH_JOBS];
	uint64_t hashes[ZIP_BATCH_JOBS]; /* of the jobs' names */
	size_t name_at[ZIP_BATCH_JOBS];  /* the jobs' names, in names */
	struct text names;
};

/* Takes over the job's slices and copies its name. There must be room. */
void zip_batch_add(struct zip_batch *b, const struct zip_job *job);
/* It has as much as should go to one worker at once. max: of jobs, at most ZIP_BATCH_JOBS. */
bool zip_batch_is_full(const struct zip_batch *b, unsigned max);

/* Runs the jobs and lets go of their slices, until one fails or *stop is set. */
int zip_batch_run(
	struct zip_batch *b, struct zip_hands *hands, const atomic_bool *stop, struct error *err);

void zip_batch_clear(struct zip_batch *b); /* keeps the memory for names */
void zip_batch_done(struct zip_batch *b);  /* accepts a zeroed one */

#endif
