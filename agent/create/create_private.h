/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_CREATE_PRIVATE_H
#define STAGERUN_CREATE_PRIVATE_H

#include "datastore.h"
#include "datastore_create.h"
#include "index.h"
#include "s3.h"
#include "text.h"
#include "tree.h"
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* One datastore_create(): a source becomes a new version of a datastore. The entries of the source
 * (struct create_item) come in the order of the index. The planner looks each one up in the
 * previous version, groups what is new into jobs (struct create_job), and writes an entry to the
 * index once its job is done. The workers read, hash, compress and send. Which entries share a pack
 * depends on the entries alone and never on timing: the same tree makes the same packs, which the
 * store then has already.
 *
 *   create.c         the steps of a creation: lease, previous version, content, manifest
 *   create_source.c  the kinds of sources: directory, file, object behind a URL, S3 prefix
 *   walk.c           the entries of a directory, in the order of the index; which paths are hard
 *                    links to one file
 *   stream.c         the entries of an archive: a tree's sink that fills packs
 *   content.c        reads file content: from a directory or from S3
 *   planner.c        entries -> jobs -> index; the index of the previous version, read along with
 *                    the source; the packs and large files that the new version uses
 *   workers.c        the threads, their queue, and the comparison with the previous version
 *   pack.c           builds a pack from small files, and stores it
 *   pack_tar.c       tar headers
 *   frames.c         raw bytes -> zstd frames, and the table of an object's frames
 *   large.c          objects that are made frame by frame by several workers
 *
 * Threads: the planner is the thread that called datastore_create(). The workers run from
 * create_workers_start() to create_workers_stop(). When the source is an archive, the threads of
 * the unpacker call the sink in stream.c. The first failure of a worker stops the creation. */

struct creation;
struct worker;
struct create_workers;

#define FRAME_RAW ((size_t)4 << 20)                /* most raw bytes of one zstd frame */
#define PACK_RAW  (((size_t)32 << 20) - (1 << 18)) /* of a pack: at most 32 MiB when stored */
#define LARGE_MIN ((uint64_t)24 << 20)             /* a file of this size is its own object */

/* The entries of one pack lie within this many consecutive entries of the index, since the entries
 * behind them wait until the pack is done. */
#define PACK_SPAN 50000
/* Entries that may wait for their place in the index. */
#define MAX_WAITING 100000

/* --- objects and entries (planner.c) --- */

/* An object in the store (a pack or a large file) that the index points into. The planner's, once
 * the job that makes it is done. */
struct create_object {
	char key[96];
	char sha256[65];     /* of the stored bytes; "" when it is not known */
	uint64_t bytes, raw; /* stored; decoded */
	uint64_t live;       /* raw bytes that the new version uses */
	bool hardly_used;    /* the previous version uses less than half of it: do not reuse it */
	struct index_frame *frames; /* heap; NULL for an object of the previous version */
	size_t n_frames;
	struct create_object *next; /* in the order of first use */
	bool listed;
};
void create_object_free(struct create_object *o); /* accepts NULL */

/* Where the previous version has the content of a file with the same path and size. */
struct earlier_content {
	struct create_object *object;
	uint8_t sha256[SHA256_DIGEST_SIZE];
	uint32_t skip; /* the content begins this many bytes into the first frame */
	size_t n_frames;
	struct index_frame frames[];
};

/* An entry on its way from the source to the index. */
struct create_item {
	struct create_item *next;
	uint64_t number; /* its position in the index */

	/* Set by the source. */
	enum index_type type;
	bool sparse;
	bool through_link; /* --dereference: its path contains a symbolic link */
	mode_t mode;
	struct timespec mtime, ctime;
	dev_t dev; /* files below a directory */
	ino_t ino;
	uint64_t size;
	const char *path, *target; /* in text; target may be NULL */
	const char *etag;          /* S3 objects, else NULL */

	/* Set by stream.c; entries of an archive only. */
	bool verify;    /* symbolic link: ".." in its target may only follow a real directory */
	bool existing;  /* file: the content of all names of the hard link before it (cpio) */
	bool has_links; /* file: hard links to it follow */
	struct create_item *link_to; /* hard link: the file */
	struct create_item *content; /* hard link: an entry of the same path that has the content */

	/* Set by the planner. */
	bool known; /* the previous version has an entry of this path and type */
	struct earlier_content *earlier; /* NULL: there is none */
	struct create_job *batch;        /* compares the file with earlier */
	struct create_job *job;          /* puts the entry into an object */

