/* SPDX-License-Identifier: MIT */
/* One record of a zip's central directory: what the entry is, its mode and its time. Pure; any
 * thread. */
#include "defer.h"
#include "text.h"
#include "zip.h"
#include <inttypes.h>
#include <string.h>
#include <time.h>

enum { MADE_ON_UNIX = 3, MADE_ON_MACOS = 19 };
enum { DOS_READ_ONLY = 1 << 0, DOS_DIRECTORY = 1 << 4 };

size_t zip_record_len(const uint8_t *p)
{
	return ZIP_RECORD_BYTES + get16(p + 28) + get16(p + 30) + get16(p + 32);
}

/* DOS wrote down what the clock on the wall showed: TZ says where that wall was. Clocks are set
 * forward and back at full minutes. */
static struct timespec dos_time(struct zip_minute *last, uint16_t time, uint16_t date)
{
	uint32_t minute = (uint32_t)date << 16 | (time & ~31u);

	if (!last->known || last->minute != minute) {
		struct tm tm = {
			.tm_min = time >> 5 & 63,
			.tm_hour = time >> 11,
			.tm_mday = date & 31,
			.tm_mon = (date >> 5 & 15) - 1,
			.tm_year = (date >> 9) + 80,
			.tm_isdst = -1,
		};

		*last = (struct zip_minute){.minute = minute, .start = mktime(&tm), .known = true};
	}
	return (struct timespec){.tv_sec = last->start + 2L * (time & 31)};
}

/* Type and mode. The upper half of the attributes is a Unix mode when Unix made it; otherwise the
 * lower one is DOS's. A name that ends in '/' is a directory, whatever the rest says. */
static void read_attributes(struct zip_entry *e, unsigned made_on, uint32_t attributes)
{
	size_t len = strlen(e->name);
	bool dir = len > 0 && e->name[len - 1] == '/';
	mode_t mode = attributes >> 16;

	if ((made_on == MADE_ON_UNIX || made_on == MADE_ON_MACOS) && mode != 0) {
		e->type = mode & S_IFMT;
		e->meta.mode = mode & 07777;
		if (dir || e->type == 0)
			e->type = dir ? S_IFDIR : S_IFREG;
		return;
	}
	dir |= (attributes & DOS_DIRECTORY) != 0;
	e->type = dir ? S_IFDIR : S_IFREG;
	e->meta.mode = dir ? 0755 : 0644;
	if (!dir && (attributes & DOS_READ_ONLY) != 0)
		e->meta.mode = 0444;
}

static int read_name(struct zip_entry *e, const struct zip_extra *extra, struct error *err)
{
	size_t len = e->raw_len;
	const uint8_t *bytes = zip_extra_name(extra, e->raw_name, e->raw_len, &len);

	e->name_text.len = 0;
	text_add_bytes(&e->name_text, bytes != NULL ? bytes : e->raw_name, len);
	e->name = e->name_text.s;
	if (strlen(e->name) != len)
		return error_set(err, -ERR_REFUSED,
			"the name '%s' in the zip's directory holds a NUL byte", e->name);
	if (e->raw_len == 0)
		return error_set(err, -ERR_FORMAT, "an entry of the zip's directory has no name");
	return 0;
}

static int read_sizes(struct zip_entry *e, const uint8_t *record, const struct zip_extra *extra,
	struct error *err)
{
	uint64_t disk = get16(record + 34) == UINT16_MAX ? 0 : get16(record + 34);

	e->packed = get32(record + 20);
	e->size = get32(record + 24);
	e->header_at = get32(record + 42);
	if (zip_extra_widen(extra, (uint64_t *const[]){&e->size, &e->packed, &e->header_at}, 3) < 0)
		return error_set(err, -ERR_FORMAT,
			"'%s': its 64-bit sizes are missing from the zip", e->name);
	if (disk != 0)
		return error_set(err, -ERR_UNSUPPORTED,
			"'%s' lies in another part of a split zip: join the parts first", e->name);
	return 0;
}

int zip_entry_parse(struct zip_entry *e, const uint8_t *record, uint64_t shift, struct error *err)
{
	struct zip_extra extra;
	int r;

	e->raw_name = record + ZIP_RECORD_BYTES;
	e->raw_len = get16(record + 28);
	extra = (struct zip_extra){.p = e->raw_name + e->raw_len, .len = get16(record + 30)};
	e->flags = get16(record + 8);
	e->method = get16(record + 10);
	e->crc = get32(record + 16);
	r = read_name(e, &extra, err);
	if (r >= 0)
		r = read_sizes(e, record, &extra, err);
	if (r < 0)
		return r;
	if (__builtin_add_overflow(e->header_at, shift, &e->header_at))
		return error_set(err, -ERR_FORMAT, "'%s': its offset is nonsense", e->name);
	e->meta = (struct meta){.uid = (uid_t)-1, .gid = (gid_t)-1};
	if (!zip_extra_mtime(&extra, &e->meta.mtime))
		e->meta.mtime = dos_time(&e->last, get16(record + 12), get16(record + 14));
	zip_extra_owner(&extra, &e->meta);
	read_attributes(e, record[5], get32(record + 38));
	return 0;
}

void zip_entry_done(struct zip_entry *e)
{
	text_done(&e->name_text);
	e->name = NULL;
}

static const char *method_name(unsigned method)
{
	static const struct {
		unsigned method;
		const char *name;
	} known[] = {
		{1, "shrink"},
		{6, "implode"},
		{9, "deflate64"},
		{12, "bzip2"},
		{14, "LZMA"},
		{93, "zstd"},
		{95, "xz"},
		{98, "PPMd"},
		{99, "AES encryption"},
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (known[i].method == method)
			return known[i].name;
	return "unknown";
}

int zip_entry_check(const struct zip_entry *e, struct error *err)
{
	if ((e->flags & ZIP_ENCRYPTED) != 0)
		return error_set(err, -ERR_UNSUPPORTED,
			"'%s' is encrypted: unpack the zip yourself, or make it without a password",
			e->name);
	if (e->method != ZIP_STORED && e->method != ZIP_DEFLATED)
		return error_set(err, -ERR_UNSUPPORTED,
			"'%s' is compressed by method %u (%s): only 0 (stored) and 8 (deflate) are "
			"supported",
			e->name, e->method, method_name(e->method));
	if (e->method == ZIP_STORED && e->packed != e->size)
		return error_set(err, -ERR_FORMAT,
			"'%s' is stored, yet its two sizes differ: %" PRIu64 " and %" PRIu64,
			e->name, e->packed, e->size);
	if (e->type != S_IFREG && e->type != S_IFDIR && e->type != S_IFLNK)
		return error_set(err, -ERR_REFUSED,
			"'%s' is a device, a pipe or a socket, which is not created from an "
			"archive: "
			"exclude it to go on without",
			e->name);
	return 0;
}

uint64_t zip_entry_end(const struct zip_entry *e)
{
	uint64_t end;

	if (__builtin_add_overflow(e->header_at, 30 + e->raw_len, &end) ||
		__builtin_add_overflow(end, e->packed, &end))
		return UINT64_MAX;
	return end;
}
