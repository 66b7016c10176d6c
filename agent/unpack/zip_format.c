/* SPDX-License-Identifier: MIT */
/* One record of a zip's central directory: extra fields, character sets of names, methods,
 * attributes and times. Pure; any thread, but a character set belongs to one thread. An extra field
 * that is too short for its content is ignored: extra fields only add detail, and writers
 * differ. */
#include "defer.h"
#include "text.h"
#include "umask.h"
#include "utf8.h"
#include "zip_private.h"
#include <errno.h>
#include <iconv.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <string.h>
#include <time.h>

enum {
	EXTRA_ZIP64 = 0x0001,
	EXTRA_NTFS = 0x000a,
	EXTRA_PKWARE_UNIX = 0x000d,
	EXTRA_OLD_UNIX = 0x5855,     /* Info-ZIP "UX" */
	EXTRA_TIMES = 0x5455,        /* Info-ZIP "UT" */
	EXTRA_UNICODE_NAME = 0x7075, /* Info-ZIP "up" */
	EXTRA_OWNER = 0x7875,        /* Info-ZIP "ux" */
};

/* Returns the field with this id; NULL: there is none. */
static const uint8_t *zip_extra_find(const struct zip_extra *x, uint16_t id, size_t *ret_len)
{
	const uint8_t *p = x->p;
	size_t left = x->len;

	while (left >= 4) {
		size_t len = get16(p + 2);

		if (len > left - 4)
			return NULL;
		if (get16(p) == id) {
			*ret_len = len;
			return p + 4;
		}
		p += 4 + len;
		left -= 4 + len;
	}
	return NULL;
}

int zip_extra_widen(const struct zip_extra *x, uint64_t *const *values, size_t n)
{
	size_t len = 0;
	const uint8_t *p = zip_extra_find(x, EXTRA_ZIP64, &len);

	for (size_t i = 0; i < n; i++) {
		if (*values[i] != UINT32_MAX || p == NULL)
			continue;
		if (len < 8)
			return -ERR_FORMAT;
		*values[i] = get64(p);
		p += 8;
		len -= 8;
	}
	return 0;
}

/* Windows counts units of 100 ns since 1601. The field has a reserved word and then attributes;
 * attribute 1 has the times of modification, access and creation. */
static bool ntfs_mtime(const struct zip_extra *x, struct timespec *ret)
{
	const int64_t unix_epoch = INT64_C(116444736000000000);
	size_t len = 0;
	const uint8_t *p = zip_extra_find(x, EXTRA_NTFS, &len);
	struct zip_extra attributes;
	int64_t ticks;

	if (p == NULL || len < 4)
		return false;
	attributes = (struct zip_extra){.p = p + 4, .len = len - 4};
	p = zip_extra_find(&attributes, 0x0001, &len);
	if (p == NULL || len < 8 || get64(p) > INT64_MAX)
		return false;
	ticks = (int64_t)get64(p) - unix_epoch;
	ret->tv_sec = ticks / 10000000;
	ret->tv_nsec = ticks % 10000000 * 100;
	if (ret->tv_nsec < 0) {
		ret->tv_sec--;
		ret->tv_nsec += 1000000000;
	}
	return true;
}

static bool unix_mtime(const struct zip_extra *x, struct timespec *ret)
{
	size_t len = 0;
	const uint8_t *p = zip_extra_find(x, EXTRA_TIMES, &len);

	if (p == NULL || len < 5 || (p[0] & 1) == 0)
		return false;
	*ret = (struct timespec){.tv_sec = (int32_t)get32(p + 1)};
	return true;
}

/* PKWARE's field for Unix and Info-ZIP's first one begin alike: times of access and modification,
 * user and group. Info-ZIP's has the last two in the local header only. */
static const uint8_t *find_old_unix(const struct zip_extra *x, size_t *ret_len)
{
	const uint8_t *p = zip_extra_find(x, EXTRA_OLD_UNIX, ret_len);

	return p != NULL ? p : zip_extra_find(x, EXTRA_PKWARE_UNIX, ret_len);
}

