/* SPDX-License-Identifier: MIT */
/* 7z, by libarchive's reader. Worker thread. The directory of a 7z archive is at its end, so
 * libarchive seeks: bytes that it reads in order come from the stream, which downloads ahead, all
 * others by random access. A source without random access is written to an unnamed file first.
 *
 * The archive specifies how much memory its dictionaries take, and libarchive allocates that.
 * Therefore the archive's header is checked first, and the memory is reserved. */
#include "defer.h"
#include "log.h"
#include "object.h"
#include "text.h"
#include "unpack_private.h"
#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <malloc.h>
#include <string.h>
#include <strings.h>

#define READ_AT_BYTES ((size_t)64 << 10)

struct sevenzip {
	struct archive_feed feed;
	struct object *object;
	uint64_t at;                 /* offset at which libarchive reads next */
	struct sevenzip_facts facts; /* the stream is never skipped beyond packed_end */
	uint8_t *buf;                /* READ_AT_BYTES */
};

/* Reads bytes at z->at from the stream: 1, 0 when the stream has not got them or is already past
 * them, or negative. */
static int read_stream(struct sevenzip *z, const void **ret, size_t *ret_len)
{
	struct archive_feed *feed = &z->feed;
	uint64_t start = feed->given - feed->current.len;

	if (z->at < start || z->at >= z->facts.packed_end)
		return 0;
	if (z->at > feed->given) {
		int code = archive_feed_skip(feed, z->at - feed->given);

		if (code < 0)
			return code;
	}
	if (z->at == feed->given) {
		int got = archive_feed_next(feed);

		if (got <= 0)
			return got;
	}
	start = feed->given - feed->current.len;
	*ret = feed->current.data + (z->at - start);
	*ret_len = (size_t)(feed->given - z->at);
	return 1;
}

