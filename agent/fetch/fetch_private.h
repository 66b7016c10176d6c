/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_FETCH_PRIVATE_H
#define STAGERUN_FETCH_PRIVATE_H

#include "crew.h"
#include "datastore_fetch.h"
#include "index.h"
#include "workers.h"
#include <nettle/sha2.h>
#include <stdatomic.h>

/* One datastore_fetch(): the calling thread walks through the index, makes the entries that have no
 * content, and cuts the content of the others into jobs; workers fetch, decode and write. A job is
 * one range of one object.
 *
 *   fetch.c            selection, memory, the walk through the index, hard links, the end; jobs to
 *                      workers, in order, as memory allows; failure; the threads
 *   fetch_plan.c       entries of a part of the index -> jobs; directories around what is selected
 *   fetch_span.c       what a worker does: a range of whole files, a piece of a large file, an S3
 *                      object that is not ours; content into the tree: digests, holes, modes
 *   datastore_files.c  the list of files of a version, without content
 *
 * Threads: the walk is the thread that called datastore_fetch(). Workers are started as jobs need
 * them, and end with the walk. The first failure of any of them stops all. */

struct s3_client;
struct fetch;

/* A part of the index, which lives as long as a job refers to it. Written by the walk before its
 * first job is queued, and only read after that. */
struct fetch_part {
	struct fetch *fetch;
	struct index_part index;
	struct fetch_item *items; /* content in frames, in the order of the objects' bytes */
	size_t n_items;
	struct fetch_item *links; /* hard links whose target is selected */
	size_t n_links;
	atomic_uint refs;
};

/* An entry, and the name that it gets in the tree. */
struct fetch_item {
	const struct index_entry *entry;
	const char *name;
};

/* A file that is fetched by several jobs. Their workers write it in the order of its bytes. */
struct fetch_large {
	/* Set before the first job is queued. */
	struct fetch_item item;
	uint64_t pieces;

	uint64_t turn; /* under the pool's lock: number of the piece that is written next */

	/* The worker whose turn it is. */
	struct writer *writer; /* NULL before the first piece */
	struct sha256_ctx sha256;
	uint64_t written;

	atomic_uint refs;
};

enum fetch_kind {
	FETCH_SPAN,      /* whole items, from frames between offset and offset + length */
	FETCH_PIECE,     /* n frames of a large file */
	FETCH_REFERENCE, /* bytes of an S3 object that is not ours: a file, or a piece of one */
};

struct fetch_job {
	struct fetch_job *next;
	enum fetch_kind kind;
	struct fetch_part *part;   /* holds a reference */
	struct fetch_large *large; /* holds a reference; NULL: not a piece of a large file */
	uint64_t turn;             /* number of the piece */
	struct fetch_item item;    /* FETCH_REFERENCE */
	size_t first, n;           /* FETCH_SPAN: items; FETCH_PIECE: frames */
	uint64_t offset;
	size_t length;  /* bytes to fetch */
	size_t decoded; /* bytes of memory for the decoded frames */
};

/* The buffers of a job, which the next job reuses. Its worker's; under lock while they are idle. */
struct fetch_buffers {
	struct fetch_buffers *next;
	uint8_t *packed, *raw;
	size_t packed_room, raw_room;
	struct ZSTD_DCtx_s *decoder;
	uint64_t charged; /* bytes of memory that the job is charged for */
};

/* One thread; its members are the thread's. */
struct fetch_worker {
	struct fetch *fetch;
	struct store_conn *store; /* NULL before the first job that needs it */
	struct s3_client *s3;     /* the same */
	struct writer *writer;
	struct fetch_buffers *buffers; /* of the current job */
};

#define FETCH_WORKERS_MAX 128

struct fetch {
	/* Set before the first worker starts. */
	const struct fetch_options *opts;
	const struct manifest *manifest;
	struct tree *tree;
	char *name;   /* "datastore cats:3", for messages */
	char *bucket; /* of references; NULL: there are none */
	uid_t uid;
	gid_t gid;
	struct crew *crew;
	struct writer *writer;       /* the walk's */
	uint64_t reserved, capacity; /* bytes of memory: in all, and for jobs */
	size_t span_max;             /* bytes of one request */
	unsigned parts_max, decoders_max;

	/* The walk's. */
	uint64_t total; /* bytes of all jobs so far */
	/* Directories around the current entry that are not selected. */
	struct fetch_parent *parents;
	size_t n_parents, parents_cap;
	struct fetch_worker workers[FETCH_WORKERS_MAX];

	struct workers pool;             /* its threads are started by the walk */
	struct workers_condition work;   /* a job can be taken; idle workers wait for it */
	struct workers_condition decode; /* a decoder is free */
	/* anything else; the walk waits for it, and workers for a turn */
	struct workers_condition changed;

	/* Under the pool's lock. */
	struct fetch_job *head, **tail;
	uint64_t n_waiting;     /* jobs in the list */
	uint64_t idle_since_ns; /* while no worker decodes */
	struct fetch_buffers *idle_buffers;
	uint64_t idle_bytes, charged; /* bytes of memory: of idle buffers, of those in use */
	unsigned n_idle, n_running, n_decoding, n_parts;
	bool closed; /* no more jobs will come */
};

/* The walk. Queues the job and takes it over, also on failure; sleeps while too many jobs wait.
 * Starts a worker if none is idle and there may be one more. */
int fetch_put(struct fetch *f, struct fetch_job *job, struct error *err);
/* Workers. At most decoders_max of them decode at a time; the others sleep meanwhile. */
int fetch_begin_decoding(struct fetch *f, struct error *err);
void fetch_end_decoding(struct fetch *f);

/* --- fetch_plan.c --- */

/* The walk. Takes the content of *index over. */
struct fetch_part *fetch_part_new(struct fetch *f, struct index_part *index);
void fetch_part_unref(struct fetch_part *p); /* any thread */
/* The walk. Makes the entries without content, and queues jobs for the others. Hard links are left
 * in p->links. */
int fetch_plan_part(struct fetch_part *p, struct error *err);
void fetch_parents_done(struct fetch *f);
void fetch_job_free(struct fetch_job *job); /* any thread */
/* The key of the object that has this frame. */
const char *fetch_object_of(const struct fetch_part *p, uint32_t frame);

/* --- fetch.c: selection. Pure; any thread --- */

/* The name of the entry in the tree; NULL: it is not selected. */
const char *fetch_select(const struct fetch *f, const struct index_entry *e);
/* The same for the target of a hard link. */
const char *fetch_select_target(const struct fetch *f, const struct index_entry *e);

/* --- fetch_span.c: what workers do. Error messages name the file --- */

int fetch_span(struct fetch_worker *w, const struct fetch_job *job, struct error *err);
int fetch_piece(struct fetch_worker *w, const struct fetch_job *job, struct error *err);
int fetch_reference(struct fetch_worker *w, const struct fetch_job *job, struct error *err);

/* --- fetch_span.c, content: each call with the thread's own writer --- */

struct meta fetch_meta(const struct fetch *f, const struct index_entry *e);

#endif
