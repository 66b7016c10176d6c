/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_WRITE_CREW_PRIVATE_H
#define STAGERUN_WRITE_CREW_PRIVATE_H

#include "crew.h"
#include <pthread.h>
#include <stdatomic.h>

/* What the files of the crew share: crew (who writes: the caller or a hand), crew_job (an entry that was
 * handed over), crew_hands (the queue and its threads). */

enum job_kind { JOB_DIR, JOB_SYMLINK, JOB_HARDLINK, JOB_FILE };

/* One entry, with copies of all that it needs. Names are known by hashes that are never 0; two names
 * with one hash only wait for each other. */
struct crew_job {
	struct crew_job *next; /* in the queue */
	enum job_kind kind;
	struct meta meta;     /* without xattrs */
	uint64_t name_hash;   /* of the normalised name */
	uint64_t parent_hash; /* of its parent's */
	uint64_t target_hash; /* JOB_HARDLINK; else 0 */
	unsigned slot;        /* its place in crew->names */
	size_t len;           /* bytes of content */
	const char *name;     /* as the archive has it */
	const char *target;   /* of a link */
	const uint8_t *content;
	char bytes[]; /* what these three point to */
};

/* NULL: without memory, or a name that the tree will refuse: for the caller's own writer to say so.
 * content may be NULL. */
struct crew_job *crew_job_new(enum job_kind kind, const char *name, const char *target,
	const struct meta *m, const struct slice *content);
void crew_job_free(struct crew_job *job);

/* Of a name as it is written; 0: the tree will refuse it. */
uint64_t crew_name_hash(const char *name);

/* Enough for 16 MiB of files of 16 KiB, half of them under way and half waiting. */
#define CREW_JOBS  1024
#define CREW_HANDS 64

struct hand {
	struct crew *crew;
	pthread_t thread;
	uint64_t in_parent; /* the directory it is creating in, by hash; 0: none */
};

struct crew {
	/* Set at creation. */
	struct crew_env env;

	/* Any thread. */
	atomic_int slow; /* how many files of late took long */
	atomic_bool has_hands;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t work; /* a job may be taken, or all is over; hands sleep on it */
	pthread_cond_t room; /* a job is done, or all is over; callers sleep on it */
	struct cancel_watch watch_work, watch_room;
	struct crew_job *first, **last;    /* waiting jobs */
	uint64_t names[CREW_JOBS];         /* of jobs in the queue or under way; */
	uint64_t targets[CREW_JOBS];       /* 0: a free slot, no target */
	unsigned n_jobs, n_targets;        /* of these */
	uint64_t content_bytes, allowance; /* of these; reserved for them */
	struct hand hands[CREW_HANDS];
	unsigned n_hands, n_idle, max_hands;
	bool closing; /* no more jobs will come */
	int failed;   /* the first failure */
	struct error why;
};

/* crew_hands.c. Starts with one hand; false: there is no memory or no thread to be had. */
bool hands_hire(struct crew *c);
/* Takes the job over, also when it fails. */
int hands_submit(struct crew *c, struct crew_job *job, struct error *err);
int hands_await(struct crew *c, uint64_t name_hash, struct error *err);
int hands_dismiss(struct crew *c, int code, struct error *err);

#endif