static int read_at_random(struct sevenzip *z, const void **ret, size_t *ret_len)
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
	int got = read_stream(z, ret, &len);

	if (got == 0)
		got = read_at_random(z, ret, &len);
	if (got < 0) {
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

/* 7z records data that it read from standard input as the pipe that this was. */
static int sevenzip_next(struct extraction *x, struct archive_entry **ret, struct error *err)
{
	int code = archive_skip_data(x, err), got;

	if (code < 0)
		return code;
	got = archive_next_header(x, ret, err);
	if (got > 0 && archive_entry_filetype(*ret) == AE_IFIFO &&
		(x->unnamed != NULL || archive_entry_size(*ret) > 0))
		archive_entry_set_filetype(*ret, AE_IFREG);
	return got;
}

static int refuse_appended(const struct sevenzip *z, struct error *err)
{
	return error_set(err, -ERR_FORMAT,
		"what follows the end of the 7z archive, at byte %" PRIu64
		", is not zero padding: it is damaged, or something was appended; build it again, or store it as it is (extract: false, --no-extract)",
		z->facts.end);
}

static bool is_zeros(const struct slice *s)
{
	return s->len == 0 || (s->data[0] == 0 && memcmp(s->data, s->data + 1, s->len - 1) == 0);
}

/* Reads the rest of the stream: bytes of the archive that libarchive did not read, and then only
 * zeros. */
static int check_tail(struct sevenzip *z, struct error *err)
{
	struct archive_feed *feed = &z->feed;
	uint64_t over = feed->given > z->facts.end ? feed->given - z->facts.end : 0;
	int got = 1;

	if (over < feed->current.len)
		slice_advance(&feed->current, feed->current.len - (size_t)over);
	if (feed->given < z->facts.end)
		got = archive_feed_skip(feed, z->facts.end - feed->given) < 0 ? -1 : 1;
	while (got > 0) {
		if (!is_zeros(&feed->current))
			return refuse_appended(z, err);
		got = archive_feed_next(feed);
	}
	if (got < 0)
		*err = feed->why;
	return got < 0 ? feed->failed : 0;
}

static int extract_archive(struct sevenzip *z, const struct unpack_env *env,
	const struct unpack_input *input, const char *unnamed, struct error *err)
{
	static const struct entry_reader reader = {
		.next = sevenzip_next, .block = archive_next_block};
	struct archive *a = archive_read_new();
	struct extraction x = {
		.env = env,
		.input = input,
		.format = "7z",
		.reader = &reader,
		.archive = a,
		.feed = &z->feed,
		.mode_if_unset = 0666,
		.unnamed = unnamed,
	};
	int code;

	if (a == NULL)
		return error_set(err, -ENOMEM, "out of memory");
	archive_read_support_format_7zip(a);
	archive_read_set_read_callback(a, on_read);
	archive_read_set_seek_callback(a, on_seek);
	archive_read_set_callback_data(a, z);
	if (archive_read_open1(a) != ARCHIVE_OK)
		code = archive_open_failed(&x, err);
	else
		code = archive_extract_entries(&x, err);
	archive_read_free(a);
	return code;
}

/* The name that 7z uses: the archive's own, without ".7z". */
static char *name_for_unnamed(const struct unpack_input *input)
{
	size_t len = strlen(input->file_name);

	if (len > 3 && strcasecmp(input->file_name + len - 3, ".7z") == 0)
		len -= 3;
	return text_format("%.*s", (int)len, input->file_name);
}

static int unpack_object(const struct unpack_env *env, const struct unpack_input *input,
	struct object *o, struct reader *in, struct error *err)
{
	struct sevenzip z = {.feed.in = in, .object = o};
	_free_ char *name = name_for_unnamed(input);
	int code = sevenzip_read_facts(env, o, &z.facts, err);

	if (code < 0)
		return code;
	code = budget_reserve_counted(env->budget, z.facts.memory, env->cancel,
		env->progress != NULL ? &env->progress->budget_ns : NULL, err);
	if (code < 0) {
		error_prefix(err, "%s: the 7z archive's dictionaries and lists", input->source);
		return code;
	}
	z.buf = zalloc(READ_AT_BYTES);
	code = extract_archive(&z, env, input, z.facts.unnamed ? name : NULL, err);
	if (code == 0)
		code = check_tail(&z, err);
	archive_feed_done(&z.feed);
	free(z.buf);
	malloc_trim(0);
	budget_release(env->budget, z.facts.memory);
	return code;
}

/* Stores the archive in a file. Its first bytes specify its length: what follows is not stored. */
static int store_archive(const struct unpack_input *input, struct object *to, struct error *err)
{
	struct sevenzip z = {.feed.in = input->in};
	uint8_t start[SEVENZIP_START_BYTES];
	int len = reader_peek(input->in, start, sizeof(start), err), got = 0;
	int code = len < 0 ? len : sevenzip_parse_start(start, &z.facts, err);

	while (code == 0 && z.feed.given < z.facts.end && (got = archive_feed_next(&z.feed)) > 0) {
		const struct slice *s = &z.feed.current;
		uint64_t left = z.facts.end - to->identity.size;

		code = scratch_append(to, s->data, s->len < left ? s->len : (size_t)left, err);
	}
	if (got < 0) {
		*err = z.feed.why;
		code = got;
	}
	if (code == 0 && z.feed.given >= z.facts.end)
		code = check_tail(&z, err);
	archive_feed_done(&z.feed);
	return code;
}

static int store_and_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	struct object *copy;
	int code;

	log_info("%s: a 7z archive that cannot be read at random is first stored whole",
		input->source);
	code = scratch_new(env, input->source, &copy, err);
	if (code < 0)
		return code;
	code = store_archive(input, copy, err);
	if (code == 0)
		code = unpack_object(env, input, copy, object_stream(copy), err);
	object_close(copy);
	return code;
}

static int sevenzip_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	const struct object *o = input->object;

	return o->seekable && o->identity.size != SIZE_UNKNOWN
		       ? unpack_object(env, input, input->object, input->in, err)
		       : store_and_unpack(env, input, err);
}

static bool sevenzip_matches(const uint8_t *first, size_t len)
{
	return len >= SEVENZIP_START_BYTES && memcmp(first, "7z\xbc\xaf\x27\x1c", 6) == 0;
}

const struct unpacker unpack_7z = {
	.name = "7z",
	.matches = sevenzip_matches,
	.unpack = sevenzip_unpack,
	.needs_object = true,
};
