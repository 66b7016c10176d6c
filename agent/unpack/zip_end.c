/* SPDX-License-Identifier: MIT */
/* The end of a zip file, which says where its central directory is. Worker thread. */
#include "defer.h"
#include "text.h"
#include "zip.h"
#include <inttypes.h>
#include <string.h>

#define END_BYTES           22
#define END64_BYTES         56
#define END64_LOCATOR_BYTES 20
#define TAIL_MAX            (END_BYTES + (size_t)UINT16_MAX + END64_LOCATOR_BYTES + END64_BYTES)

/* The last bytes of the object. */
struct tail {
	uint8_t *bytes;
	size_t len;
	uint64_t at;
};

/* The end record is followed by its comment alone; a signature inside the comment is told from it
 * by that. Bytes behind the comment are tolerated when there is no better match. -1: none. */
static ssize_t find_record(const struct tail *t)
{
	ssize_t loose = -1;

	for (ssize_t i = (ssize_t)t->len - END_BYTES; i >= 0; i--) {
		const uint8_t *p = t->bytes + i;
		size_t room = t->len - (size_t)i - END_BYTES;

		if (memcmp(p, "PK\5\6", 4) != 0)
			continue;
		if (get16(p + 20) == room)
			return i;
		if (loose < 0 && get16(p + 20) < room)
			loose = i;
	}
	return loose;
}

/* The 64-bit record: where the locator says, or right before the locator when bytes were put in
 * front of the zip, so that all offsets in it are too small. */
static int read_end64(struct object *o, const uint8_t *locator, uint64_t locator_at,
	uint8_t *record, uint64_t *ret_at, struct error *err)
{
	uint64_t candidates[2] = {get64(locator + 8), locator_at - END64_BYTES};

	for (int i = 0; i < 2; i++) {
		int r;

		if (locator_at < END64_BYTES || candidates[i] > locator_at - END64_BYTES)
			continue;
		r = object_read_at(o, candidates[i], record, END64_BYTES, err);
		if (r < 0)
			return r;
		if (memcmp(record, "PK\6\6", 4) == 0) {
			*ret_at = candidates[i];
			return 0;
		}
	}
	return error_set(err, -ERR_FORMAT,
		"the zip's 64-bit end record is not where its locator says, at byte %" PRIu64,
		candidates[0]);
}

static int multi_disk(struct error *err)
{
	return error_set(err, -ERR_UNSUPPORTED,
		"the zip is one part of several (a split archive): join the parts first, "
		"with 'zip -s 0 in.zip --out joined.zip'");
}

static int read_numbers64(struct object *o, const struct tail *t, size_t locator_at,
	struct zip_end *ret, uint64_t *ret_end_at, struct error *err)
{
	const uint8_t *locator = t->bytes + locator_at;
	uint8_t record[END64_BYTES] = {0};
	int r = read_end64(o, locator, t->at + locator_at, record, ret_end_at, err);

	if (r < 0)
		return r;
	if (get32(record + 16) != 0 || get32(record + 20) != 0 ||
		get64(record + 24) != get64(record + 32))
		return multi_disk(err);
	ret->entries = get64(record + 32);
	ret->directory_len = get64(record + 40);
	ret->directory_at = get64(record + 48);
	return 0;
}

/* Reads the numbers of the directory; *ret_end_at: where it ends, if nothing lies in between. */
static int read_numbers(struct object *o, const struct tail *t, size_t at, struct zip_end *ret,
	uint64_t *ret_end_at, struct error *err)
{
	const uint8_t *p = t->bytes + at;

	if (at >= END64_LOCATOR_BYTES && memcmp(p - END64_LOCATOR_BYTES, "PK\6\7", 4) == 0)
		return read_numbers64(o, t, at - END64_LOCATOR_BYTES, ret, ret_end_at, err);
	if (get16(p + 4) != 0 || get16(p + 6) != 0 || get16(p + 8) != get16(p + 10))
		return multi_disk(err);
	ret->entries = get16(p + 10);
	ret->directory_len = get32(p + 12);
	ret->directory_at = get32(p + 16);
	*ret_end_at = t->at + at;
	return 0;
}

static int locate(struct object *o, const struct tail *t, struct zip_end *ret, struct error *err)
{
	struct zip_end end = {0};
	ssize_t at = find_record(t);
	uint64_t end_at = 0;
	int r;

	if (at < 0)
		return error_set(err, -ERR_TRUNCATED,
			"it begins like a zip but has no end record: it is cut short, or something "
			"else (then use --no-extract, or extract: false)");
	r = read_numbers(o, t, (size_t)at, &end, &end_at, err);
	if (r < 0)
		return r;
	if (end.directory_len > end_at || end.directory_at > end_at - end.directory_len)
		return error_set(err, -ERR_FORMAT,
			"the zip's directory (%" PRIu64 " bytes at %" PRIu64
			") does not fit before its end record at %" PRIu64,
			end.directory_len, end.directory_at, end_at);
	end.shift = end_at - end.directory_len - end.directory_at;
	end.directory_at += end.shift;
	*ret = end;
	return 0;
}

int zip_find_end(struct object *o, struct zip_end *ret, struct error *err)
{
	uint64_t size = o->identity.size;
	struct tail t = {.len = size < TAIL_MAX ? (size_t)size : TAIL_MAX};
	_free_ uint8_t *bytes = zalloc(t.len + 1);
	int r;

	t.bytes = bytes;
	t.at = size - t.len;
	r = object_read_at(o, t.at, t.bytes, t.len, err);
	return r < 0 ? r : locate(o, &t, ret, err);
}
