/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_FETCH_PRIVATE_H
#define STAGERUN_FETCH_PRIVATE_H

#include "crew.h"
#include "datastore_fetch.h"
#include "index.h"
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdatomic.h>

/* One datastore_fetch(): the calling thread walks through the index, makes what has no content, and cuts the
 * content it wants into jobs; workers fetch, decode and write. A job is one range of one object.
 *
 *   fetch.c            memory, the walk, the end
 *   fetch_plan.c       entries of a part -> jobs
 *   fetch_parents.c    directories of what was selected
 *   fetch_queue.c      jobs to workers, in order, as memory allows; failure; who may decode
 *   fetch_workers.c    the threads, and the buffers they take turns with
 *   fetch_span.c       a range with whole files in it
 *   fetch_large.c      a part of a file that is several jobs
 *   fetch_reference.c  an S3 object that is not ours
 *   fetch_write.c      content into the tree: digests, holes, modes
 *   fetch_links.c      hard links */

struct s3_client;
struct fetch;

/* A part of the index, alive while a job points into it. */
struct fetch_part {
	struct fetch *fetch;
	struct index_part index;
	struct fetch_item *items; /* with content in frames, in the order of the objects' bytes */
	size_t n_items;
	struct fetch_item *links; /* hard links to what was selected */
	size_t n_links;
	atomic_uint refs;
};

/* An entry and the name to use. */
struct fetch_item {
	const struct index_entry *entry;
	const char *name;
};

/* A file that is fetched by several jobs, written in the order of its bytes by whose turn it is. */
struct fetch_large {
	struct fetch_item item;
	struct writer *writer; /* of whose turn it is; NULL before the first */
	struct sha256_ctx sha256;
	uint64_t written;
	uint64_t turn;   /* under the fetch's lock */
	uint64_t pieces; /* all of them; set before the first is queued */
	atomic_uint refs;
};

enum fetch_kind {
	FETCH_SPAN,      /* items, whole, from frames between offset and offset + length */
	FETCH_PIECE,     /* n frames of a large file */
	FETCH_REFERENCE, /* bytes of an object that is not ours: one file, or a piece of a large one */
};

struct fetch_job {
	struct fetch_job *next;
	enum fetch_kind kind;
	struct fetch_part *part;   /* a reference */
	struct fetch_large *large; /* a reference; NULL: not part of a large file */
	uint64_t turn;             /* of the large file */
	struct fetch_item item;    /* FETCH_REFERENCE */
	size_t first, n;           /* items, or frames */
	uint64_t offset;
	size_t length;  /* bytes to fetch */
	size_t decoded; /* bytes of memory for what comes of them */
};

/* What a job works with; kept for the next one. */
struct fetch_kit {
	struct fetch_kit *next;
	uint8_t *packed, *raw;
	size_t packed_room, raw_room;
	struct ZSTD_DCtx_s *decoder;
	uint64_t charged; /* bytes of memory while it is used */
};

struct fetch_worker {
	struct fetch *fetch;
	pthread_t thread;
	struct store_hand *hand; /* NULL before the first job that needs it */
	struct s3_client *s3;    /* the same */
	struct writer *writer;
	struct fetch_kit *kit;
};

#define FETCH_WORKERS_MAX 128

struct fetch {
	/* Set at creation. */
	const struct fetch_options *opts;
	const struct manifest *manifest;
	struct tree *tree;
	char *name;   /* "cats:3", for messages */
	char *bucket; /* of references; NULL: none */
	uid_t uid;
	gid_t gid;
	struct crew *crew;
	struct writer *writer;       /* the walk's */
	uint64_t reserved, capacity; /* bytes of memory: all, and the jobs' */
	size_t span_max;             /* bytes of one request */
	unsigned parts_max, workers_max, decoders_max;

	/* The walk's. */
	uint64_t total; /* bytes of all jobs so far */
	struct fetch_parent
		*parents; /* directories around the present entry that were not selected */
	size_t n_parents, parents_cap;
	struct fetch_worker workers[FETCH_WORKERS_MAX];
	unsigned n_workers;

	/* Under lock. */
	pthread_mutex_t mutex;
	pthread_cond_t work;    /* a job may be taken, or all is over: workers sleep on it */
	pthread_cond_t decode;  /* a processor is free, or all is over */
	pthread_cond_t changed; /* anything else; the walk sleeps on it, and who waits for a turn */
	struct cancel_watch watch_work, watch_decode, watch_changed;
	struct fetch_job *head, **tail;
	uint64_t n_waiting;     /* jobs in the list */
	uint64_t idle_since_ns; /* while nobody decodes */
	struct fetch_kit *kits;
	uint64_t kept, charged; /* bytes of memory: of kits that lie idle; of those in use */
	unsigned n_idle, n_running, n_decoding, n_parts;
	bool closed; /* no more jobs will come */
	int failed;  /* the first failure */
	struct error why;
};

/* --- fetch_queue.c --- */