static bool old_unix_mtime(const struct zip_extra *x, struct timespec *ret)
{
	size_t len = 0;
	const uint8_t *p = find_old_unix(x, &len);

	if (p == NULL || len < 8)
		return false;
	*ret = (struct timespec){.tv_sec = (int32_t)get32(p + 4)};
	return true;
}

static void old_unix_owner(const struct zip_extra *x, struct meta *meta)
{
	size_t len = 0;
	const uint8_t *p = find_old_unix(x, &len);

	if (p == NULL || len < 12)
		return;
	meta->uid = get16(p + 8);
	meta->gid = get16(p + 10);
}

/* Parses an id of any length; false when it has more bits than uid_t. */
static bool get_id(const uint8_t *p, size_t len, uint32_t *ret)
{
	uint32_t id = 0;

	for (size_t i = 0; i < len; i++) {
		if (i >= 4 && p[i] != 0)
			return false;
		if (i < 4)
			id |= (uint32_t)p[i] << (8 * i);
	}
	*ret = id;
	return true;
}

void zip_extra_owner(const struct zip_extra *x, struct meta *meta)
{
	size_t len = 0, uid_len, gid_len;
	const uint8_t *p = zip_extra_find(x, EXTRA_OWNER, &len);
	uint32_t uid, gid;

	if (p == NULL)
		old_unix_owner(x, meta);
	if (p == NULL || len < 3 || p[0] != 1)
		return;
	uid_len = p[1];
	if (len < 3 + uid_len)
		return;
	gid_len = p[2 + uid_len];
	if (len < 3 + uid_len + gid_len || uid_len == 0 || gid_len == 0)
		return;
	if (get_id(p + 2, uid_len, &uid) && get_id(p + 3 + uid_len, gid_len, &gid)) {
		meta->uid = uid;
		meta->gid = gid;
	}
}

static bool zip_extra_mtime(const struct zip_extra *x, struct timespec *ret)
{
	return ntfs_mtime(x, ret) || unix_mtime(x, ret) || old_unix_mtime(x, ret);
}

/* Returns the UTF-8 name, *ret_len bytes without a NUL, if there is one and it belongs to the raw
 * name; else NULL. */
static const uint8_t *zip_extra_name(
	const struct zip_extra *x, const uint8_t *raw_name, size_t raw_len, size_t *ret_len)
{
	size_t len = 0;
	const uint8_t *p = zip_extra_find(x, EXTRA_UNICODE_NAME, &len);

	if (p == NULL || len <= 5 || p[0] != 1 || memchr(p + 5, '\0', len - 5) != NULL)
		return NULL;
	/* A tool that does not know this field leaves it unchanged when it renames the entry. */
	if (get32(p + 1) != libdeflate_crc32(0, raw_name, raw_len))
		return NULL;
	*ret_len = len - 5;
	return p + 5;
}

/* Character sets of names (APPNOTE appendix D). Old DOS and Windows programs wrote names in the
 * code page of their machine, and do not say which one that was. */

struct zip_charset {
	iconv_t to_utf8;
	char *name;
};

int zip_charset_open(const char *name, struct zip_charset **ret, struct error *err)
{
	struct zip_charset *c;
	iconv_t to_utf8;

	if (name == NULL || name[0] == '\0')
		return 0;
	to_utf8 = iconv_open("UTF-8", name);
	if (to_utf8 == (iconv_t)-1) // NOLINT(performance-no-int-to-ptr): POSIX says so
		return error_set(err, -ERR_CONFIG,
			"zip_names: '%.100s' is no character set that iconv knows here; 'iconv -l' lists them (CP437, CP932, GBK, ...)",
			name);
	c = zalloc(sizeof(*c));
	c->to_utf8 = to_utf8;
	c->name = text_copy(name);
	*ret = c;
	return 0;
}

void zip_charset_close(struct zip_charset *c)
{
	if (c == NULL)
		return;
	iconv_close(c->to_utf8);
	free(c->name);
	free(c);
}

/* Converts a name to UTF-8 and appends it to ret. */
static int zip_charset_convert(struct zip_charset *c, const uint8_t *bytes, size_t len,
	struct text *ret, struct error *err)
{
	char *in = (char *)bytes; /* not written to */
	char buf[256], *out = buf;
	size_t room = sizeof(buf);