	/* Set by the worker that runs batch or job, or by stream.c. */
	bool changed;        /* the content differs from earlier */
	uint64_t tar_offset; /* of the content in the object's tar */
	uint8_t sha256[SHA256_DIGEST_SIZE];

	char text[];
};

/* The strings are copied; target and etag may be NULL. */
struct create_item *create_item_new(
	enum index_type type, const char *path, const char *target, const char *etag);
void create_item_free(struct create_item *i); /* accepts NULL */
/* Whether it is a file that is not empty. */
bool create_item_has_content(const struct create_item *i);

/* --- jobs (planner.c) --- */

enum create_job_kind {
	JOB_PACK,           /* build a pack from items and store it */
	JOB_COMPARE,        /* hash the items, and compare them with the previous version */
	JOB_LARGE,          /* a large file: it stays in the queue until all its frames are taken */
	JOB_STREAMED_FRAME, /* compress one frame of owner; the worker frees it */
	JOB_STREAMED_OBJECT, /* the object that streamed frames make up; never in the queue */
};

struct create_large;

/* A union of the five kinds: each kind uses some of the members. All but JOB_STREAMED_FRAME belong
 * to their items: the planner frees a job when it drops the last item that refers to it. */
struct create_job {
	enum create_job_kind kind;
	struct create_job *next; /* in the queue */
	atomic_bool done;        /* set by workers.c; see create_job_is_done() */

	/* All kinds but JOB_STREAMED_FRAME. The planner's, and stream.c's under its lock. */
	struct create_item **items;
	size_t n, cap;
	size_t refs;  /* items that refer to this job */
	uint64_t raw; /* JOB_PACK: bytes of the tar members; JOB_COMPARE: of the content */

	/* JOB_PACK, JOB_LARGE, JOB_STREAMED_OBJECT: set when it is done. The job owns the
	 * object until the planner has added it to the objects of the version. */
	struct create_object *object;
	bool object_added;

	/* JOB_LARGE, JOB_STREAMED_OBJECT. */
	struct create_large *large;

	/* JOB_STREAMED_FRAME. */
	struct create_job *owner; /* JOB_STREAMED_OBJECT */
	uint8_t *bytes;           /* raw bytes: a heap buffer of FRAME_RAW */
	size_t len, number;
	bool is_last;
};

struct create_job *create_job_new(enum create_job_kind kind);
/* Adds an item, which has raw bytes (see create_job.raw). */
void create_job_add(struct create_job *job, struct create_item *i, uint64_t raw);
void create_job_free(struct create_job *job); /* accepts NULL */

/* Any thread. After true, the caller sees all that the worker wrote. */
static inline bool create_job_is_done(struct create_job *job)
{
	return atomic_load_explicit(&job->done, memory_order_acquire);
}

/* --- content.c: reads the content of items. Workers --- */

struct content {
	struct worker *worker;
	const struct create_item *item;
	int fd;
};

struct content_ops {
	/* -ERR_CHANGED when the item is no longer what the source returned. */
	int (*open)(struct worker *worker, const struct create_item *i, struct content *ret,
		struct error *err);
	/* Exactly len bytes at offset. */
	int (*read)(struct content *c, uint64_t offset, void *buf, size_t len, struct error *err);
	/* After the last read: -ERR_CHANGED when the item has changed since the source returned
	 * it. */
	int (*check)(struct content *c, struct error *err);
	void (*close)(struct content *c);
};
extern const struct content_ops content_from_files, content_from_s3;

/* What all threads of a creation share. */
struct creation {
	/* Set before the first job is submitted. */
	const struct create_options *opts;
	const struct content_ops *content_ops;
	int root_fd;                /* content_from_files: the directory of the source */
	struct s3_bucket_key place; /* content_from_s3: the prefix of the source */
	const char *where;          /* the source, for messages */
	bool streamed; /* the entries come from an archive, which counts them as progress */
	bool local;    /* a directory or file: the transfer engine is not used */

	/* Any thread. */
	atomic_ullong sent_bytes;
};

/* --- workers.c --- */

/* One thread; only this thread uses it after its start. */
struct worker {
	struct create_workers *workers;
	struct creation *creation;
	struct store_conn *store;
	struct s3_client *s3; /* NULL before the first read from S3 */
	struct frames *frames;
	uint8_t *spare_part; /* a buffer of STORE_PART_MIN for parts of large files, or NULL */
};

