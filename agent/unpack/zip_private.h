/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_PRIVATE_H
#define STAGERUN_ZIP_PRIVATE_H

#include "budget.h"
#include "crew.h"
#include "decode.h"
#include "object.h"
#include "reader.h"
#include "text.h"
#include "unpack.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* The zip reader. APPNOTE in comments is APPNOTE.TXT, PKWARE's description of the format.
 *
 *   zip.c            one zip: memory, the walk through its entries, large entries, rarer methods
 *   zip_directory.c  the end record, and the central directory in the order of the data
 *   zip_format.c     one record: extra fields, character sets, methods, attributes
 *   zip_stream.c     the data in order, and the local headers
 *   zip_workers.c    the workers that inflate and write, their queue, batches and jobs
 *
 * Two kinds of threads: the walking thread, which is the stage's worker thread, reads the directory
 * at random, then walks once through the data as it downloads, and cuts out each entry's compressed
 * bytes; workers inflate and write them. The walking thread unpacks large entries itself. */

struct libdeflate_decompressor;

/* --- little-endian numbers --- */

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static inline uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* --- zip_format.c; all of it is pure, any thread --- */

enum zip_flag {
	ZIP_ENCRYPTED = 1 << 0,
	ZIP_LZMA_END = 1 << 1, /* method 14: an end marker follows the data */
	ZIP_DESCRIPTOR = 1 << 3,
	ZIP_STRONG = 1 << 6,
	ZIP_UTF8 = 1 << 11,
	ZIP_MASKED = 1 << 13, /* the directory is encrypted, too */
};
enum zip_method { ZIP_STORED = 0, ZIP_DEFLATED = 8, ZIP_AES = 99 };

/* The minute of the latest DOS time that was converted, and its start in seconds. Consecutive
 * entries often have the same minute, and mktime() checks the file of the time zone each time. */
struct zip_minute {
	uint32_t minute;
	time_t start;
	bool known;
};

/* The character set of names; it belongs to one thread. */
struct zip_charset;

/* One record of the central directory. */
struct zip_entry {
	/* The name to use: from the Unicode extra field when that is valid. Valid until the next
	 * parse. */
	const char *name;
	const uint8_t *raw_name; /* as the local header repeats it; raw_len bytes */
	size_t raw_len;
	uint16_t flags, method;
	uint32_t crc;
	uint64_t packed, size;  /* bytes, compressed and not */
	uint64_t header_at;     /* offset of the local header */
	mode_t type;            /* S_IFREG, S_IFDIR, S_IFLNK, or a type that is refused */
	const char *encryption; /* name of its encryption, static; NULL: it is not encrypted */
	bool unmarked; /* name has bytes that are not UTF-8, and their character set is unknown */
	bool backslashes; /* raw_name has backslashes that separate components */
	struct meta meta;

	/* Kept from one record to the next. */
	struct zip_charset
		*charset; /* for names that do not declare theirs; NULL: none. Borrowed */
	struct text name_text;
	struct zip_minute last;
};

#define ZIP_RECORD_BYTES ((size_t)46)
#define ZIP_RECORD_MAX   (ZIP_RECORD_BYTES + 3 * (size_t)UINT16_MAX)

/* The length of the record at p, in bytes, with everything that follows its fixed part. */
size_t zip_record_len(const uint8_t *p);
/* Parses one whole record. shift: bytes to add to its offset. *e is zeroed before the first record,
 * and freed by zip_entry_done(). */
int zip_entry_parse(struct zip_entry *e, const uint8_t *record, uint64_t shift, struct error *err);
void zip_entry_done(struct zip_entry *e);
/* Checks that the entry can be unpacked: -ERR_UNSUPPORTED, -ERR_FORMAT or -ERR_REFUSED if not. */
int zip_entry_check(const struct zip_entry *e, struct error *err);
/* The lowest possible offset at which the entry's data ends; UINT64_MAX when that overflows. */
uint64_t zip_entry_end(const struct zip_entry *e);

/* The extra fields of a record: times and owner of NTFS and Unix, the Unicode name, and the 64-bit
 * values, which are used where the 32-bit ones are saturated. */
struct zip_extra {
	const uint8_t *p;
	size_t len;
};

/* Replaces each of the n values that is UINT32_MAX by the next 64-bit one. -ERR_FORMAT when the
 * field has too few of them. */
int zip_extra_widen(const struct zip_extra *x, uint64_t *const *values, size_t n);
/* Sets meta's uid and gid if there is a field that has them. */
void zip_extra_owner(const struct zip_extra *x, struct meta *meta);