	iconv(c->to_utf8, NULL, NULL, NULL, NULL);
	while (len > 0) {
		size_t left = len;
		size_t r = iconv(c->to_utf8, &in, &len, &out, &room);

		text_add_bytes(ret, buf, (size_t)(out - buf));
		out = buf;
		room = sizeof(buf);
		if (r == (size_t)-1 && (errno != E2BIG || len == left))
			return error_set(err, -ERR_FORMAT,
				"the name '%.300s...' in the zip's directory is not %s (zip_names)",
				ret->s != NULL ? ret->s : "", c->name);
	}
	/* iconv holds back a letter that an accent may still follow (CP1255, CP1258, TCVN). */
	iconv(c->to_utf8, NULL, NULL, &out, &room);
	text_add_bytes(ret, buf, (size_t)(out - buf));
	return 0;
}

/* Methods of compression and encryption (APPNOTE 4.4.5, 7.2). */

enum { EXTRA_AES = 0x9901 };

/* How a method is decoded; the last three use a decoder of agent/decode. */
enum zip_how {
	HOW_NOT,   /* not supported */
	HOW_BUILT, /* by the zip reader itself */
	HOW_NAMED, /* by the decoder of this name */
	HOW_DEFLATE64,
	HOW_LZMA,
};

static const struct zip_method_row {
	uint16_t number;
	enum zip_how how;
	const char *name;
} methods[] = {
	{ZIP_STORED, HOW_BUILT, "stored"},
	{1, HOW_NOT, "shrink"},
	{2, HOW_NOT, "reduce"},
	{3, HOW_NOT, "reduce"},
	{4, HOW_NOT, "reduce"},
	{5, HOW_NOT, "reduce"},
	{6, HOW_NOT, "implode"},
	{ZIP_DEFLATED, HOW_BUILT, "deflate"},
	{9, HOW_DEFLATE64, "deflate64"},
	{10, HOW_NOT, "PKWARE DCL implode"},
	{12, HOW_NAMED, "bzip2"},
	{14, HOW_LZMA, "LZMA"},
	{16, HOW_NOT, "IBM CMPSC"},
	{18, HOW_NOT, "IBM TERSE"},
	{19, HOW_NOT, "IBM LZ77"},
	{20, HOW_NAMED, "zstd"}, /* the number that it had at first */
	{93, HOW_NAMED, "zstd"},
	{94, HOW_NOT, "MP3"},
	{95, HOW_NAMED, "xz"},
	{96, HOW_NOT, "JPEG"},
	{97, HOW_NOT, "WavPack"},
	{98, HOW_NOT, "PPMd"},
};

static const struct zip_method_row *find_method(unsigned number)
{
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (methods[i].number == number)
			return &methods[i];
	return NULL;
}

bool zip_method_needs_decoder(const struct zip_entry *e)
{
	const struct zip_method_row *m = find_method(e->method);

	return m != NULL && m->how > HOW_BUILT;
}

const struct decoder *zip_method_decoder(const struct zip_entry *e)
{
	const struct zip_method_row *m = find_method(e->method);

	switch (m->how) {
	case HOW_DEFLATE64:
		return decode_bare(BARE_DEFLATE64);
	case HOW_LZMA:
		return decode_bare((e->flags & ZIP_LZMA_END) != 0 ? BARE_LZMA_WITH_END : BARE_LZMA);
	default:
		return decode_by_name(m->name);
	}
}

/* Method 99 is AES, and its extra field specifies the strength. */
static const char *encryption_name(const struct zip_entry *e, const struct zip_extra *extra)
{
	static const char *const aes[] = {"AES", "AES-128", "AES-192", "AES-256"};
	size_t len = 0;
	const uint8_t *p = zip_extra_find(extra, EXTRA_AES, &len);

	if (e->method == ZIP_AES)
		return aes[p != NULL && len >= 5 && p[4] <= 3 ? p[4] : 0];
	if ((e->flags & (ZIP_STRONG | ZIP_MASKED)) != 0)
		return "PKWARE's strong encryption";
	return (e->flags & ZIP_ENCRYPTED) != 0 ? "ZipCrypto (a zip password)" : NULL;
}

