/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_UNPACK_PRIVATE_H
#define STAGERUN_UNPACK_PRIVATE_H

#include "budget.h"
#include "crew.h"
#include "object.h"
#include "unpack.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* unpack() detects the format of a stream by its first bytes and extracts the entries into a tree.
 * All functions run on the stage's worker thread; only zip starts threads of its own
 * (zip_private.h).
 *
 *   unpack.c           the table of formats, the choice among them, single files; the way of an
 *                      object through decoder and unpacker
 *   promise.c          what file names promise about the content, and the errors when it differs
 *   content.c          descriptions of content that is no container, for messages
 *   select.c           include, exclude and strip_components; globs
 *   archive.c          the bytes that archives are read from; from libarchive's entries to the tree
 *   tar.c              tar, by libarchive's reader
 *   cpio.c             cpio, by a reader of our own that produces libarchive's entries
 *   sevenzip.c         7z, by libarchive's reader
 *   sevenzip_header.c  checks on a 7z archive's header before libarchive reads it
 *   scratch.c          unnamed temporary files, for formats that need random access
 *   zip*.c             zip, by a reader of our own; see zip_private.h */

struct archive;
struct archive_entry;
struct extraction;

/* --- unpack.c --- */

/* The rows of the table in unpack.c; each is defined in the file that implements the format. */
extern const struct unpacker unpack_tar, unpack_cpio, unpack_7z, unpack_zip;

/* The time of an entry that has none: the input's mtime, or the current time when that is 0. */
struct timespec unpack_input_mtime(const struct unpack_input *input);

/* --- archive.c --- */

/* The stream that an archive is read from. The reader's slices are passed on without a copy; the
 * latest one stays referenced until the next one is requested. */
struct archive_feed {
	struct reader *in;
	struct slice current;
	uint64_t given; /* bytes taken from in, current included */
	uint64_t start; /* offset of the archive being read, where several are joined */
	bool ended;     /* the stream has no more bytes */
	int failed;     /* the reader's error, which is more precise than libarchive's; 0: none */
	struct error why;
};

/* Drops the current slice and reads the next one: 1, 0 at the end of the stream, or a negative
 * code, which is also stored in failed and why. */
int archive_feed_next(struct archive_feed *feed);
/* Drops the current slice and skips n bytes of the stream behind it. 0 or negative, as above. */
int archive_feed_skip(struct archive_feed *feed, uint64_t n);
void archive_feed_done(struct archive_feed *feed);

/* How the entries of a format are read: by libarchive's readers, or by one of our own. */
struct entry_reader {
	/* Skips the remaining data of the latest entry. 1: *ret is the next entry, which the reader
	 * owns / 0: there is none / negative. */
	int (*next)(struct extraction *x, struct archive_entry **ret, struct error *err);
	/* Reads more of the latest entry's data. 1: *ret is valid until the next call / 0 at the
	 * end of the data / negative. */
	int (*block)(
		struct extraction *x, struct slice *ret, uint64_t *ret_offset, struct error *err);
};

/* One archive, or several joined ones, on the way into the tree. */
struct extraction {
	/* Set at creation. */
	const struct unpack_env *env;
	const struct unpack_input *input;
	const char *format; /* "tar" */
	const struct entry_reader *reader;
	struct archive_feed *feed;
	/* The mode that the format's reader returns for files that have none; 0: it returns
	 * none. */
	mode_t mode_if_unset;
	/* The name for an entry that has none; NULL: an entry without a name is an error. */
	const char *unnamed;

	/* Changes during extraction. */
	struct archive *archive; /* libarchive's readers: opened on feed */
	struct writer *writer;   /* used by this thread alone */
	struct crew *crew;
	char latest[128]; /* name of the latest entry, shortened, for messages */
};

/* Extracts every selected entry into the tree. */
int archive_extract_entries(struct extraction *x, struct error *err);

/* Sets err to why, at byte at of the archive, with the given code, and returns the code. Sets and
 * returns the feed's error instead when the feed failed. */
int archive_extraction_fault(
	const struct extraction *x, int code, uint64_t at, const char *why, struct error *err);

/* The functions below are for formats that libarchive reads. */

/* Sets err to the reason why x->archive could not be opened. Nothing else may be called on such an
 * archive. */
int archive_open_failed(const struct extraction *x, struct error *err);
/* Skips the remaining data of the latest entry. */
int archive_skip_data(struct extraction *x, struct error *err);
/* As next() and block() of struct entry_reader; archive_next_header() does not skip data. */
int archive_next_header(struct extraction *x, struct archive_entry **ret, struct error *err);
int archive_next_block(
	struct extraction *x, struct slice *ret, uint64_t *ret_offset, struct error *err);

/* Skips zeros, from the feed's current byte on, then checks with matches() whether another archive
 * follows. 1: it does, and the feed's next byte is its first / 0: the stream ends / -ERR_FORMAT:
 * something else follows. */
int archive_feed_next_archive(
	struct extraction *x, bool (*matches)(const uint8_t *first, size_t len), struct error *err);

/* --- select.c --- */

