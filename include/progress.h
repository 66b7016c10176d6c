/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_PROGRESS_H
#define STAGERUN_PROGRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

/* How progress is shown. */
enum progress_mode {
	PROGRESS_AUTO, /* live on a terminal, as lines elsewhere */
	PROGRESS_TTY,  /* live, whatever the stream is */
	PROGRESS_LINES,
	PROGRESS_JSON, /* lines as JSON objects, also where the log is text */
	PROGRESS_NONE,
};

struct timeline;

/* What a source is at. */
enum progress_state {
	PROGRESS_QUEUED, /* not started: it waits for a slot, a lock, or what is before it */
	PROGRESS_ACTIVE, /* from its first request until the last byte is unpacked */
	PROGRESS_DONE,   /* staged, or there already, or failed */
};

enum { PROGRESS_NOTE_SIZE = 300 };

/* The progress of one source of a stage, or of another work that takes long. Written by the worker
 * threads (relaxed adds), and read at any time by the loop thread for the progress lines, the
 * summary and the limits. All zero at creation, except for the names. */
struct progress {
	/* Set at creation. */
	const char *name; /* the source's display name */
	const char *to;   /* the destination; NULL: there is none */

	/* Set by the source's thread before the work begins: where its requests are recorded. */
	struct timeline *timeline; /* NULL: nobody wants to know */
	unsigned span;             /* of the source; 0: there is none */

	/* Any thread. */
	atomic_int state;       /* enum progress_state */
	atomic_ullong total;    /* compressed bytes of the object, 0 while unknown */
	atomic_ullong received; /* compressed bytes that arrived, each byte counted once */
	atomic_ullong consumed; /* compressed bytes passed to the decoder */
	atomic_ullong expanded; /* bytes of file content unpacked */
	atomic_ullong holes;    /* part of expanded: left as holes, without decoding */
	atomic_ullong entries;  /* entries unpacked */
	/* entries of a source that lists them before they are fetched; 0: not known */
	atomic_ullong entries_total;

	/* Waiting times in nanoseconds, for "waited for network, decode or disk". */
	atomic_ullong network_ns; /* the decoder slept because no bytes had arrived */
	/* since when it sleeps for that reason, which network_ns does not contain yet; 0: it does
	 * not, or it is not known */
	atomic_ullong network_since_ns;
	atomic_ullong decode_ns; /* the unpacker slept because nothing was decoded */
	/* spent in calls that write to the disk, or waiting for such calls */
	atomic_ullong disk_ns;
	atomic_ullong budget_ns; /* threads slept for memory of the budget */

	/* Of the transfer engine: requests under way, and the most of them at once; attempts that
	 * were repeated; attempts that ended because nothing arrived any more. */
	atomic_uint connected;
	atomic_ullong connections, retries, stalls;

	/* The last incident, such as a failed attempt that is repeated; see progress_note(). */
	pthread_mutex_t note_mutex;
	char note[PROGRESS_NOTE_SIZE]; /* under note_mutex */
	atomic_uint notes;             /* how many there were */
};

/* Any thread. Sets the last incident. p: may be NULL. */
void progress_note(struct progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Any thread. Copies the last incident. */
void progress_last_note(struct progress *p, char ret[static PROGRESS_NOTE_SIZE]);

/* Any thread. p: may be NULL. */
static inline void progress_enter(struct progress *p, enum progress_state state)
{
	if (p != NULL)
		atomic_store_explicit(&p->state, (int)state, memory_order_relaxed);
}

static inline enum progress_state progress_state(const struct progress *p)
{
	return (enum progress_state)atomic_load_explicit(&p->state, memory_order_relaxed);
}

/* Resets all counters; other threads may read them meanwhile. */
static inline void progress_reset(struct progress *p)
{
	atomic_ullong *const counters[] = {&p->total, &p->received, &p->consumed, &p->expanded,
		&p->holes, &p->entries, &p->entries_total, &p->network_ns, &p->decode_ns,
		&p->disk_ns, &p->budget_ns, &p->connections, &p->retries, &p->stalls};

	for (unsigned i = 0; i < sizeof(counters) / sizeof(*counters); i++)
		atomic_store_explicit(counters[i], 0, memory_order_relaxed);
}

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void count(atomic_ullong *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static inline uint64_t counted(const atomic_ullong *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

#endif
