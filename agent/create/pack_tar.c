/* SPDX-License-Identifier: MIT */
/* Tar headers of the format "pax" (POSIX.1-2001), which GNU tar, bsdtar and Python read. Pure. */
#include "create_private.h"
#include "defer.h"
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* A header block; all fields are text. */
struct ustar {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
	char linkname[100], magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8];
	char prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "a block");

#define OCTAL_MAX ((uint64_t)077777777777) /* eleven digits */

uint64_t pack_tar_padding(uint64_t size)
{
	return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

static char type_flag(const struct create_item *i)
{
	switch (i->type) {
	case INDEX_DIR:
		return '5';
	case INDEX_SYMLINK:
		return '2';
	case INDEX_HARDLINK:
		return '1';
	default:
		return '0';
	}
}

/* A value that fills the field has no NUL at its end, as in ustar. */
static void put_text(char *field, size_t room, const char *s, size_t len)
{
	memcpy(field, s, len < room ? len : room);
}

/* Where a long name can be split into prefix and name; 0: nowhere. */
static size_t prefix_len(const char *name, size_t len)
{
	const char *slash = memchr(name + len - 101, '/', 101 - 1);

	if (slash == NULL || slash == name || slash - name > 155)
		return 0;
	return (size_t)(slash - name);
}

/* False when the name needs a pax record; the field then has its last part. */
static bool put_name(struct ustar *u, const char *name, size_t len)
{
	size_t cut;

	if (len <= sizeof(u->name)) {
		put_text(u->name, sizeof(u->name), name, len);
		return true;
	}
	cut = prefix_len(name, len);
	if (cut == 0) {
		put_text(u->name, sizeof(u->name), name + len - sizeof(u->name), len);
		return false;
	}
	put_text(u->prefix, sizeof(u->prefix), name, cut);
	put_text(u->name, sizeof(u->name), name + cut + 1, len - cut - 1);
	return true;
}

static void finish_header(struct ustar *u)
{
	const uint8_t *bytes = (const uint8_t *)u;
	unsigned sum = 0;

	memcpy(u->magic, "ustar", 6);
	memcpy(u->version, "00", 2);
	memset(u->checksum, ' ', sizeof(u->checksum));
	for (size_t i = 0; i < sizeof(*u); i++)
		sum += bytes[i];
	snprintf(u->checksum, sizeof(u->checksum), "%06o", sum);
}

/* Adds a pax record "LENGTH key=value\n"; LENGTH includes its own digits. */
static void add_record(struct text *pax, const char *key, const char *value)
{
	size_t body = strlen(key) + strlen(value) + 3, len = body + 1, digits;

	do {
		digits = (size_t)snprintf(NULL, 0, "%zu", len);
	} while (len != body + digits && (len = body + digits));
	text_addf(pax, "%zu %s=%s\n", len, key, value);
}

/* How many bytes follow the first byte of a UTF-8 character; 9: the byte cannot be a first one. */
static unsigned utf8_more(uint8_t first)
{
	static const struct {
		uint8_t below, more;
	} classes[] = {{0x80, 0}, {0xc2, 9}, {0xe0, 1}, {0xf0, 2}, {0xf5, 3}};

	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		if (first < classes[i].below)
			return classes[i].more;
	return 9;
}

/* Readers accept a name that is not UTF-8 as bytes only if a record (hdrcharset) says so. */
static bool is_utf8(const char *s)
{
	const uint8_t *p = (const uint8_t *)s;

	while (*p != '\0') {
		unsigned more = utf8_more(*p++);

		if (more == 9)
			return false;
		for (; more > 0; more--, p++)
			if ((*p & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static void add_name_record(struct text *pax, const char *key, const char *value)
{
	if (!is_utf8(value))
		add_record(pax, "hdrcharset", "BINARY");
	add_record(pax, key, value);
}

/* The value is decimal, so that the fraction of a time before 1970 is negative too: {-2 s, 0.25 s}
 * is -1.75. */
static void add_time_record(struct text *pax, struct timespec t)
{
	int64_t seconds = t.tv_sec;
	long nanoseconds = t.tv_nsec;
	bool negative = seconds < 0;
	char value[48];

	if (negative && nanoseconds > 0) {
		seconds++;
		nanoseconds = 1000000000 - nanoseconds;
	}
	snprintf(value, sizeof(value), "%s%" PRId64 ".%09ld", negative ? "-" : "",
		negative ? -seconds : seconds, nanoseconds);
	add_record(pax, "mtime", value);
}

static void put_number(char *field, size_t room, uint64_t n)
{
	char digits[32];

	snprintf(
		digits, sizeof(digits), "%0*" PRIo64, (int)room - 1, n > OCTAL_MAX ? OCTAL_MAX : n);
	memcpy(field, digits, room - 1);
}

static uint64_t content_size(const struct create_item *i)
{
	return i->type == INDEX_FILE ? i->size : 0;
}

/* Fills u; values that do not fit become records in pax. */
static void fill_header(struct ustar *u, struct text *pax, const struct create_item *i)
{
	bool slash = i->type == INDEX_DIR;
	char name[PATH_MAX + 2];
	int len = snprintf(name, sizeof(name), "%s%s", i->path, slash ? "/" : "");

	if (!put_name(u, name, (size_t)len))
		add_name_record(pax, "path", name);
	if (i->target != NULL && i->type != INDEX_FILE) {
		size_t target_len = strlen(i->target);

		put_text(u->linkname, sizeof(u->linkname), i->target, target_len);
		if (target_len > sizeof(u->linkname))
			add_name_record(pax, "linkpath", i->target);
	}
	if (content_size(i) > OCTAL_MAX) {
		char digits[32];

		snprintf(digits, sizeof(digits), "%" PRIu64, i->size);
		add_record(pax, "size", digits);
	}
	if (i->mtime.tv_sec < 0 || (uint64_t)i->mtime.tv_sec > OCTAL_MAX || i->mtime.tv_nsec != 0)
		add_time_record(pax, i->mtime);
	put_number(u->size, sizeof(u->size), content_size(i));
	put_number(u->mtime, sizeof(u->mtime), i->mtime.tv_sec < 0 ? 0 : (uint64_t)i->mtime.tv_sec);
}

static void add_zeros(struct text *out, size_t n)
{
	static const char zeros[TAR_BLOCK];

	text_add_bytes(out, zeros, n);
}

static void add_pax(struct text *out, const struct text *pax)
{
	struct ustar u = {.mode = "0000644", .uid = "0000000", .gid = "0000000", .type = 'x'};

	memcpy(u.name, "PaxHeader", sizeof("PaxHeader"));
	put_number(u.size, sizeof(u.size), pax->len);
	put_number(u.mtime, sizeof(u.mtime), 0);
	finish_header(&u);
	text_add_bytes(out, &u, sizeof(u));
	text_add_bytes(out, pax->s, pax->len);
	add_zeros(out, pack_tar_padding(pax->len));
}

void pack_tar_header(struct text *out, const struct create_item *i)
{
	struct ustar u = {.uid = "0000000", .gid = "0000000", .type = type_flag(i)};
	struct text pax = {0};

	fill_header(&u, &pax, i);
	put_number(u.mode, sizeof(u.mode), i->mode);
	finish_header(&u);
	if (pax.len > 0)
		add_pax(out, &pax);
	text_add_bytes(out, &u, sizeof(u));
	text_done(&pax);
}

uint64_t pack_tar_member_size(const struct create_item *i)
{
	struct ustar u = {0};
	struct text pax = {0};
	uint64_t size = sizeof(u) + content_size(i) + pack_tar_padding(content_size(i));

	fill_header(&u, &pax, i);
	if (pax.len > 0)
		size += sizeof(u) + pax.len + pack_tar_padding(pax.len);
	text_done(&pax);
	return size;
}