/* As select_apply(), for an entry that is about to be written: 1 and *ret, or 0 when the entry is
 * left out. Honest archives have names that no tree accepts, absolute ones or names with "..":
 * these are -ERR_REFUSED, and the message says which strip_components or exclude would help. A name
 * that consists of slashes is the root directory's. */
int select_entry(
	const struct selection *sel, const char *name, const char **ret, struct error *err);

/* A hash of the components of a name. All spellings of one name have the same hash: empty
 * components and "." are ignored. Pure; any thread. */
uint64_t select_name_hash(const char *name);

/* --- promise.c --- */

/* A name that ends like an archive's or a compressed file's promises that its content is one. The
 * format itself is detected by the bytes; when they are neither, the input fails with an error that
 * describes them: a login page that trains a model is worse than a run that fails. */

enum promise_kind {
	PROMISE_NOTHING,
	PROMISE_COMPRESSION, /* "x.csv.gz" */
	PROMISE_ARCHIVE,     /* "x.zip", "x.tar.gz" */
};

struct promise {
	enum promise_kind kind;
	char ending[24];  /* the ending that makes the promise, as the name spells it: ".tar.gz" */
	bool is_tar;      /* an archive: tar, perhaps compressed */
	bool is_zip;      /* an archive: zip */
	bool is_part;     /* one part of a split file: ".tar.gz.aa", ".7z.001", ".z01" */
	bool has_ending;  /* the URL's name has an ending of any kind */
	bool is_html;     /* the URL's name ends like a web page's */
	bool served_html; /* the server's Content-Type is HTML */
};

/* The first bytes of content that is no container. */
struct promise_bytes {
	const uint8_t *first;
	size_t len; /* less than PROMISE_PEEK only when the content has no more */
};
#define PROMISE_PEEK 4096

/* What the input's names promise: those in its URL, and the one that the server sent. */
struct promise promise_of(const struct unpack_input *input);

/* Adds what name promises. *p stays unchanged when it already holds a promise of the same or a
 * higher kind. */
void promise_add_name(struct promise *p, const char *name);

/* Checks content that is no container: -ERR_FORMAT when it breaks the promise, or is a Git LFS
 * pointer. May log a warning. */
int promise_check(const struct promise *p, const struct unpack_input *input,
	const struct promise_bytes *bytes, struct error *err);

/* Adds to err, which describes damage, that the input is one part of a split file, if it is. */
void promise_explain(const struct promise *p, struct error *err);

/* --- content.c; all pure, any thread --- */

/* Whether the bytes are text, or of a kind that is known by its first bytes. */
bool promise_content_is_known(const struct promise_bytes *b);
/* Whether a self-extracting program could begin with these bytes. */
bool promise_content_is_program(const struct promise_bytes *b);
/* Whether the bytes are something that stands in place of data: nothing at all, a web page, a
 * server's error in XML or JSON, or a Git LFS pointer. */
bool promise_content_is_placeholder(const struct promise_bytes *b);

/* --- scratch.c --- */

/* A scratch object is an unnamed file on disk behind struct object, for bytes that must be read at
 * random although their source cannot be. The tree's limits apply to its bytes. Closing the object
 * frees the disk space; it must be closed before the tree is. */

/* The most memory, in bytes, that a scratch object uses while it is streamed. */
#define SCRATCH_MEMORY ((uint64_t)1 << 20)

/* Creates a scratch object, which the caller owns, with the remaining bytes of the input's
 * stream. */
int scratch_from_input(const struct unpack_env *env, const struct unpack_input *input,
	struct object **ret, struct error *err);

/* Creates an empty scratch object, which the caller owns. name is borrowed. */
int scratch_new(
	const struct unpack_env *env, const char *name, struct object **ret, struct error *err);
int scratch_append(struct object *o, const void *bytes, size_t len, struct error *err);

/* The descriptor of the file, for mmap(); the object owns it. */
int scratch_fd(const struct object *o);

/* --- sevenzip_header.c --- */

/* The header of a 7z archive is checked before libarchive reads it: libarchive allocates whatever
 * dictionary the archive specifies, and does not report what it does not support. */

#define SEVENZIP_START_BYTES 32

struct sevenzip_facts {
	uint64_t packed_end; /* offset of the header, or of the stream that it is packed in */
	uint64_t end;        /* length of the archive in bytes */
	uint64_t memory;     /* the most bytes that libarchive allocates while reading it */
	bool unnamed;        /* its only entry has no name: it was packed from standard input */
};

/* Sets packed_end and end from the first SEVENZIP_START_BYTES. -ERR_FORMAT. */
int sevenzip_parse_start(const uint8_t *start, struct sevenzip_facts *ret, struct error *err);

/* Sets all facts, from an object whose size is known. -ERR_TRUNCATED; -ERR_FORMAT; -ERR_UNSUPPORTED
 * for an archive that is encrypted, or packed by a method that libarchive does not read;
 * -ERR_LIMIT. Waits for the memory that it needs meanwhile, so the caller must hold none of the
 * budget. */
int sevenzip_read_facts(const struct unpack_env *env, struct object *o, struct sevenzip_facts *ret,
	struct error *err);

#endif