/* Starts as many workers as the memory budget has room for. */
int create_workers_start(struct creation *c, struct create_workers **ret, struct error *err);
/* Any thread but the workers. Puts the job into the queue; sleeps while the queue is full. On
 * failure it is still the caller's; otherwise it becomes done, or all workers fail. */
int create_workers_submit(struct create_workers *s, struct create_job *job, struct error *err);
/* Any thread but the workers. Sleeps until the job is done; returns the first failure of any
 * worker. */
int create_workers_await(struct create_workers *s, struct create_job *job, struct error *err);
/* Stops the threads and frees s; accepts NULL. */
void create_workers_stop(struct create_workers *s);
/* Workers; see workers_await_turn(). */
int create_workers_await_turn(
	struct create_workers *s, const uint64_t *turn, uint64_t number, struct error *err);
void create_workers_next_turn(struct create_workers *s, uint64_t *turn);

/* --- frames.c: the stored form of an object --- */

/* An object is a row of zstd frames, each of at most FRAME_RAW raw bytes, with content size and
 * checksum, and a table of the frames at the end (zstd's "seekable format": a skippable frame,
 * which decoders ignore). One thread at a time. */
struct frames {
	/* Raw bytes of the current frame, which is not compressed yet. */
	uint8_t *raw;
	size_t raw_len;

	/* The object so far. */
	uint8_t *out;
	size_t out_len, out_cap;
	struct index_frame *list;
	size_t n, cap;
	uint64_t raw_total;       /* in frames */
	struct sha256_ctx sha256; /* of the raw bytes in frames */

	/* For most bytes; for bytes that hardly compress. */
	struct ZSTD_CCtx_s *zstd, *quick;
};

struct frames *frames_new(void);
void frames_free(struct frames *f); /* accepts NULL */
/* Starts a new object. */
void frames_begin(struct frames *f);

/* Add raw bytes, or zeros. */
int frames_put(struct frames *f, const void *bytes, size_t len, struct error *err);
int frames_zeros(struct frames *f, size_t len, struct error *err);
/* The same without a copy: the caller writes to *ret, which has room for *ret_len bytes (never 0),
 * and passes how many it wrote to frames_written(). */
int frames_room(struct frames *f, uint8_t **ret, size_t *ret_len, struct error *err);
void frames_written(struct frames *f, size_t len);
uint64_t frames_at(const struct frames *f); /* raw bytes so far */

/* Ends the current frame, unless it is empty, if len more bytes do not fit into it. */
int frames_make_room(struct frames *f, uint64_t len, struct error *err);
/* Ends the last frame and adds the table. */
int frames_end(struct frames *f, struct error *err);

/* Appends raw[0..raw_len) to out as one frame, and changes nothing else. */
int frames_compress(struct frames *f, uint32_t *ret_len, struct error *err);

/* Writes the table of n frames to out, which has room for SEEK_TABLE_SIZE(n) bytes. */
#define SEEK_TABLE_SIZE(n) ((size_t)(n)*8 + 17)
void frames_write_seek_table(uint8_t *out, const struct index_frame *list, size_t n);
/* Writes a skippable frame of len bytes in all, at least 8. */
void frames_write_skippable(uint8_t *out, size_t len);
/* Reads the table of the object key, which has size bytes; *ret is on the heap. -ERR_FORMAT when
 * the object has no table, or one that does not match its size. */
int frames_read_seek_table(struct store_conn *store, const char *key, uint64_t size,
	struct index_frame **ret, size_t *ret_n, struct error *err);

/* The n frames from first on that hold the raw bytes [at, at + size), which begin skip bytes into
 * the first one. */
struct frame_range {
	size_t first, n;
	uint32_t skip;
};
struct frame_range frames_locate(
	const struct index_frame *list, size_t n, uint64_t at, uint64_t size);

/* An object whose raw bytes are written one after another: full frames are submitted to the workers
 * as JOB_STREAMED_FRAME. One thread at a time. */
struct frame_writer {
	struct create_workers *workers;
	struct create_job *owner; /* JOB_STREAMED_OBJECT; belongs to its items */
	uint8_t *raw;
	size_t raw_len, n_frames;
	uint64_t total;
};

/* first: an item of the object, since the items own the job. Takes l over. */
void frame_writer_begin(struct frame_writer *writer, struct create_workers *workers,
	struct create_large *l, struct create_item *first);