/* Sets e->encryption, which outlives the record. */
static void zip_method_set_encryption(struct zip_entry *e, const struct zip_extra *extra)
{
	e->encryption = encryption_name(e, extra);
}

/* -ERR_UNSUPPORTED, with the name of the entry, when it cannot be decoded. */
static int zip_method_check(const struct zip_entry *e, struct error *err)
{
	const struct zip_method_row *m = find_method(e->method);

	if (e->encryption != NULL)
		return error_set(err, -ERR_UNSUPPORTED,
			"'%s' is encrypted with %s, which is not decrypted here: unpack the zip yourself, or make it without a password",
			e->name, e->encryption);
	if (m != NULL && m->how != HOW_NOT)
		return 0;
	return error_set(err, -ERR_UNSUPPORTED,
		"'%s' is compressed by method %u (%s), which is not supported: pack it with deflate, zstd, xz, LZMA, bzip2 or deflate64",
		e->name, e->method, m != NULL ? m->name : "unknown");
}

/* The record: type, mode, time, name and sizes. */

enum {
	MADE_ON_FAT = 0,
	MADE_ON_UNIX = 3,
	MADE_ON_NTFS = 10,
	MADE_ON_VFAT = 14,
	MADE_ON_MACOS = 19
};
enum { DOS_READ_ONLY = 1 << 0, DOS_DIRECTORY = 1 << 4 };

size_t zip_record_len(const uint8_t *p)
{
	return ZIP_RECORD_BYTES + get16(p + 28) + get16(p + 30) + get16(p + 32);
}

/* DOS stored local time; TZ says which zone that is. Clocks are set forward and back at full
 * minutes. */
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

/* Info-ZIP calls data from its standard input "-", and records the type of that input. */
static bool is_standard_input(const struct zip_entry *e)
{
	return strcmp(e->name, "-") == 0 &&
	       (e->type == S_IFIFO || e->type == S_IFSOCK || e->type == S_IFCHR);
}

/* Sets type and mode. The upper half of the attributes is a Unix mode if the record was made on
 * Unix; otherwise the lower half has DOS attributes. A name that ends in '/' is a directory's,
 * whatever the attributes are. */
static void read_attributes(struct zip_entry *e, unsigned made_on, uint32_t attributes)
{
	size_t len = strlen(e->name);
	bool dir = len > 0 && e->name[len - 1] == '/';
	mode_t mode = attributes >> 16;

	if ((made_on == MADE_ON_UNIX || made_on == MADE_ON_MACOS) && mode != 0) {
		e->type = mode & S_IFMT;
		e->meta.mode = mode & 07777;
		if (dir || e->type == 0 || is_standard_input(e))
			e->type = dir ? S_IFDIR : S_IFREG;
		return;
	}
	dir |= (attributes & DOS_DIRECTORY) != 0 && e->size == 0;
	e->type = dir ? S_IFDIR : S_IFREG;
	e->meta.mode = umask_apply(dir ? 0755 : 0644);
	if (!dir && (attributes & DOS_READ_ONLY) != 0)
		e->meta.mode = umask_apply(0444);
}

/* Whether a backslash may be the second byte of a character (Shift-JIS, GBK). */
static bool has_split_backslash(const char *name)
{
	for (const char *c = name; (c = strchr(c, '\\')) != NULL; c++)
		if (c > name && (unsigned char)c[-1] >= 0x80)
			return true;
	return false;
}

/* Replaces backslashes by slashes. On DOS and Windows, a name cannot hold a backslash, and some
 * programs write it in place of a slash. */
static void convert_backslashes(struct zip_entry *e, unsigned made_on)
{
	bool dos = made_on == MADE_ON_FAT || made_on == MADE_ON_NTFS || made_on == MADE_ON_VFAT;

	e->backslashes = dos && strchr(e->name, '\\') != NULL && strchr(e->name, '/') == NULL &&
			 !(e->unmarked && has_split_backslash(e->name));
	for (char *c = e->name_text.s; e->backslashes && *c != '\0'; c++)
		if (*c == '\\')
			*c = '/';
}