void fetch_queue_init(struct fetch *f);
void fetch_queue_done(struct fetch *f); /* no worker runs any more */
/* The walk's. Takes the job over. */
int fetch_put(struct fetch *f, struct fetch_job *job, struct error *err);
/* The walk's: sleeps until there are fewer parts than there may be, or no job is left. */
int fetch_await_part(struct fetch *f, struct error *err);
int fetch_await_jobs(struct fetch *f, struct error *err);
/* Workers. The next job and a kit with room for it; NULL: all is over. */
struct fetch_job *fetch_take(struct fetch *f, struct fetch_kit **ret_kit);
void fetch_give_back(struct fetch *f, struct fetch_job *job, struct fetch_kit *kit);
void fetch_fail(struct fetch *f, int code, const struct error *why);
/* No more jobs: workers end when none is left, or at once after a failure. */
void fetch_close(struct fetch *f);
/* 0, the first failure, or -ECANCELED. */
int fetch_outcome(struct fetch *f, struct error *err);
/* Decoding is for as many as there are processors; the others sleep meanwhile. */
int fetch_begin_decoding(struct fetch *f, struct error *err);
void fetch_end_decoding(struct fetch *f);
int fetch_await_turn(struct fetch *f, struct fetch_large *l, uint64_t turn, struct error *err);
void fetch_next_turn(struct fetch *f, struct fetch_large *l);

/* --- fetch_workers.c --- */

/* The walk's: one more worker, if there may be one. 0 also when it fails but others are there. */
int fetch_hire(struct fetch *f, struct error *err);
void fetch_dismiss(struct fetch *f); /* waits for all */
/* Bytes of the kit's buffers, and with the job in them; frees them; makes room for a job. k NULL: a new one. */
uint64_t fetch_kit_room(const struct fetch_kit *k);
uint64_t fetch_kit_charge(const struct fetch_kit *k, const struct fetch_job *job);
void fetch_kit_empty(struct fetch_kit *k);
void fetch_kit_free(struct fetch_kit *k);
int fetch_kit_fit(struct fetch_kit *k, const struct fetch_job *job, struct error *err);

/* --- fetch_part.c --- */

struct fetch_part *fetch_part_new(struct fetch *f, struct index_part *index); /* takes it over */
void fetch_part_unref(struct fetch_part *p);
struct fetch_large *fetch_large_new(const struct fetch_item *item, uint64_t pieces);
struct fetch_job *fetch_job_new(struct fetch_part *p, enum fetch_kind kind);
/* l may be NULL: it is part of none. */
void fetch_job_of_large(struct fetch_job *job, struct fetch_large *l, uint64_t turn);
void fetch_large_unref(struct fetch_large *l); /* accepts NULL */
void fetch_job_free(struct fetch_job *job);
/* The object that frame number i is in. */
const char *fetch_object_of(const struct fetch_part *p, uint32_t frame);

/* --- fetch_plan.c, fetch_select.c --- */

/* The walk's. */
int fetch_plan_part(struct fetch_part *p, struct error *err);
/* The name to use for an entry; NULL: it is not for us. */
const char *fetch_select(const struct fetch *f, const struct index_entry *e);
/* The same for the target of a hard link. */
const char *fetch_select_target(const struct fetch *f, const struct index_entry *e);

/* --- fetch_parents.c --- */

/* The walk's. Of each entry, in order, selected or not: remembers a directory that is not. */
void fetch_parents_pass(struct fetch *f, const struct index_entry *e, bool is_selected);
/* Makes those that a selected entry lies in. */
int fetch_parents_make(struct fetch *f, const struct index_entry *e, struct error *err);
void fetch_parents_done(struct fetch *f);

/* --- what workers do; errors name the file --- */

int fetch_span(struct fetch_worker *w, const struct fetch_job *job, struct error *err);
int fetch_piece(struct fetch_worker *w, const struct fetch_job *job, struct error *err);
int fetch_reference(struct fetch_worker *w, const struct fetch_job *job, struct error *err);
/* Writes a piece of a large file when its turn has come. */
int fetch_write_turn(struct fetch_worker *w, const struct fetch_job *job, const uint8_t *bytes,
	size_t len, struct error *err);
/* The range of a job of frames into the kit; the one frame, of the job's range, into raw. */
int fetch_range(
	struct fetch_worker *w, const struct fetch_job *job, const char *name, struct error *err);
int fetch_decode(struct fetch_worker *w, const struct fetch_job *job, uint32_t frame, uint8_t *raw,
	struct error *err);

/* --- fetch_write.c --- */

struct meta fetch_meta(const struct fetch *f, const struct index_entry *e);
/* A whole file, whose content is checked first. */
int fetch_write_file(const struct fetch *f, struct writer *w, const struct fetch_item *item,
	const uint8_t *bytes, struct error *err);
/* A file in pieces. */
int fetch_open_file(
	const struct fetch *f, struct writer *w, const struct fetch_item *item, struct error *err);
int fetch_write_piece(struct writer *w, const struct index_entry *e, uint64_t offset,
	const uint8_t *bytes, size_t len, struct error *err);
int fetch_close_file(struct writer *w, const struct index_entry *e, struct sha256_ctx *sha256,
	struct error *err);

/* --- fetch_links.c --- */

/* The walk's: the hard links of a part, when all that came before is written. */
int fetch_links(struct fetch_part *p, struct error *err);

#endif
