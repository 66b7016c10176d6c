/* SPDX-License-Identifier: MIT */
/* tar, by libarchive's reader. Worker thread. Only the format is enabled: no filter, since decoding
 * is done before, and therefore no external program either. Joined archives are read one after
 * another, with any number of zeros between them.
 *
 * libarchive keeps what belongs to one entry until the next one: names, attributes, the map of a
 * sparse file. All of that comes from bytes that it reads before the entry's content, so these
 * bytes are counted, and the memory that they can expand to is reserved before libarchive reads
 * more of them. */
#include "defer.h"
#include "log.h"
#include "unpack_private.h"
#include <archive.h>
#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define BLOCK   512
#define SUM_AT  148
#define TYPE_AT 156

/* Nothing is reserved for up to HEADER_FREE bytes. Each number of a sparse map (followed by a line
 * feed or a comma) becomes half an element of a list in libarchive and half an element of a list in
 * its entry; everything else needs less than four times its size, binary maps included. */
#define HEADER_FREE    ((uint64_t)64 << 10)
#define BYTES_A_BYTE   4
#define BYTES_A_NUMBER 40
#define RESERVE_STEP   ((uint64_t)1 << 20)

struct tar {
	struct extraction x;
	struct archive_feed feed;
	uint8_t previous[BLOCK]; /* the last bytes before the feed's current slice */
	uint8_t primer[BLOCK];
	bool primed;       /* libarchive has read primer */
	bool reads_header; /* libarchive is reading the header of the next entry */
	size_t header_at;  /* where the header begins in the feed's current slice */
	uint64_t header_bytes, header_numbers;
	uint64_t reserved; /* bytes of the budget, for the header */
};

/* An octal field of a tar header, padded with spaces and NULs; -1: it is not a number. */
static long octal_field(const uint8_t *field, size_t len)
{
	char digits[16] = "";
	char *end;
	long value;

	memcpy(digits, field, len);
	value = strtol(digits, &end, 8);
	return end == digits || value < 0 || (*end != '\0' && *end != ' ') ? -1 : value;
}

/* The one thing that all tars have in common, including those of 1979, is the checksum of the
 * header. Some old writers summed signed bytes. */
static bool tar_matches(const uint8_t *first, size_t len)
{
	long sum = 0, signed_sum = 0, said;

	if (len < 512 || first[0] == '\0')
		return false;
	for (size_t i = 0; i < 512; i++) {
		uint8_t byte = i >= SUM_AT && i < SUM_AT + 8 ? ' ' : first[i];

		sum += byte;
		signed_sum += (int8_t)byte;
	}
	said = octal_field(first + SUM_AT, 8);
	return said >= 0 && (said == sum || said == signed_sum);
}

/* Counts the bytes of the current slice that belong to a header. Called when libarchive requests
 * another slice, so it has read all of this one. */
static void count_header(struct tar *t)
{
	const struct slice *s = &t->feed.current;

	for (size_t i = t->header_at; i < s->len; i++)
		t->header_numbers += s->data[i] == '\n' || s->data[i] == ',';
	if (s->len > t->header_at)
		t->header_bytes += s->len - t->header_at;
	t->header_at = 0;
}

static int reserve_header(struct tar *t)
{
	const struct unpack_env *env = t->x.env;
	const bool first = t->x.latest[0] == '\0';
	uint64_t need = 0, more;

	if (t->header_bytes > HEADER_FREE)
		need = t->header_bytes * BYTES_A_BYTE + t->header_numbers * BYTES_A_NUMBER;
	if (need <= t->reserved)
		return 0;
	more = need - t->reserved + RESERVE_STEP;
	if (!budget_try_reserve(env->budget, more)) {
		t->feed.failed = error_set(&t->feed.why, -ERR_LIMIT,
			"the header of the %s%s%s (its attributes, or the map of a sparse file) needs more than %" PRIu64
			" MiB, more than memory_budget (%" PRIu64
			" MiB) has left; raise memory_budget, or pack it anew without",
			first ? "first entry" : "entry after '", t->x.latest, first ? "" : "'",
			need >> 20, budget_total(env->budget) >> 20);
		return t->feed.failed;
	}
	t->reserved += more;
	return 0;
}

/* Number of bytes that libarchive received and has not consumed. */
static uint64_t unconsumed(const struct tar *t)
{
	return t->feed.given - t->feed.start - (uint64_t)archive_filter_bytes(t->x.archive, -1);
}

static void begin_header(struct tar *t)
{
	uint64_t left = unconsumed(t);

	if (t->reserved > 0) {
		budget_release(t->x.env->budget, t->reserved);
		malloc_trim(0);
	}
	t->reserved = t->header_bytes = t->header_numbers = 0;
	t->header_at = left < t->feed.current.len ? t->feed.current.len - (size_t)left : 0;
	t->reads_header = true;
}

/* Stores the last bytes of the current slice: libarchive reads one block ahead to detect the end,
 * and that block can lie in two slices. */
static void store_tail(struct tar *t)
{
	const struct slice *s = &t->feed.current;
	size_t n = s->len < BLOCK ? s->len : BLOCK;

	memmove(t->previous, t->previous + n, BLOCK - n);
	if (n > 0)
		memcpy(t->previous + BLOCK - n, s->data + s->len - n, n);
}