/* A name that consists of slashes, as Dropbox writes it, is the root directory's. */
static void name_root(struct zip_entry *e)
{
	if (e->name[strspn(e->name, "/")] != '\0')
		return;
	e->name_text.len = 0;
	text_add(&e->name_text, "./");
	e->name = e->name_text.s;
}

/* Names written on Unix are nearly always UTF-8, though the record does not say so. */
static bool needs_charset(const struct zip_entry *e, unsigned made_on)
{
	bool by_unix = made_on == MADE_ON_UNIX || made_on == MADE_ON_MACOS;

	for (size_t i = 0; i < e->raw_len && e->charset != NULL; i++)
		if (e->raw_name[i] >= 0x80)
			return !by_unix || !utf8_is_valid(e->raw_name, e->raw_len);
	return false;
}

static int read_name(
	struct zip_entry *e, unsigned made_on, const struct zip_extra *extra, struct error *err)
{
	size_t len = e->raw_len;
	const uint8_t *bytes = zip_extra_name(extra, e->raw_name, e->raw_len, &len);

	bool marked = bytes != NULL || (e->flags & ZIP_UTF8) != 0;
	int code = 0;

	if (bytes == NULL)
		bytes = e->raw_name;
	e->unmarked = false;
	e->name_text.len = 0;
	if (marked || !needs_charset(e, made_on))
		text_add_bytes(&e->name_text, bytes, len);
	else
		code = zip_charset_convert(e->charset, bytes, len, &e->name_text, err);
	if (code < 0)
		return code;
	if (!marked && e->charset == NULL)
		e->unmarked = !utf8_is_valid(bytes, len);
	len = e->name_text.len;
	e->name = e->name_text.s;
	if (strlen(e->name) != len)
		return error_set(err, -ERR_REFUSED,
			"the name '%s' in the zip's directory holds a NUL byte", e->name);
	if (len == 0)
		return error_set(err, -ERR_FORMAT, "an entry of the zip's directory has no name");
	convert_backslashes(e, made_on);
	name_root(e);
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
	int code;

	e->raw_name = record + ZIP_RECORD_BYTES;
	e->raw_len = get16(record + 28);
	extra = (struct zip_extra){.p = e->raw_name + e->raw_len, .len = get16(record + 30)};
	e->flags = get16(record + 8);
	e->method = get16(record + 10);
	e->crc = get32(record + 16);
	code = read_name(e, record[5], &extra, err);
	if (code == 0)
		code = read_sizes(e, record, &extra, err);
	if (code < 0)
		return code;
	if (__builtin_add_overflow(e->header_at, shift, &e->header_at))
		return error_set(err, -ERR_FORMAT, "'%s': its offset is nonsense", e->name);
	e->meta = (struct meta){.uid = (uid_t)-1, .gid = (gid_t)-1};
	if (!zip_extra_mtime(&extra, &e->meta.mtime))
		e->meta.mtime = dos_time(&e->last, get16(record + 12), get16(record + 14));
	zip_extra_owner(&extra, &e->meta);
	zip_method_set_encryption(e, &extra);
	read_attributes(e, record[5], get32(record + 38));
	return 0;
}

void zip_entry_done(struct zip_entry *e)
{
	text_done(&e->name_text);
	e->name = NULL;
}

int zip_entry_check(const struct zip_entry *e, struct error *err)
{
	bool nothing = e->type == S_IFDIR && e->size == 0 && e->encryption == NULL;
	int code = nothing ? 0 : zip_method_check(e, err); /* nothing has to be decoded */

	if (code < 0)
		return code;
	if (e->method == ZIP_STORED && e->packed != e->size)
		return error_set(err, -ERR_FORMAT,
			"'%s' is stored, yet its two sizes differ: %" PRIu64 " and %" PRIu64,
			e->name, e->packed, e->size);
	if (e->type == S_IFDIR && e->size > 0)
		return error_set(
			err, -ERR_FORMAT, "'%s' is a directory, yet it has content", e->name);
	if (e->type != S_IFREG && e->type != S_IFDIR && e->type != S_IFLNK)
		return error_set(err, -ERR_REFUSED,
			"'%s' is a device, a pipe or a socket, which is not created from an archive: exclude it to go on without",
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
