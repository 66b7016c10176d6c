/* SPDX-License-Identifier: MIT */
/* A zip's data in order, and the local headers in it. The walking thread's. A local header that
 * differs from the directory is how two programs are made to see two different archives in one
 * file, so it is an error. */
#include "defer.h"
#include "text.h"
#include "zip_private.h"
#include <inttypes.h>
#include <string.h>

#define LOCAL_BYTES        30
#define NAME_AND_EXTRA_MAX (2 * (size_t)UINT16_MAX)

static int ended_early(const struct zip_stream *s, struct error *err)
{
	error_set(err, -ERR_TRUNCATED, "%s ends early, at byte %" PRIu64 " of the zip", s->in->name,
		s->at);
	return -ERR_TRUNCATED;
}

static void advance(struct zip_stream *s, size_t n)
{
	slice_advance(&s->left, n);
	s->at += n;
	if (s->left.len == 0)
		slice_drop(&s->left);
}

static int skip_to(struct zip_stream *s, uint64_t at, struct error *err)
{
	uint64_t n = at - s->at;
	int code;

	if (n <= s->left.len) {
		advance(s, (size_t)n);
		return 0;
	}
	n -= s->left.len;
	slice_drop(&s->left);
	code = s->before_wait(s->ctx, err);
	if (code == 0)
		code = reader_skip(s->in, n, err);
	if (code == 0)
		s->at = at;
	return code;
}

/* Makes sure that s->left is not empty. */
static int refill(struct zip_stream *s, struct error *err)
{
	int code, got;

	if (s->left.len > 0)
		return 0;
	slice_drop(&s->left);
	code = s->before_wait(s->ctx, err);
	if (code < 0)
		return code;
	got = reader_next(s->in, &s->left, err);
	return got == 0 ? ended_early(s, err) : got;
}

static int read_bytes(struct zip_stream *s, uint8_t *to, size_t n, struct error *err)
{
	while (n > 0) {
		size_t step;
		int code = refill(s, err);

		if (code < 0)
			return code;
		step = n < s->left.len ? n : s->left.len;
		memcpy(to, s->left.data, step);
		advance(s, step);
		to += step;
		n -= step;
	}
	return 0;
}

static int disagree(const struct zip_entry *e, const char *what, struct error *err)
{
	return error_set(err, -ERR_FORMAT,
		"the zip's local header and its directory disagree about the %s of '%s'", what,
		e->name);
}

static int check_sizes(const struct zip_entry *e, const uint8_t *header,
	const struct zip_extra *extra, struct error *err)
{
	uint64_t packed = get32(header + 18), size = get32(header + 22);
	uint32_t crc = get32(header + 14);
	bool later = (get16(header + 6) & ZIP_DESCRIPTOR) != 0;

	if (zip_extra_widen(extra, (uint64_t *const[]){&size, &packed}, 2) < 0)
		return disagree(e, "size", err);
	/* With a descriptor, the values follow the data; here they are 0 or unknown. */
	if (crc != e->crc && !(later && crc == 0))
		return disagree(e, "checksum", err);
	if (size != e->size && !(later && (size == 0 || size == UINT32_MAX)))
		return disagree(e, "size", err);
	if (packed != e->packed && !(later && (packed == 0 || packed == UINT32_MAX)))
		return disagree(e, "compressed size", err);
	return 0;
}

/* Where one of the two headers has backslashes as separators, the other may have slashes. */
static bool is_same_name(const struct zip_entry *e, const uint8_t *name)
{
	size_t i = 0;

	if (!e->backslashes)
		return memcmp(name, e->raw_name, e->raw_len) == 0;
	while (i < e->raw_len &&
		(name[i] == e->raw_name[i] || (name[i] == '/' && e->raw_name[i] == '\\')))
		i++;
	return i == e->raw_len;
}

/* rest: the name and the extra fields behind the fixed part. */
static int check_header(
	struct zip_entry *e, const uint8_t *header, const uint8_t *rest, struct error *err)
{
	size_t name_len = get16(header + 26);
	struct zip_extra extra = {.p = rest + name_len, .len = get16(header + 28)};

	if (name_len != e->raw_len || !is_same_name(e, rest))
		return disagree(e, "name", err);
	if (get16(header + 8) != e->method)
		return disagree(e, "compression method", err);
	if ((get16(header + 6) & ZIP_ENCRYPTED) != 0)
		return disagree(e, "encryption", err);
	if (e->meta.uid == (uid_t)-1)
		zip_extra_owner(&extra, &e->meta);
	return check_sizes(e, header, &extra, err);
}

/* Returns the next n bytes, without a copy if they lie in one slice. Valid until the stream moves
 * on. */
static int read_contiguous(struct zip_stream *s, size_t n, const uint8_t **ret, struct error *err)
{
	if (s->left.len > n) { /* > n, so that the slice is still referenced afterwards */
		*ret = s->left.data;
		advance(s, n);
		return 0;
	}
	if (s->joined == NULL)
		s->joined = zalloc(NAME_AND_EXTRA_MAX);
	*ret = s->joined;
	return read_bytes(s, s->joined, n, err);
}

static int read_header(struct zip_stream *s, struct zip_entry *e, struct error *err)
{
	uint8_t header[LOCAL_BYTES] = {0};
	const uint8_t *rest = NULL;
	int code = read_bytes(s, header, sizeof(header), err);

	if (code < 0)
		return code;
	if (memcmp(header, "PK\3\4", 4) != 0)
		return error_set(err, -ERR_FORMAT,
			"there is no local header for '%s' at byte %" PRIu64 " of the zip", e->name,
			e->header_at);
	code = read_contiguous(s, (size_t)get16(header + 26) + get16(header + 28), &rest, err);
	return code < 0 ? code : check_header(e, header, rest, err);
}

int zip_stream_open_entry(struct zip_stream *s, struct zip_entry *e, struct error *err)
{
	int code;

	if (e->header_at < s->at)
		return error_set(err, -ERR_REFUSED,
			"'%s' at byte %" PRIu64 " of the zip overlaps the entry before it", e->name,
			e->header_at);
	code = skip_to(s, e->header_at, err);
	return code < 0 ? code : read_header(s, e, err);
}

int zip_stream_next(struct zip_stream *s, uint64_t max, struct slice *ret, struct error *err)
{
	struct slice got;
	int code = refill(s, err);

	if (code < 0)
		return code;
	got = slice_share(&s->left);
	if (got.len > max)
		got.len = (size_t)max;
	advance(s, got.len);
	*ret = got;
	return 0;
}

void zip_stream_done(struct zip_stream *s)
{
	slice_drop(&s->left);
	free(s->joined);
}
