/* SPDX-License-Identifier: MIT */
/* A handful of entries on their way from the walk to one worker. */
#include "zip_batch.h"
#include "names.h"
#include <assert.h>
#include <string.h>

/* More bytes than that are worth waking a thread. */
#define FULL_BYTES ((uint64_t)256 << 10)
#define FULL_NAMES ((size_t)16 << 10)

void zip_batch_add(struct zip_batch *b, const struct zip_job *job)
{
	unsigned i = b->n++;

	assert(i < ZIP_BATCH_JOBS);
	b->jobs[i] = *job;
	b->hashes[i] = name_hash(job->name);
	b->name_at[i] = b->names.len;
	text_add_bytes(&b->names, job->name, strlen(job->name) + 1);
	b->bytes += job->packed[0].len + job->packed[1].len + job->size;
}

bool zip_batch_is_full(const struct zip_batch *b, unsigned max)
{
	return b->n >= max || b->bytes >= FULL_BYTES || b->names.len >= FULL_NAMES;
}

int zip_batch_run(
	struct zip_batch *b, struct zip_hands *hands, const atomic_bool *stop, struct error *err)
{
	int r = 0;

	for (unsigned i = 0; i < b->n; i++) {
		struct zip_job *job = &b->jobs[i];

		job->name = b->names.s + b->name_at[i]; /* not before: names may have moved */
		if (r >= 0 && !atomic_load_explicit(stop, memory_order_relaxed))
			r = zip_job_run(job, hands, err);
		zip_job_done(job);
	}
	return r;
}

void zip_batch_clear(struct zip_batch *b)
{
	for (unsigned i = 0; i < b->n; i++)
		zip_job_done(&b->jobs[i]);
	b->n = 0;
	b->bytes = 0;
	b->names.len = 0;
}

void zip_batch_done(struct zip_batch *b)
{
	zip_batch_clear(b);
	text_done(&b->names);
}