/* The caller owns *ret, which stays unchanged when name is NULL or "". -ERR_CONFIG when iconv does
 * not know the name. */
int zip_charset_open(const char *name, struct zip_charset **ret, struct error *err);
void zip_charset_close(struct zip_charset *c); /* accepts NULL */

/* Whether the method is one of the rarer ones, which are decoded by a decoder of agent/decode;
 * stored and deflated entries are decoded by the zip reader itself. */
bool zip_method_needs_decoder(const struct zip_entry *e);
const struct decoder *zip_method_decoder(const struct zip_entry *e); /* only if it needs one */

/* --- zip_directory.c; the walking thread's --- */

/* Where the central directory is. */
struct zip_end {
	uint64_t directory_at, directory_len;
	uint64_t entries;
	uint64_t shift;   /* bytes in front of the zip proper, to be added to the offsets in it */
	bool wrapped;     /* its offsets are larger ones modulo 4 GiB; shift is 0 then */
	uint64_t ignored; /* bytes behind its end that are not padding */
};

/* Returns the offset of the first local header, from the first bytes of a file: 0, or behind the
 * mark of a zip that was meant to be split. SIZE_UNKNOWN: the file begins with something else.
 * Pure; any thread. */
uint64_t zip_begin(const uint8_t *first, size_t len);

/* Finds the end record. begin: the result of zip_begin(). Fails when bytes in front of the zip that
 * the end record describes begin like a zip, too. */
int zip_find_end(struct object *o, uint64_t begin, struct zip_end *ret, struct error *err);

/* Whether a file that begins with something else ends like a zip: 1, 0 or negative. surely: also
 * check that the end record leads to a directory; for files whose name does not say that they are
 * zips. */
int zip_is_at_end(struct object *o, bool surely, struct error *err);

/* The records of the directory in the order of their data, read from disk. */
struct zip_directory;

/* Copies the directory to an unnamed file, so that memory does not depend on the number of entries,
 * and checks every record as it is copied: an error anywhere is returned before anything is
 * written, and nothing but a directory is stored. The caller owns *ret; o and env are borrowed. */
int zip_directory_open(const struct unpack_env *env, struct object *o, const struct zip_end *end,
	struct zip_directory **ret, struct error *err);
void zip_directory_close(struct zip_directory *d); /* accepts NULL */
/* The number of selected entries, and the bytes that they need when unpacked. */
void zip_directory_sum(const struct zip_directory *d, uint64_t *ret_bytes, uint64_t *ret_entries);
/* Whether a selected entry has a method for which zip_method_needs_decoder() is true. */
bool zip_directory_needs_decoder(const struct zip_directory *d);
/* The name of a selected entry that is unmarked; NULL: there is none. */
const char *zip_directory_unmarked(const struct zip_directory *d);
/* The name of a selected entry with backslashes as separators; NULL: there is none. */
const char *zip_directory_backslashes(const struct zip_directory *d);
/* 1, 0 after the last record, or negative. A record that repeats the previous one is skipped. The
 * directory owns *e, which is valid until the next call. */
int zip_directory_next(struct zip_directory *d, struct zip_entry **e, struct error *err);

/* --- zip_stream.c; the walking thread's --- */

/* The zip's bytes in order, with their position. */
struct zip_stream {
	struct reader *in;
	uint64_t at;       /* offset of the next byte */
	struct slice left; /* read from in and not yet returned */
	/* Called before in is asked for more, which may sleep. */
	int (*before_wait)(void *ctx, struct error *err);
	void *ctx;
	/* A header's name and extra fields that lay in two slices; NULL: none yet. */
	uint8_t *joined;
};

void zip_stream_done(struct zip_stream *s);

/* Moves to the local header of e, checks that it agrees with e, and moves on to e's data. Sets the
 * owner in e->meta if only the local header has it. */
int zip_stream_open_entry(struct zip_stream *s, struct zip_entry *e, struct error *err);

/* Returns the next bytes of the data, at most max (> 0) of them. The caller owns the reference in
 * *ret. */
int zip_stream_next(struct zip_stream *s, uint64_t max, struct slice *ret, struct error *err);

/* --- zip_workers.c: jobs and batches; one thread at a time --- */

/* An entry whose compressed bytes are in memory. */
struct zip_job {
	const char *name; /* borrowed; the destination, below the tree */
	mode_t type;
	struct meta meta;
	uint16_t method;
	uint32_t crc;
	size_t size; /* in bytes, unpacked */
	/* The bytes, in order; the job owns a reference to each. Only a stored file may have
	 * two. */
	struct slice packed[2];
};

