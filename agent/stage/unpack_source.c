/* SPDX-License-Identifier: MIT */
/* One source: opened, verified, decoded and unpacked into the tree, by straight-line blocking code
 * on the source's thread.
 *
 * Partial downloads (keep_download): the bytes of an archive that is a single stream are also
 * written, as they arrive, into the state directory, so that a run that follows a killed one
 * fetches no byte twice. The file is the beginning of one version of the object; resume.c has
 * removed it if it was of another one. Beside it is a file with the digests of its pieces: pieces
 * without a digest, or with another one, are fetched again. */
#include "datastore_ref.h"
#include "decode.h"
#include "defer.h"
#include "destination.h"
#include "digest.h"
#include "files.h"
#include "log.h"
#include "source.h"
#include "stage_private.h"
#include "text.h"
#include "unpack.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK_BYTES = 256 << 10, BLOCKS = 8 };

/* The digest of one piece of the download, as it is stored in KEPT_SUMS_FILE. */
struct piece {
	uint64_t len; /* bytes; at most BLOCK_BYTES */
	uint8_t digest[SHA256_DIGEST_SIZE];
};

struct partial_download {
	struct reader reader;
	struct reader *in; /* positioned behind the bytes of earlier runs */
	int fd, sums_fd;
	uint64_t length; /* bytes of earlier runs */
	uint64_t at;     /* how many of them were returned */
	off_t sums_at;   /* position of the next piece's digest */
	bool failed;     /* nothing more is written */
	struct block_pool *pool;
	struct cancel *cancel;
};

struct download_env {
	int state_fd; /* of a destination whose unfinished tree is of this version; borrowed */
	struct cancel *cancel;
};

static void compute_digest(
	const uint8_t *bytes, size_t len, uint8_t digest[static SHA256_DIGEST_SIZE])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, len, bytes);
	sha256_digest(&ctx, SHA256_DIGEST_SIZE, digest);
}

static bool read_at(int fd, void *buf, size_t len, off_t at)
{
	return files_read_at(fd, buf, len, (uint64_t)at) == (ssize_t)len;
}

static bool read_piece(const struct partial_download *k, struct block *b, struct piece *ret)
{
	uint8_t digest[SHA256_DIGEST_SIZE];

	if (!read_at(k->sums_fd, ret, sizeof(*ret), k->sums_at) || ret->len > k->length - k->at ||
		ret->len > b->capacity || !read_at(k->fd, b->data, ret->len, (off_t)k->at))
		return false;
	compute_digest(b->data, ret->len, digest);
	return memcmp(digest, ret->digest, sizeof(digest)) == 0;
}

/* Truncates both files before the damaged piece, so that the next attempt uses what is before
 * it. */
static int truncate_damaged(struct partial_download *k, struct error *err)
{
	if (ftruncate(k->sums_fd, k->sums_at) != 0 || ftruncate(k->fd, (off_t)k->at) != 0)
		return error_set(
			err, -errno, "cannot cut off what was kept of %s: %m", k->reader.name);
	return error_set(err, -ERR_RESTART,
		"what was kept of %s by a run that was interrupted is damaged behind byte %llu, and is fetched again from there",
		k->reader.name, (unsigned long long)k->at);
}

static int read_kept(struct partial_download *k, struct slice *ret, struct error *err)
{
	struct block *b = block_pool_take(k->pool, k->cancel);
	struct piece piece;

	if (b == NULL)
		return error_set(err, -ECANCELED, "%s: cancelled", k->reader.name);
	if (!read_piece(k, b, &piece)) {
		block_unref(b);
		return truncate_damaged(k, err);
	}
	k->at += piece.len;
	k->sums_at += (off_t)sizeof(piece);
	*ret = (struct slice){.data = b->data, .len = piece.len, .owner = b};
	return 1;
}

/* The digest is written after the bytes. Bytes of a killed run without a digest are not used. */
static bool write_piece(const struct partial_download *k, const uint8_t *bytes, size_t len)
{
	struct piece piece = {.len = len};

	compute_digest(bytes, len, piece.digest);
	return files_write_all(k->fd, bytes, len, FILES_POSITION) == 0 &&
	       files_write_all(k->sums_fd, &piece, sizeof(piece), FILES_POSITION) == 0;
}

static void write_slice(struct partial_download *k, const struct slice *s)
{
	for (size_t done = 0; done < s->len && !k->failed;) {
		size_t len = s->len - done < BLOCK_BYTES ? s->len - done : BLOCK_BYTES;

		k->failed = !write_piece(k, s->data + done, len);
		done += len;
	}
	if (!k->failed)
		return;
	log_warn("%s: the download is not kept for a later run: %m", k->reader.name);
	/* The bytes were returned already, and the file may take the room that the tree needs. */
	(void)!ftruncate(k->sums_fd, 0);
	(void)!ftruncate(k->fd, 0);
}