void frame_writer_add_item(struct frame_writer *writer, struct create_item *i);
void frame_writer_done(struct frame_writer *writer); /* accepts a zeroed one */

/* bytes NULL: zeros. */
int frame_writer_put(
	struct frame_writer *writer, const void *bytes, uint64_t len, struct error *err);
/* Starts another frame if len bytes do not fit into the current one. */
int frame_writer_make_room(struct frame_writer *writer, uint64_t len, struct error *err);
/* Writes the end of the tar, submits the last frame and zeroes *writer. */
int frame_writer_end(struct frame_writer *writer, struct error *err);

/* --- pack_tar.c: tar headers. Pure; any thread --- */

/* Headers are ustar, with pax records for what ustar has no room for (long names, times with
 * fractions, large files). There are no owners: a datastore has none. */
#define TAR_BLOCK 512
#define TAR_END   1024 /* zeros at the end of an archive */

/* Appends all that precedes the content of i, a multiple of TAR_BLOCK. */
void pack_tar_header(struct text *out, const struct create_item *i);
/* Bytes of header, content and padding. */
uint64_t pack_tar_member_size(const struct create_item *i);
uint64_t pack_tar_padding(uint64_t size);

/* --- pack.c: packs of small files. Workers --- */

/* Runs a JOB_PACK. */
int pack_process(struct worker *worker, struct create_job *job, struct error *err);

/* A compressed pack. */
struct pack_bytes {
	struct sha256_ctx *sha256; /* of the raw bytes; finished and reset by pack_store() */
	const uint8_t *bytes;
	size_t len;
	uint64_t raw;
	struct index_frame **list; /* heap; NULL after pack_store() has taken it over */
	size_t n;
};

/* Stores the pack unless the store has it. *ret is the caller's. */
int pack_store(struct worker *worker, const struct pack_bytes *p, struct create_object **ret,
	struct error *err);

/* --- large.c: objects that are made frame by frame --- */

/* Several workers compress frames of one object at the same time. Each waits for its turn to append
 * its frame, as the digest and the stored bytes need the order. */

/* A file whose content the workers read. */
struct create_large *large_new(struct create_item *i);
/* Streamed objects (JOB_STREAMED_FRAME). raw: size of the tar of a file of known size. */
struct create_large *large_new_streamed(uint64_t raw);
struct create_large *large_new_pack(void);
/* A file whose size is known at its end only: room for the tar header is reserved at the start, and
 * large_set_header() must be called before the last frame is submitted. */
struct create_large *large_new_unsized(void);
void large_set_header(struct create_large *l, struct create_item *i);
size_t large_frames(const struct create_large *l); /* SIZE_MAX when it is not known */
/* Accepts NULL. Aborts an upload that is not complete. */
void large_free(struct create_large *l, struct store_conn *store);

/* Workers. Compress and append one frame: of a JOB_LARGE, or a JOB_STREAMED_FRAME, which is
 * freed. *ret_done: the job that became done with it, or NULL. */
int large_process_frame(struct worker *worker, struct create_job *job, size_t number,
	struct create_job **ret_done, struct error *err);
int large_process_streamed_frame(struct worker *worker, struct create_job *job,
	struct create_job **ret_done, struct error *err);

/* --- planner.c: the objects of a version, each once. The planner's --- */

struct objects {
	struct create_object *first, **end; /* in the order of first use */
	void *by_key;                       /* tsearch() */
};

void planner_objects_init(struct objects *o);
void planner_objects_done(struct objects *o);
/* Adds the objects of an earlier version (m may be NULL). They are listed once they are used. */
void planner_objects_add_earlier(struct objects *o, const struct manifest *m);

/* --- planner.c: the previous version. The planner's --- */

/* Its index is read along with the source, since both are in the same order, and is never in memory
 * as a whole. */
struct previous;
/* store, objects and m are borrowed. m NULL: there is no previous version, and no entry is
 * found. */
struct previous *planner_previous_new(
	struct store_conn *store, struct objects *objects, const struct manifest *m);
void planner_previous_free(struct previous *p); /* accepts NULL */

/* --- planner.c: entries, in the order of the index, become jobs and then lines of the index --- */

/* The planner's thread. */
struct planner {
	/* Set at creation. */
	struct creation *creation;
	/* NULL before the first entry when the source is an archive */
	struct create_workers *workers;
	struct previous *previous;
	struct objects *objects;
	struct store_conn *store; /* this thread's */
	struct index_writer *index;
	struct manifest *manifest; /* gets the totals and the parts of the index */