static la_ssize_t on_read(struct archive *a, void *ctx, const void **ret)
{
	struct tar *t = ctx;
	int code = 0, got;

	if (!t->primed) {
		t->primed = true;
		*ret = t->primer;
		return sizeof(t->primer);
	}
	if (t->reads_header) {
		count_header(t);
		code = reserve_header(t);
	}
	store_tail(t);
	got = code < 0 ? code : archive_feed_next(&t->feed);
	if (got < 0)
		archive_set_error(a, EIO, "%s", t->feed.why.msg);
	*ret = t->feed.current.data;
	return got > 0 ? (la_ssize_t)t->feed.current.len : got;
}

/* Builds the entry that libarchive reads first in every archive: a directory with a link target.
 * Without it, libarchive refuses to open an archive whose first header has a field that it only
 * parses later on, and drops the target of a link in the first entry when only the pax header has
 * it. */
static void build_primer(uint8_t primer[static BLOCK])
{
	unsigned sum = 0;

	memset(primer, 0, BLOCK);
	memcpy(primer, "./", 2);
	memcpy(primer + 100, "000755 ", 7);
	memcpy(primer + TYPE_AT, "5-", 2);
	memcpy(primer + 257, "ustar\00000", 8);
	memset(primer + SUM_AT, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += primer[i];
	snprintf((char *)primer + SUM_AT, 8, "%06o", sum);
}

static int open_archive(struct tar *t, struct error *err)
{
	struct archive_entry *e;

	build_primer(t->primer);
	t->primed = false;
	t->feed.start -= BLOCK; /* the primer precedes the archive, so that positions stay right */
	archive_read_free(t->x.archive);
	t->x.archive = archive_read_new();
	if (t->x.archive == NULL)
		return error_set(err, -ENOMEM, "out of memory");
	archive_read_support_format_tar(t->x.archive);
	if (archive_read_open2(t->x.archive, t, NULL, on_read, NULL, NULL) != ARCHIVE_OK)
		return archive_open_failed(&t->x, err);
	return archive_next_header(&t->x, &e, err);
}

/* Puts the bytes that libarchive has not consumed back to the stream. */
static void put_back_unconsumed(struct tar *t)
{
	size_t left = (size_t)unconsumed(t), in_current = t->feed.current.len;
	struct slice current = t->feed.current;

	t->feed.current = (struct slice){0};
	t->feed.given -= left;
	if (left < in_current)
		slice_advance(&current, in_current - left);
	reader_put_back(t->feed.in, current);
	if (left > in_current)
		reader_put_back(t->feed.in,
			(struct slice){.data = t->previous + BLOCK - (left - in_current),
				.len = left - in_current});
}

/* GNU tar begins the second and later volumes of an archive with the rest of a file: as an entry of
 * its own type or, in pax, as a regular one behind a global header that says so. A volume label may
 * precede it. 1 or negative. */
static int check_volume(struct tar *t, struct error *err)
{
	uint8_t first[3 * BLOCK];
	int len = reader_peek(t->feed.in, first, sizeof(first), &t->feed.why);
	const uint8_t *h = first;

	if (len < 0) {
		*err = t->feed.why;
		return len;
	}
	memset(first + len, 0, sizeof(first) - (size_t)len);
	if (h[TYPE_AT] == 'V')
		h += BLOCK;
	if (h[TYPE_AT] != 'M' &&
		(h[TYPE_AT] != 'g' || memmem(h + BLOCK, BLOCK, " GNU.volume.", 12) == NULL))
		return 1;
	return error_set(err, -ERR_UNSUPPORTED,
		"it is a later volume of a multi-volume tar archive, which begins with the rest of a file: unpack all volumes with tar -xM, and pack the files as one archive");
}

static int next_in_archive(struct tar *t, struct archive_entry **ret, struct error *err)
{
	la_int64_t before;
	int code = archive_skip_data(&t->x, err), got;

	if (code < 0)
		return code;
	begin_header(t);
	before = archive_filter_bytes(t->x.archive, -1);
	got = archive_next_header(&t->x, ret, err);
	t->reads_header = false;
	if (got == 0 && archive_filter_bytes(t->x.archive, -1) == before)
		log_warn("%s: the tar archive has no end marker; it may be incomplete",
			t->x.input->source);
	return got;
}

static int tar_next(struct extraction *x, struct archive_entry **ret, struct error *err)
{
	struct tar *t = container_of(x, struct tar, x);

	for (;;) {
		int found = x->archive != NULL ? next_in_archive(t, ret, err) : 0;

		if (found != 0)
			return found;
		if (x->archive != NULL)
			put_back_unconsumed(t);
		found = archive_feed_next_archive(x, tar_matches, err);
		if (found > 0)
			found = check_volume(t, err);
		if (found > 0)
			found = open_archive(t, err);
		if (found <= 0)
			return found;
	}
}

static int tar_unpack(
	const struct unpack_env *env, const struct unpack_input *input, struct error *err)
{
	static const struct entry_reader reader = {.next = tar_next, .block = archive_next_block};
	struct tar t = {
		.x = {.env = env, .input = input, .format = "tar", .reader = &reader},
		.feed = {.in = input->in},
	};
	int code;

	t.x.feed = &t.feed;
	code = archive_extract_entries(&t.x, err);
	archive_read_free(t.x.archive);
	archive_feed_done(&t.feed);
	if (t.reserved > 0)
		budget_release(env->budget, t.reserved);
	return code;
}

const struct unpacker unpack_tar = {.name = "tar", .matches = tar_matches, .unpack = tar_unpack};
