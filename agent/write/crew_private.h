/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_WRITE_CREW_PRIVATE_H
#define STAGERUN_WRITE_CREW_PRIVATE_H

#include "crew.h"
#include "workers.h"
#include <stdatomic.h>

/* What crew.c shares with its test: jobs, worker threads, and the crew that owns both. */

enum job_kind { JOB_DIR, JOB_SYMLINK, JOB_HARDLINK, JOB_FILE };

/* One entry, with copies of everything that it needs. Names are compared by their hashes, which are
 * never 0; two names with the same hash only wait for each other. Owned by the queue, then by the
 * worker that runs it. */
struct crew_job {
	struct crew_job *next; /* in the queue */
	enum job_kind kind;
	struct meta meta;     /* without xattrs */
	uint64_t name_hash;   /* of the normalised name */
	uint64_t parent_hash; /* of its parent's name */
	uint64_t target_hash; /* JOB_HARDLINK; else 0 */
	unsigned slot;        /* index in crew->names and crew->targets */
	size_t len;           /* bytes of content */
	const char *name;     /* as in the archive */
	const char *target;   /* of a link */
	const uint8_t *content;
	char bytes[]; /* name, target and content */
};

/* Enough for 16 MiB of files of 16 KiB, half of them being written and half waiting. */
#define CREW_JOBS    1024
#define CREW_WORKERS 64

struct crew_worker {
	struct crew *crew;
	uint64_t in_parent; /* under lock: hash of the directory that it creates in; 0: none */
};

struct crew {
	/* Set at creation. */
	struct crew_env env;

	/* Any thread. */
	atomic_int slow; /* count of recent files that took long; rises and falls */
	atomic_bool has_workers;

	struct workers pool;           /* its threads are started under the lock */
	struct workers_condition work; /* a job can run, or no more will come; workers wait */
	struct workers_condition room; /* a job is done; callers wait */

	/* Under the pool's lock. */
	struct crew_job *first, **last; /* the queue */
	uint64_t names[CREW_JOBS];      /* hashes of queued and running jobs; 0: a free slot */
	uint64_t targets[CREW_JOBS];    /* hashes of their targets; 0: no target */
	unsigned n_jobs, n_targets;     /* in use in names and in targets */
	uint64_t content_bytes;         /* of queued and running jobs */
	uint64_t allowance;             /* bytes reserved from the budget for content */
	struct crew_worker workers[CREW_WORKERS];
	unsigned n_idle;
	bool closing; /* no more jobs will come */
};

/* Starts the first worker, if there is none yet. Returns false if no memory or no thread is
 * available. Any thread. */
bool crew_start_workers(struct crew *c);

#endif