	/* The entries that are not in the index yet. */
	struct create_item *first, *last;
	struct create_item *next; /* the first one that has no place yet */
	uint64_t next_number;
	size_t n_waiting;

	bool last_reused; /* the last entry with a place is reused from the previous version */

	/* Being filled, not submitted yet. */
	struct create_job *pack, *batch;

	struct create_item *link_target; /* the last file in the index: hard links to it follow */
	uint64_t reused_files;
};

void planner_init(struct planner *p, struct creation *c);
void planner_done(struct planner *p);

/* Takes i over, also on failure. May sleep. */
int planner_add(struct planner *p, struct create_item *i, struct error *err);
/* The same for an entry that has its job already: waits for the job, and writes the entry to the
 * index. */
int planner_add_placed(struct planner *p, struct create_item *i, struct error *err);
/* Frees i, and its job if no other item refers to it. */
void planner_drop(struct planner *p, struct create_item *i);
/* Before the first of the files with hard links. */
int planner_skip_to_links(struct planner *p, struct error *err);
/* After the last entry: waits until all entries are in the index, and stores its last part. */
int planner_finish(struct planner *p, struct error *err);

/* --- create_source.c: kinds of sources. The planner's thread --- */

enum create_kind { CREATE_DIRECTORY, CREATE_FILE, CREATE_OBJECT, CREATE_PREFIX };
struct create_source {
	enum create_kind kind;
	char *display; /* for messages and the manifest: without secrets; heap */
	char *path;    /* local sources: heap; else NULL */
	int root_fd;   /* the directory, or that of the file; else -1 */
};

/* Determines the kind of opts->source. *ret must be closed, also on failure. */
int create_source_open(
	const struct create_options *opts, struct create_source *ret, struct error *err);
void create_source_close(struct create_source *s);

/* Adds all entries of the source to the planner. */
int create_feed(struct planner *p, const struct create_source *s, struct error *err);

/* --- walk.c: hard links --- */

/* The files of a tree that have several names. They are returned after all other entries. One
 * thread. */
struct link_groups {
	struct link_name *names;
	size_t n, cap, n_returned;
	char *first_name; /* of the group that was returned last */
};

/* --- stream.c: the entries of an archive --- */

/* The entries come in the order of the archive and from several threads. Their content goes into
 * packs at once; the entries themselves are kept, and sorted into the order of the index at the
 * end. */
struct stream {
	/* Set at creation. */
	struct planner *planner;

	/* Under lock. */
	pthread_mutex_t mutex;
	struct frame_writer pack;
	struct create_item **items; /* in the order of arrival */
	size_t n, cap;
};

void stream_init(struct stream *s, struct planner *p);
void stream_done(struct stream *s); /* frees the items that did not get into the index */

/* A tree's sink, whose context is the stream. */
extern const struct tree_sink stream_sink;

/* After the last entry: writes all entries to the index. */
int stream_finish(struct stream *s, struct error *err);

/* --- walk.c: the entries of a directory. One thread --- */

/* The order is that of the index: each directory before its content, names by their bytes; files
 * with several names come last, each followed by its other names. */
struct walk_options {
	int root_fd;       /* borrowed */
	const char *where; /* for messages */
	const struct selection *selection;
	bool dereference; /* follow symbolic links that lead out of the tree */
	struct cancel *cancel;
};

struct walk;
int walk_new(const struct walk_options *opts, struct walk **ret, struct error *err);
void walk_free(struct walk *w); /* accepts NULL */

/* 1 and *ret, which is the caller's; 0 at the end. -ERR_REFUSED for an entry that no datastore can
 * hold. */
int walk_next(struct walk *w, struct create_item **ret, struct error *err);
/* Whether the entries from the last walk_next() on are files with several names. */
bool walk_is_at_links(const struct walk *w);

/* Returns -ERR_REFUSED for an entry that is neither a file, a directory nor a symbolic link. */
int walk_refuse(const char *where, const char *path, mode_t mode, struct error *err);
/* Logs that names of the agent's own state are left out, for instance base in the directory
 * path. */
void walk_log_reserved(const char *where, const char *path, const char *base);
/* The entry of a regular file. */
struct create_item *walk_file(const char *path, const struct stat *st);

/* Compares two paths as strcmp() does, in the order of the index. */
int walk_path_order(const char *a, const char *b);

#endif