/* What one worker uses to run jobs. */
struct zip_worker {
	struct crew *crew;
	struct writer *writer;
	struct libdeflate_decompressor *inflater;
	struct block_pool *outputs; /* one block for each worker, large enough for any job */
	struct block *output;       /* from outputs; NULL until the first use */
	struct cancel *cancel;
};

/* Small entries that one worker writes one after another, in the order in which they were added: to
 * wake a thread for each of them would take as long as to write it. */

#define ZIP_BATCH_JOBS 32

struct zip_batch {
	unsigned n;
	uint64_t bytes; /* of all jobs, compressed and not */
	struct zip_job jobs[ZIP_BATCH_JOBS];
	uint64_t hashes[ZIP_BATCH_JOBS]; /* of the jobs' names */
	size_t name_at[ZIP_BATCH_JOBS];  /* offsets of the jobs' names in names */
	struct text names;
};

/* Takes ownership of the job's slices and copies its name. There must be room. */
void zip_batch_add(struct zip_batch *b, const struct zip_job *job);
/* Whether the batch has as much as one worker should get at once. max: jobs, at most
 * ZIP_BATCH_JOBS. */
bool zip_batch_is_full(const struct zip_batch *b, unsigned max);

/* Runs the jobs until one fails or *stop is set, and drops the slices of all of them. */
int zip_batch_run(
	struct zip_batch *b, struct zip_worker *worker, const atomic_bool *stop, struct error *err);

void zip_batch_clear(struct zip_batch *b); /* keeps the memory for names */
void zip_batch_done(struct zip_batch *b);  /* accepts a zeroed one */

/* --- zip_workers.c: the queue between the walking thread and the workers --- */

/* Passes batches from the walking thread to the workers, and empty ones back. There is one lock,
 * which each side takes twice per batch. */
struct zip_queue;

struct zip_queue *zip_queue_new(unsigned batches, struct cancel *cancel); /* never NULL */
void zip_queue_free(struct zip_queue *q); /* no thread uses it any more */

/* The walking thread's. They return 0, the first failure of a worker, or -ECANCELED. */

/* Waits for an empty batch, which belongs to the walking thread until zip_queue_put(). */
int zip_queue_open(struct zip_queue *q, struct zip_batch **ret, struct error *err);
/* Waits until no entry with a name of this batch is being processed, then queues it. On failure,
 * the batch still belongs to the walking thread. */
int zip_queue_put(struct zip_queue *q, struct zip_batch *b, struct error *err);

/* The workers'. */

/* Waits for the next batch; NULL: there will be none. */
struct zip_batch *zip_queue_take(struct zip_queue *q);
/* Returns a batch that was run, with the result. */
void zip_queue_return(struct zip_queue *q, struct zip_batch *b, int code, const struct error *err);

/* Any thread. */

/* Set after a failure: entries that are still being processed are not needed any more. */
const atomic_bool *zip_queue_stop(const struct zip_queue *q);

/* --- zip_workers.c: the workers; the functions are the walking thread's --- */

/* Threads that inflate and write whole entries, which they get in batches. Two entries of one name
 * are never processed at the same time, so the later one takes precedence. */
struct zip_workers;

/* The most memory of one worker besides parts, in bytes. */
#define ZIP_WORKER_BYTES ((uint64_t)128 << 10)

struct zip_workers_options {
	const char *source; /* for messages; borrowed */
	struct crew *crew;  /* writes the entries; borrowed */
	unsigned threads;
	size_t part;      /* bytes of the largest job, unpacked */
	uint64_t entries; /* about how many will be added: a few are spread over all workers */
};

int zip_workers_start(const struct unpack_env *env, const struct zip_workers_options *options,
	struct zip_workers **ret, struct error *err);

/* Takes ownership of the job's slices, also on failure; copies its name. May wait for room, and for
 * an entry of the same name that is being processed. Returns the first failure of any worker, if
 * there is one. */
int zip_workers_add(struct zip_workers *w, const struct zip_job *job, struct error *err);

/* Queues the jobs that were added and are not queued yet. To be called before the walk waits for
 * anything else, because these jobs reference the network's blocks. Fails as zip_workers_add()
 * does. */
int zip_workers_flush(struct zip_workers *w, struct error *err);

/* Flushes, and waits until no entry of this name is being processed. */
int zip_workers_await(struct zip_workers *w, const char *name, struct error *err);

/* Waits until all jobs are done or, when code says that the walk failed with *err, until the
 * workers have stopped; joins the threads and frees w. Returns the first failure, or 0. */
int zip_workers_finish(struct zip_workers *w, int code, struct error *err);

#endif
