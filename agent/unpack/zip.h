/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_ZIP_H
#define STAGERUN_ZIP_H

#include "object.h"
#include "text.h"
#include "unpack.h"
#include <sys/stat.h>

/* What the files of the zip reader share. APPNOTE.TXT is PKWARE's description of the format. */

static inline uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static inline uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

enum zip_flag { ZIP_ENCRYPTED = 1 << 0, ZIP_DESCRIPTOR = 1 << 3 };
enum zip_method { ZIP_STORED = 0, ZIP_DEFLATED = 8 };

/* Where the central directory is (zip_end.c). */
struct zip_end {
	uint64_t directory_at, directory_len;
	uint64_t entries;
	uint64_t shift; /* bytes before the zip proper, to be added to the offsets in it */
};

int zip_find_end(struct object *o, struct zip_end *ret, struct error *err);

/* The minute that a DOS time was last turned into seconds for: entries that follow each other are
 * often of the same one, and mktime() looks for the time zone's file again each time. */
struct zip_minute {
	uint32_t minute;
	time_t start;
	bool known;
};

/* One record of the central directory (zip_entry.c). */
struct zip_entry {
	const char *name; /* as used: from the Unicode extra field when there is a valid one */
	const uint8_t *raw_name; /* as the local header repeats it; raw_len bytes */
	size_t raw_len;
	uint16_t flags, method;
	uint32_t crc;
	uint64_t packed, size; /* bytes, compressed and not */
	uint64_t header_at;    /* the local header */
	mode_t type;           /* S_IFREG, S_IFDIR, S_IFLNK, or something we refuse */
	struct meta meta;

	/* Kept from one record to the next. */
	struct text name_text;
	struct zip_minute last;
};

#define ZIP_RECORD_BYTES ((size_t)46)
#define ZIP_RECORD_MAX   (ZIP_RECORD_BYTES + 3 * (size_t)UINT16_MAX)

/* How long the record at p is, with all that follows its fixed part. */
size_t zip_record_len(const uint8_t *p);
/* Parses one whole record. *e is zeroed before the first; its name stays valid until the next call;
 * zip_entry_done(). */
int zip_entry_parse(struct zip_entry *e, const uint8_t *record, uint64_t shift, struct error *err);
void zip_entry_done(struct zip_entry *e);
/* -ERR_UNSUPPORTED or -ERR_REFUSED when it cannot be unpacked. */
int zip_entry_check(const struct zip_entry *e, struct error *err);
/* Where its data ends at the earliest; UINT64_MAX when that overflows. */
uint64_t zip_entry_end(const struct zip_entry *e);

/* The extra fields of a record (zip_extra.c): NTFS and Unix times, owner, Unicode name, and the
 * 64-bit values, which are looked for where the 32-bit ones are saturated. */
struct zip_extra {
	const uint8_t *p;
	size_t len;
};

/* The field with this id; NULL: there is none. */
const uint8_t *zip_extra_find(const struct zip_extra *x, uint16_t id, size_t *ret_len);
/* Replaces each of the n values that is UINT32_MAX by the next 64-bit one. */
int zip_extra_widen(const struct zip_extra *x, uint64_t *const *values, size_t n);
/* Whether there is an mtime. */
bool zip_extra_mtime(const struct zip_extra *x, struct timespec *ret);
void zip_extra_owner(const struct zip_extra *x, struct meta *meta);
/* The UTF-8 name, *ret_len bytes without a NUL, if there is one and it belongs to the raw name; else
 * NULL. */
const uint8_t *zip_extra_name(
	const struct zip_extra *x, const uint8_t *raw_name, size_t raw_len, size_t *ret_len);

/* The records in the order of their data, streamed from disk (zip_directory.c). */
struct zip_directory;

/* Copies the directory to an unnamed file, so that memory does not depend on the number of entries,
 * and looks at every record once: what is wrong anywhere is said before anything is written. */
int zip_directory_open(const struct unpack_env *env, struct object *o, const struct zip_end *end,
	struct zip_directory **ret, struct error *err);
void zip_directory_close(struct zip_directory *d); /* accepts NULL */
/* What the selected entries need when unpacked. */
void zip_directory_sum(const struct zip_directory *d, uint64_t *ret_bytes, uint64_t *ret_entries);
/* 1, 0 after the last, or negative. *e is the directory's own, good until the next call. */
int zip_directory_next(struct zip_directory *d, const struct zip_entry **e, struct error *err);

#endif