static int download_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct partial_download *k = container_of(r, struct partial_download, reader);
	int code;

	if (k->at < k->length)
		return read_kept(k, ret, err);
	code = reader_next(k->in, ret, err);
	if (code > 0 && !k->failed)
		write_slice(k, ret);
	return code;
}

static void download_close(struct reader *r)
{
	struct partial_download *k = container_of(r, struct partial_download, reader);

	reader_close(k->in);
	block_pool_free(k->pool);
	close(k->fd);
	close(k->sums_fd);
	free(k);
}

static struct partial_download *download_new(
	struct reader *in, int fd, int sums_fd, uint64_t length)
{
	static const struct reader_ops ops = {.next = download_next, .close = download_close};
	struct partial_download *k = zalloc(sizeof(*k));

	reader_init(&k->reader, &ops, in->name);
	k->in = in;
	k->fd = fd;
	k->sums_fd = sums_fd;
	k->length = length;
	k->pool = block_pool_new(BLOCK_BYTES, BLOCKS, NULL, NULL);
	return k;
}

/* Opens a regular file with a single link; replaces anything else. */
static int open_file(int dir_fd, const char *name)
{
	const int flags = O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	_close_ int fd = openat(dir_fd, name, flags);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
		return take_fd(&fd);
	unlinkat(dir_fd, name, 0);
	return openat(dir_fd, name, flags | O_CREAT | O_EXCL, 0600);
}

/* Returns how many bytes of the download have a digest, and truncates both files there. -1 with
 * errno. */
static off_t find_length(int fd, int sums_fd, uint64_t most)
{
	struct stat st;
	struct piece piece;
	off_t sums = 0;
	uint64_t length = 0;

	if (fstat(fd, &st) != 0)
		return -1;
	if ((uint64_t)st.st_size < most)
		most = (uint64_t)st.st_size;
	while (read_at(sums_fd, &piece, sizeof(piece), sums) && piece.len > 0 &&
		piece.len <= BLOCK_BYTES && piece.len <= most - length) {
		length += piece.len;
		sums += (off_t)sizeof(piece);
	}
	return ftruncate(sums_fd, sums) == 0 && ftruncate(fd, (off_t)length) == 0 ? (off_t)length
										  : -1;
}

/* Returns a reader that first returns the bytes of earlier runs, then reads `in`, the seekable
 * stream of o, and also writes what it reads to the download. If that cannot be written, logs a
 * warning and returns `in`. Consumes `in`. */
static struct reader *download_reader(
	const struct download_env *env, struct object *o, struct reader *in)
{
	_close_ int fd = open_file(env->state_fd, KEPT_FILE);
	_close_ int sums_fd = open_file(env->state_fd, KEPT_SUMS_FILE);
	/* A file that is longer than the object is of another one, whatever the journal says. */
	off_t length = fd < 0 || sums_fd < 0 ? -1 : find_length(fd, sums_fd, o->identity.size);
	struct error why;
	struct partial_download *k;

	if (length < 0) {
		log_warn("%s: the download is not kept for a later run: %m", in->name);
		return in;
	}
	if (length > 0 && reader_skip(in, (uint64_t)length, &why) < 0)
		return in; /* the error is sticky: the next read returns it */
	k = download_new(in, take_fd(&fd), take_fd(&sums_fd), (uint64_t)length);
	k->cancel = env->cancel;
	if (length > 0)
		log_info("%s: %s of it were kept by a run that was interrupted", in->name,
			units_print_size((uint64_t)length, (char[32]){0}));
	return &k->reader;
}

/* From a source to entries in the tree. */

/* Whether a partial download of the object is of use. Of a zip, missing ranges are fetched anyway;
 * without a certain version, nothing can be used again. */
static bool keeps_download(
	const struct stage *s, size_t i, const struct object *o, struct reader *in)
{
	struct error ignored; /* sticky: the next read returns it */
	char first[2] = {0};

	return s->env->keep_download && s->n_sources == 1 && o->seekable &&
	       object_identity_pins(&o->identity) && source_is_remote(s->sources[i].url) &&
	       reader_peek(in, first, sizeof(first), &ignored) == sizeof(first) &&
	       memcmp(first, "PK", sizeof(first)) != 0;
}

/* Returns the object's stream, which also keeps the download, and verifies the digest. */
static struct reader *open_stream(struct stage *s, size_t i, struct object *o)
{
	const char *sha256 = s->sources[i].sha256;
	struct reader *in = object_stream(o);

	if (keeps_download(s, i, o, in))
		in = download_reader(&(struct download_env){s->state_fd, &s->attempt}, o, in);
	return sha256 != NULL ? sha256_reader(in, sha256) : in;
}

