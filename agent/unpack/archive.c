/* SPDX-License-Identifier: MIT */
/* tar and cpio, by libarchive's readers of these formats. Worker thread. Only the formats are
 * enabled: no filter (decoding is done before) and so no external program either. */
#include "archive.h"
#include "containers.h"
#include "log.h"
#include <archive.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int archive_feed_next(struct archive_feed *feed)
{
	struct slice next = {0};
	int r;

	slice_drop(&feed->current);
	r = reader_next(feed->in, &next, &feed->why);
	feed->ended = r == 0;
	if (r < 0)
		feed->failed = r;
	if (r > 0) {
		feed->current = next;
		feed->given += next.len;
	}
	return r;
}

int archive_feed_skip(struct archive_feed *feed, uint64_t n)
{
	int r;

	slice_drop(&feed->current);
	r = reader_skip(feed->in, n, &feed->why);
	if (r < 0)
		feed->failed = r;
	else
		feed->given += n;
	return r;
}

void archive_feed_done(struct archive_feed *feed)
{
	slice_drop(&feed->current);
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **ret)
{
	struct archive_feed *feed = ctx;
	int r = archive_feed_next(feed);

	if (r < 0)
		archive_set_error(a, EIO, "%s", feed->why.msg);
	*ret = feed->current.data;
	return r > 0 ? (la_ssize_t)feed->current.len : r;
}

static bool has_content(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != 0)
			return true;
	return false;
}

/* Reads on to the end of the stream. Writers pad with zeros; anything else is worth a word. */
static int finish_stream(struct extraction *x, struct error *err)
{
	struct archive_feed *feed = x->feed;
	uint64_t used = (uint64_t)archive_filter_bytes(x->archive, -1);
	uint64_t left = feed->given - used;
	bool more = false;
	int r = 1;

	if (left < feed->current.len)
		slice_advance(&feed->current, feed->current.len - left);
	while (r > 0) {
		more |= has_content(feed->current.data, feed->current.len);
		r = archive_feed_next(feed);
	}
	if (r < 0) {
		*err = feed->why;
		return r;
	}
	if (more)
		log_warn("%s: ignored %" PRIu64 " bytes after the end of the %s archive",
			x->input->source, feed->given - used, x->format);
	return 0;
}

static int unpack_archive(const struct unpack_env *env, const struct unpack_input *input,
	const char *format, int (*enable)(struct archive *), struct error *err)
{
	struct archive *a = archive_read_new();
	struct archive_feed feed = {.in = input->in};
	struct extraction x = {
		.env = env,
		.input = input,
		.format = format,
		.archive = a,
		.feed = &feed,
		.has_end_marker = true,
	};
	int r;

	if (a == NULL)
		return error_set(err, -ENOMEM, "out of memory");
	enable(a);
	if (archive_read_open2(a, &feed, NULL, on_read, NULL, NULL) != ARCHIVE_OK)
		r = extraction_error(&x, err);
	else
		r = extract_entries(&x, err);
	if (r >= 0)
		r = finish_stream(&x, err);
	archive_read_free(a);
	archive_feed_done(&feed);
	return r;
}

/* An octal field of a tar header, which spaces and NULs pad; -1: something else. */
static long octal_field(const uint8_t *field, size_t len)
{
	char digits[16] = "";
	char *end;
	long value;

	memcpy(digits, field, len);
	value = strtol(digits, &end, 8);
	return end == digits || (*end != '\0' && *end != ' ') ? -1 : value;
}

/* The one thing that all tars share, those of 1979 too, is the checksum of the header. Some old
 * writers summed signed bytes. */
static bool tar_matches(const uint8_t *first, size_t len)
{
	long sum = 0, signed_sum = 0;

	if (len < 512 || first[0] == '\0')
		return false;
	for (size_t i = 0; i < 512; i++) {
		uint8_t byte = i >= 148 && i < 156 ? ' ' : first[i];

		sum += byte;
		signed_sum += (int8_t)byte;
	}
	return octal_field(first + 148, 8) == sum || octal_field(first + 148, 8) == signed_sum;
}

static int tar_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	return unpack_archive(env, input, "tar", archive_read_support_format_tar, err);
}

const struct unpacker unpack_tar = {.name = "tar", .matches = tar_matches, .unpack = tar_unpack};

static bool all_digits(const uint8_t *bytes, size_t len, const char *digits)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] == '\0' || strchr(digits, bytes[i]) == NULL)
			return false;
	return true;
}

/* The binary header is known by two bytes only, so the file type and the name's end must be right
 * as well: words of 16 bits, mode at 6, the name's size at 20, the name at 26. */
static bool old_cpio_matches(const uint8_t *first, size_t len)
{
	bool little = len > 26 && first[0] == 0xc7 && first[1] == 0x71;
	bool big = len > 26 && first[0] == 0x71 && first[1] == 0xc7;
	unsigned mode, name_size;

	if (!little && !big)
		return false;
	mode = little ? first[6] | first[7] << 8 : first[6] << 8 | first[7];
	name_size = little ? first[20] | first[21] << 8 : first[20] << 8 | first[21];
	return mode >> 12 != 0 && name_size > 1 && 26 + name_size <= len &&
	       memchr(first + 26, '\0', name_size) == first + 26 + name_size - 1;
}

static bool cpio_matches(const uint8_t *first, size_t len)
{
	if (len >= 76 && memcmp(first, "070707", 6) == 0)
		return all_digits(first + 6, 70, "01234567");
	if (len >= 110 && (memcmp(first, "070701", 6) == 0 || memcmp(first, "070702", 6) == 0))
		return all_digits(first + 6, 104, "0123456789abcdefABCDEF");
	return old_cpio_matches(first, len);
}

static int cpio_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	return unpack_archive(env, input, "cpio", archive_read_support_format_cpio, err);
}

const struct unpacker unpack_cpio = {
	.name = "cpio", .matches = cpio_matches, .unpack = cpio_unpack};
