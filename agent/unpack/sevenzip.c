/* SPDX-License-Identifier: MIT */
/* 7z, by libarchive's reader. Worker thread. Its directory is at the end, so libarchive seeks:
 * bytes that come in order are taken from the stream, which downloads ahead, the others are read
 * where they are. A source that cannot be read at random is first written to an unnamed file.
 *
 * How much memory an LZMA dictionary takes is for the archive to say, and libarchive obeys: what is
 * reserved here is what 7z uses by default, not a bound. */
#include "archive.h"
#include "containers.h"
#include "defer.h"
#include "log.h"
#include "object.h"
#include "scratch.h"
#include "text.h"
#include <archive.h>
#include <string.h>

#define HEADER_BYTES     32
#define READ_AT_BYTES    ((size_t)64 << 10)
#define DICTIONARY_BYTES ((uint64_t)32 << 20)

struct sevenzip {
	struct archive_feed feed;
	struct object *object;
	uint64_t at;         /* where libarchive reads next */
	uint64_t packed_end; /* the directory begins here: never skip the stream beyond */
	uint8_t *buf;        /* READ_AT_BYTES */
};

static uint64_t little_endian_64(const uint8_t *bytes)
{
	uint64_t value = 0;

	for (int i = 7; i >= 0; i--)
		value = value << 8 | bytes[i];
	return value;
}

/* Bytes at z->at from the stream: 1, 0 when it is not there (any more), or negative. */
static int read_stream(struct sevenzip *z, const void **ret, size_t *ret_len)
{
	struct archive_feed *feed = &z->feed;
	uint64_t start = feed->given - feed->current.len;
	int r;

	if (z->at < start || z->at >= z->packed_end)
		return 0;
	if (z->at > feed->given) {
		r = archive_feed_skip(feed, z->at - feed->given);
		if (r < 0)
			return r;
	}
	if (z->at == feed->given) {
		r = archive_feed_next(feed);
		if (r <= 0)
			return r;
	}
	start = feed->given - feed->current.len;
	*ret = feed->current.data + (z->at - start);
	*ret_len = (size_t)(feed->given - z->at);
	return 1;
}

static int read_elsewhere(struct sevenzip *z, const void **ret, size_t *ret_len)
{
	uint64_t left = z->object->identity.size - z->at;
	size_t len = left < READ_AT_BYTES ? (size_t)left : READ_AT_BYTES;

	*ret = z->buf;
	*ret_len = len;
	if (len > 0)
		z->feed.failed = object_read_at(z->object, z->at, z->buf, len, &z->feed.why);
	return z->feed.failed;
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **ret)
{
	struct sevenzip *z = ctx;
	size_t len = 0;
	int r = read_stream(z, ret, &len);

	if (r == 0)
		r = read_elsewhere(z, ret, &len);
	if (r < 0) {
		archive_set_error(a, EIO, "%s", z->feed.why.msg);
		return -1;
	}
	z->at += len;
	return (la_ssize_t)len;
}

static la_int64_t on_seek(struct archive *a, void *ctx, la_int64_t offset, int whence)
{
	struct sevenzip *z = ctx;
	int64_t size = (int64_t)z->object->identity.size;
	int64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? (int64_t)z->at : size;
	int64_t to;

	if (__builtin_add_overflow(base, offset, &to) || to < 0 || to > size) {
		archive_set_error(a, EINVAL, "it refers to bytes beyond its end");
		return ARCHIVE_FATAL;
	}
	z->at = (uint64_t)to;
	return to;
}

static int extract(struct sevenzip *z, const struct unpack_env *env,
	const struct unpack_input *input, struct error *err)
{
	struct archive *a = archive_read_new();
	struct extraction x = {
		.env = env,
		.input = input,
		.format = "7z",
		.archive = a,
		.feed = &z->feed,
		.mode_if_unset = 0666,
	};
	int r;

	if (a == NULL)
		return error_set(err, -ENOMEM, "out of memory");
	archive_read_support_format_7zip(a);
	archive_read_set_read_callback(a, on_read);
	archive_read_set_seek_callback(a, on_seek);
	archive_read_set_callback_data(a, z);
	if (archive_read_open1(a) != ARCHIVE_OK)
		r = extraction_error(&x, err);
	else
		r = extract_entries(&x, err);
	archive_read_free(a);
	return r;
}

static int unpack_object(const struct unpack_env *env, const struct unpack_input *input,
	struct object *o, struct reader *in, struct error *err)
{
	struct sevenzip z = {.feed.in = in, .object = o};
	uint8_t header[HEADER_BYTES];
	int r = object_read_at(o, 0, header, sizeof(header), err);

	if (r < 0)
		return r;
	/* A nonsense value is libarchive's to complain about; it only sends us to read_elsewhere().
	 */
	z.packed_end = HEADER_BYTES + little_endian_64(header + 12);
	z.buf = zalloc(READ_AT_BYTES);
	r = extract(&z, env, input, err);
	archive_feed_done(&z.feed);
	free(z.buf);
	return r;
}

static int store_and_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	struct object *copy;
	int r;

	log_info("%s: a 7z archive that cannot be read at random is first stored whole",
		input->source);
	r = scratch_from_reader(env, input->in, &copy, err);
	if (r < 0)
		return r;
	r = unpack_object(env, input, copy, object_stream(copy), err);
	object_close(copy);
	return r;
}

static int sevenzip_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	const struct object *o = input->object;
	uint64_t most = budget_stage_half(env->budget);
	uint64_t memory = DICTIONARY_BYTES < most ? DICTIONARY_BYTES : most;
	int r = budget_reserve(env->budget, memory, env->cancel, err);

	if (r < 0)
		return r;
	r = o->seekable && o->identity.size != SIZE_UNKNOWN
		    ? unpack_object(env, input, input->object, input->in, err)
		    : store_and_unpack(env, input, err);
	budget_release(env->budget, memory);
	return r;
}

static bool sevenzip_matches(const uint8_t *first, size_t len)
{
	return len >= HEADER_BYTES && memcmp(first, "7z\xbc\xaf\x27\x1c", 6) == 0;
}

const struct unpacker unpack_7z = {
	.name = "7z",
	.matches = sevenzip_matches,
	.unpack = sevenzip_unpack,
	.needs_object = true,
};