/* *ret_format is set as by unpack_decoded(). */
static int unpack_object(
	struct stage *s, size_t i, struct object *o, char **ret_format, struct error *err)
{
	const struct stage_spec *spec = s->spec;
	const struct selection selection = {.include = (const char *const *)spec->include.v,
		.exclude = (const char *const *)spec->exclude.v,
		.strip_components = spec->strip_components,
		.left = &s->outcomes[i].left};
	const struct unpack_env env = {.tree = s->tree,
		.budget = s->env->budget,
		.cancel = &s->attempt,
		.progress = &s->progress[i],
		.selection = &selection,
		.threads = s->threads,
		.zip_names = stage_zip_names(s),
		.scratch_fd = s->state_fd};
	const struct unpack_object from = {.object = o,
		.in = open_stream(s, i, o),
		.source = s->progress[i].name,
		.url = s->sources[i].url,
		.extract = !spec->no_extract};

	return unpack_decoded(&env, &from, ret_format, err);
}

static void fill_record_source(
	const struct stage *s, size_t i, const struct identity *id, struct record_source *ret)
{
	const char *sha256 = s->sources[i].sha256;

	*ret = (struct record_source){.name = text_copy(s->progress[i].name), .identity = *id};
	if (sha256 != NULL)
		memcpy(ret->sha256, sha256, sizeof(ret->sha256));
}

/* A selection that selects nothing is a mistake: the training would start without data. */
static int check_selection(const struct stage *s, size_t i, struct error *err)
{
	const struct stage_spec *spec = s->spec;
	struct text names = {0};

	if (counted(&s->progress[i].entries) > 0 ||
		(spec->include.n == 0 && spec->exclude.n == 0 && spec->strip_components == 0))
		return 0;
	text_add(&names, "");
	select_describe_left(&s->outcomes[i].left, &names);
	error_set(err, -ERR_CONFIG,
		"nothing in %s is left by include, exclude and strip_components%s; globs match whole names in the archive, before stripping",
		s->progress[i].name, names.s);
	text_done(&names);
	return -ERR_CONFIG;
}

static int open_and_unpack(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	const struct source_env env = {
		.transfer = s->env->transfer, .s3 = s->env->s3, .cancel = &s->attempt};
	const bool continued = destination_continued(s->destination) != NULL;
	const struct source_request request = {.url = s->sources[i].url,
		.want = continued ? WANT_PARTS : WANT_ALL,
		.progress = &s->progress[i]};
	_free_ char *format = NULL;
	struct object *o = NULL;
	uint64_t started = now_ns();
	int code = source_open(&env, &request, &o, err);

	if (code < 0)
		return code;
	code = stage_continue(s, &o->identity, err);
	if (code == 0)
		code = unpack_object(s, i, o, &format, err);
	if (code == 0)
		code = check_selection(s, i, err);
	if (code == 0) {
		fill_record_source(s, i, &o->identity, ret);
		free(s->outcomes[i].format); /* of an earlier attempt */
		s->outcomes[i].format = take_ptr(&format);
		s->outcomes[i].elapsed_ns = now_ns() - started;
	}
	object_close(o);
	return code;
}

/* Stages a source that is not a stream of bytes, but has entries of its own. */
static int fetch_entries(struct stage *s, size_t i,
	int (*fetch)(struct stage *s, size_t i, struct identity *ret, struct error *err),
	struct record_source *ret, struct error *err)
{
	uint64_t started = now_ns();
	struct identity id;
	int code = fetch(s, i, &id, err);

	if (code == 0)
		code = check_selection(s, i, err);
	if (code < 0)
		return code;
	fill_record_source(s, i, &id, ret);
	free(s->outcomes[i].format); /* of an earlier attempt */
	s->outcomes[i].format = text_copy(fetch == stage_prefix ? "objects" : "datastore");
	s->outcomes[i].elapsed_ns = now_ns() - started;
	return 0;
}

static int fetch_source(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	const char *url = s->sources[i].url;

	if (datastore_ref_is_source(url))
		return fetch_entries(s, i, stage_datastore_fetch, ret, err);
	/* Archives among the objects of a prefix are not unpacked. */
	if (stage_is_prefix(url))
		return fetch_entries(s, i, stage_prefix, ret, err);
	return open_and_unpack(s, i, ret, err);
}

int stage_unpack_source(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	int code;

	stage_span_source_begin(s, i);
	progress_enter(&s->progress[i], PROGRESS_ACTIVE);
	code = fetch_source(s, i, ret, err);
	progress_enter(&s->progress[i], PROGRESS_DONE);

	if (code < 0)
		error_item(err, "%s", s->progress[i].name);
	/* Errors of readers contain the name of the source; errors about entries do not. */
	if (code < 0 && strstr(err->msg, s->progress[i].name) == NULL)
		error_prefix(err, "%s", s->progress[i].name);
	stage_span_source_end(s, i, code, err);
	return code;
}
