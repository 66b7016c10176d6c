/* SPDX-License-Identifier: MIT */
/* One source: opened, verified, decoded and unpacked into the tree, by straight-line blocking code
 * on the source's thread.
 *
 * Partial downloads (keep_download): the bytes of an archive that is a single stream are also
 * written, as they arrive, into the state directory, so that a run that follows a killed one
 * fetches no byte twice. The file is the beginning of one version of the object; resume.c has
 * removed it if it was of another one. Beside it is a file with the digests of its pieces: pieces
 * without a digest, or with another one, are fetched again. */
#include "decode.h"
#include "defer.h"
#include "destination.h"
#include "digest.h"
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
	uint8_t *to = buf;

	while (len > 0) {
		ssize_t n = pread(fd, to, len, at);

		if (n == 0 || (n < 0 && errno != EINTR))
			return false;
		if (n > 0) {
			to += n;
			len -= (size_t)n;
			at += n;
		}
	}
	return true;
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

static bool write_all(int fd, const uint8_t *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
	return true;
}

/* The digest is written after the bytes. Bytes of a killed run without a digest are not used. */
static bool write_piece(const struct partial_download *k, const uint8_t *bytes, size_t len)
{
	struct piece piece = {.len = len};

	compute_digest(bytes, len, piece.digest);
	return write_all(k->fd, bytes, len) &&
	       write_all(k->sums_fd, (const uint8_t *)&piece, sizeof(piece));
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

/* From an object to entries in the tree: source -> digest -> decode -> unpack. */

/* Decoded blocks that may wait for the unpacker. */
enum { AHEAD_SLICES = 4 };

/* Returns Last-Modified in seconds, 0 if it is missing or invalid. */
static time_t last_modified(const struct identity *id)
{
	struct tm tm = {0};

	if (strptime(id->last_modified, "%a, %d %b %Y %H:%M:%S GMT", &tm) == NULL)
		return 0;
	return timegm(&tm);
}

/* One source while it is unpacked. */
struct source_unpack {
	struct stage *stage;
	size_t i;
	struct object *object;
	const struct decoder *decoder; /* NULL: not compressed */
	const char *container;         /* detected format, such as "tar" */
};

/* Replaces *in, which is consumed in any case, by a reader that decodes it on a thread of its
 * own. */
static int start_decoding(struct source_unpack *p, struct reader **in, struct error *err)
{
	struct stage *s = p->stage;
	const struct decode_env env = {.budget = s->env->budget,
		.cancel = &s->attempt,
		.progress = &s->progress[p->i],
		.threads = s->threads};
	struct reader *decoded = NULL;
	int code = decode_open(*in, &env, &decoded, &p->decoder, err);

	if (code == 0 && p->decoder != NULL)
		decoded = ahead_reader(decoded, AHEAD_SLICES, &s->attempt, &s->progress[p->i]);
	*in = decoded;
	return code;
}

/* Returns the name of a single file: that in the URL, without the suffix of the compression;
 * heap. */
static char *single_file_name(const struct source_unpack *p)
{
	_free_ char *name = source_file_name(p->stage->sources[p->i].url);

	return p->decoder != NULL ? decode_strip_suffix(p->decoder, name) : take_ptr(&name);
}

static int unpack_stream(struct source_unpack *p, struct reader *in, struct error *err)
{
	struct stage *s = p->stage;
	const struct stage_spec *spec = s->spec;
	const struct selection selection = {.include = (const char *const *)spec->include.v,
		.exclude = (const char *const *)spec->exclude.v,
		.strip_components = spec->strip_components};
	const struct unpack_env env = {.tree = s->tree,
		.budget = s->env->budget,
		.cancel = &s->attempt,
		.progress = &s->progress[p->i],
		.selection = &selection,
		.threads = s->threads,
		.zip_names = stage_zip_names(s),
		.scratch_fd = s->state_fd};
	_free_ char *file_name = single_file_name(p);
	const struct unpack_input input = {.in = in,
		.object = p->decoder == NULL ? p->object : NULL,
		.source = s->progress[p->i].name,
		.url = s->sources[p->i].url,
		.said = &p->object->said,
		.compression = p->decoder != NULL ? p->decoder->name : NULL,
		.file_name = file_name,
		.extract = !spec->no_extract,
		.mtime = last_modified(&p->object->identity)};

	return unpack(&env, &input, &p->container, err);
}

/* Whether a partial download of the object is of use. Of a zip, missing ranges are fetched anyway;
 * without a certain version, nothing can be used again. */
static bool keeps_download(const struct source_unpack *p, struct reader *in)
{
	const struct stage *s = p->stage;
	struct error ignored; /* sticky: the next read returns it */
	char first[2] = {0};

	return s->env->keep_download && s->n_sources == 1 && p->object->seekable &&
	       object_identity_pins(&p->object->identity) &&
	       source_is_remote(s->sources[p->i].url) &&
	       reader_peek(in, first, sizeof(first), &ignored) == sizeof(first) &&
	       memcmp(first, "PK", sizeof(first)) != 0;
}

/* Unpacks an open object until its last entry is written and its digest verified. */
static int unpack_object(struct source_unpack *p, struct error *err)
{
	const char *sha256 = p->stage->sources[p->i].sha256;
	struct reader *in = object_stream(p->object);
	int code = 0;

	if (keeps_download(p, in))
		in = download_reader(&(struct download_env){p->stage->state_fd, &p->stage->attempt},
			p->object, in);
	if (sha256 != NULL)
		in = sha256_reader(in, sha256);
	if (!p->stage->spec->no_extract)
		code = start_decoding(p, &in, err);
	if (code == 0)
		code = unpack_stream(p, in, err);
	if (code == 0)
		code = reader_drain(in, err);
	reader_close(in);
	return code;
}

/* Returns the format, such as "tar.gz": the container and the first suffix of its compression;
 * heap. */
static char *format_name(const struct source_unpack *p)
{
	const char *suffix = p->decoder != NULL ? p->decoder->suffixes : "";

	return text_format("%s%.*s", p->container, (int)strcspn(suffix, " "), suffix);
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

	if (counted(&s->progress[i].entries) > 0 ||
		(spec->include.n == 0 && spec->exclude.n == 0 && spec->strip_components == 0))
		return 0;
	return error_set(err, -ERR_CONFIG,
		"nothing in %s is left by include, exclude and strip_components; globs match whole names in the archive, before stripping",
		s->progress[i].name);
}

static int open_and_unpack(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	const struct source_env env = {
		.transfer = s->env->transfer, .s3 = s->env->s3, .cancel = &s->attempt};
	const bool continued = destination_continued(s->destination) != NULL;
	const struct source_request request = {.url = s->sources[i].url,
		.want = continued ? WANT_PARTS : WANT_ALL,
		.progress = &s->progress[i]};
	struct source_unpack p = {.stage = s, .i = i};
	uint64_t started = now_ns();
	int code = source_open(&env, &request, &p.object, err);

	if (code < 0)
		return code;
	code = stage_continue(s, &p.object->identity, err);
	if (code == 0)
		code = unpack_object(&p, err);
	if (code == 0)
		code = check_selection(s, i, err);
	if (code == 0) {
		fill_record_source(s, i, &p.object->identity, ret);
		free(s->outcomes[i].format); /* of an earlier attempt */
		s->outcomes[i].format = format_name(&p);
		s->outcomes[i].elapsed_ns = now_ns() - started;
	}
	object_close(p.object);
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

	if (stage_is_datastore(url))
		return fetch_entries(s, i, stage_datastore_fetch, ret, err);
	/* Archives among the objects of a prefix are not unpacked. */
	if (stage_is_prefix(url))
		return fetch_entries(s, i, stage_prefix, ret, err);
	return open_and_unpack(s, i, ret, err);
}

int stage_unpack_source(struct stage *s, size_t i, struct record_source *ret, struct error *err)
{
	int code;

	progress_enter(&s->progress[i], PROGRESS_ACTIVE);
	code = fetch_source(s, i, ret, err);
	progress_enter(&s->progress[i], PROGRESS_DONE);

	if (code < 0)
		error_item(err, "%s", s->progress[i].name);
	/* Errors of readers contain the name of the source; errors about entries do not. */
	if (code < 0 && strstr(err->msg, s->progress[i].name) == NULL)
		error_prefix(err, "%s", s->progress[i].name);
	return code;
}
