/* SPDX-License-Identifier: MIT */
/* The end of a zip file, which says where its central directory is, and the directory itself, in
 * the order of the data. Worker thread. The directory is read from an unnamed file, so that it can
 * have any size. Practically every zip lists its entries in the order of their data; for the
 * others, an index is sorted in a mapped file, whose pages the kernel can evict. */
#include "defer.h"
#include "text.h"
#include "unpack_private.h"
#include "zip_private.h"
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define END_BYTES           22
#define END64_BYTES         56
#define END64_LOCATOR_BYTES 20
#define LOCAL_BYTES         30
#define FRONT_MAX           ((uint64_t)16 << 20)
#define FRONT_STEP          ((size_t)512 << 10)
#define TAIL_MAX            (END_BYTES + (size_t)UINT16_MAX + END64_LOCATOR_BYTES + END64_BYTES)

/* The last bytes of the object. */
struct tail {
	uint8_t *bytes;
	size_t len;
	uint64_t at;
};

uint64_t zip_begin(const uint8_t *first, size_t len)
{
	if (len >= 4 && memcmp(first, "PK\3\4", 4) == 0)
		return 0;
	if (len >= 8 &&
		(memcmp(first, "PK\7\10PK\3\4", 8) == 0 || memcmp(first, "PK00PK\3\4", 8) == 0))
		return 4;
	return SIZE_UNKNOWN;
}

/* Returns the offset of the end record in the tail; -1: there is none. The record is followed by
 * its comment and nothing else, which distinguishes it from a signature inside the comment. Bytes
 * behind the comment are tolerated when there is no better match. */
static ssize_t find_end_record(const struct tail *t)
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

/* Reads the 64-bit record: where the locator says or, when bytes were put in front of the zip so
 * that all offsets in it are too small, right in front of the locator. */
static int read_end64(struct object *o, const uint8_t *locator, uint64_t locator_at,
	uint8_t *record, uint64_t *ret_at, struct error *err)
{
	uint64_t candidates[2] = {get64(locator + 8), locator_at - END64_BYTES};

	for (int i = 0; i < 2; i++) {
		int code;

		if (locator_at < END64_BYTES || candidates[i] > locator_at - END64_BYTES)
			continue;
		code = object_read_at(o, candidates[i], record, END64_BYTES, err);
		if (code < 0)
			return code;
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
		"the zip is one part of several (a split archive), or parts that were only put together: join them with 'zip -s 0 in.zip --out joined.zip'");
}

/* APPNOTE 4.4.1.4: the 64-bit record has the values that a field is too small for. */
static bool is_saturated(const uint8_t *end)
{
	return get16(end + 8) == UINT16_MAX || get16(end + 10) == UINT16_MAX ||
	       get32(end + 12) == UINT32_MAX || get32(end + 16) == UINT32_MAX;
}

static bool numbers_agree(const uint8_t *end, const uint8_t *record64)
{
	return get64(record64 + 32) == get16(end + 10) && get64(record64 + 40) == get32(end + 12) &&
	       get64(record64 + 48) == get32(end + 16);
}

static int read_numbers64(struct object *o, const struct tail *t, size_t locator_at,
	struct zip_end *ret, uint64_t *ret_end_at, struct error *err)
{
	const uint8_t *locator = t->bytes + locator_at, *end = locator + END64_LOCATOR_BYTES;
	uint8_t record[END64_BYTES] = {0};
	int code = read_end64(o, locator, t->at + locator_at, record, ret_end_at, err);

	/* If no field was too small, this is a record that is not needed, or a comment that looks
	 * like one. */
	if (!is_saturated(end) && (code == -ERR_FORMAT || !numbers_agree(end, record)))
		return 0;
	if (code < 0)
		return code;
	if (get32(record + 16) != 0 || get32(record + 20) != 0 ||
		get64(record + 24) != get64(record + 32))
		return multi_disk(err);
	ret->entries = get64(record + 32);
	ret->directory_len = get64(record + 40);
	ret->directory_at = get64(record + 48);
	return 1;
}

/* Reads the offset, length and number of entries of the directory. *ret_end_at: the offset where it
 * ends if nothing lies in between. */
static int read_numbers(struct object *o, const struct tail *t, size_t at, struct zip_end *ret,
	uint64_t *ret_end_at, struct error *err)
{
	const uint8_t *p = t->bytes + at;
	int found = 0;

	if (at >= END64_LOCATOR_BYTES && memcmp(p - END64_LOCATOR_BYTES, "PK\6\7", 4) == 0)
		found = read_numbers64(o, t, at - END64_LOCATOR_BYTES, ret, ret_end_at, err);
	if (found != 0)
		return found < 0 ? found : 0;
	if (get16(p + 4) != 0 || get16(p + 6) != 0 || get16(p + 8) != get16(p + 10))
		return multi_disk(err);
	ret->entries = get16(p + 10);
	ret->directory_len = get32(p + 12);
	ret->directory_at = get32(p + 16);
	*ret_end_at = t->at + at;
	return 0;
}

/* Returns how many bytes behind the end record and its comment are not padding. */
static uint64_t count_ignored(const struct tail *t, size_t at)
{
	size_t end = at + END_BYTES + get16(t->bytes + at + 20);
	size_t last = t->len;

	while (last > end && t->bytes[last - 1] == 0)
		last--;
	return last > end ? t->len - end : 0;
}

/* Checks more than the signature, which a program in front of a zip may contain as well. */
static bool is_local_header(const uint8_t *p)
{
	static const uint8_t methods[] = {0, 1, 6, 8, 9, 12, 14, 20, 93, 95, 98, 99};
	const unsigned name_len = get16(p + 26);

	return memcmp(p, "PK\3\4", 4) == 0 && p[4] < 100 && name_len > 0 && name_len < 4096 &&
	       p[9] == 0 && memchr(methods, p[8], sizeof(methods)) != NULL;
}

/* Whether an entry begins in front of the zip: 1, 0 or negative. What is put in front of a zip is a
 * program, and short, so only the first FRONT_MAX bytes are searched. */
static int has_entry_before(struct object *o, uint64_t zip_at, struct error *err)
{
	uint64_t end = zip_at < FRONT_MAX ? zip_at : FRONT_MAX;
	size_t len = end < FRONT_STEP ? (size_t)end : FRONT_STEP;
	_free_ uint8_t *bytes = zalloc(len + 1);

	for (uint64_t at = 0; at + LOCAL_BYTES <= end; at += len - LOCAL_BYTES + 1) {
		int code;

		if (len > end - at)
			len = (size_t)(end - at);
		code = object_read_at(o, at, bytes, len, err);
		if (code < 0)
			return code;
		for (size_t i = 0; i + LOCAL_BYTES <= len; i++)
			if (bytes[i] == 'P' && is_local_header(bytes + i))
				return 1;
	}
	return 0;
}

/* The error for wrapped offsets whose full values cannot be determined. */
static int ambiguous_offsets(struct error *err)
{
	return error_set(err, -ERR_UNSUPPORTED,
		"the zip is larger than 4 GiB, yet has no 64-bit offsets (as macOS makes it), and where its entries are cannot be told for certain: pack it again with another program");
}

/* Checks that no entry lies in front of the zip that the end record describes. Otherwise, the last
 * end record is that of another zip, which is stored in this one or was appended to it. */
static int check_begin(struct object *o, uint64_t begin, struct zip_end *end, struct error *err)
{
	int before = end->shift > begin;

	if (begin == SIZE_UNKNOWN)
		before = has_entry_before(o, end->shift, err);
	else if (end->directory_len == 0)
		return error_set(err, -ERR_TRUNCATED,
			"it begins like a zip, yet the directory at its end lists nothing: it is cut short, or damaged");
	if (before <= 0)
		return before;
	if (end->shift % ((uint64_t)1 << 32) == 0) {
		end->wrapped = true; /* as macOS writes zips above 4 GiB */
		end->shift = 0;
		return 0;
	}
	return error_set(err, -ERR_TRUNCATED,
		"the zip is cut short, or is several in one file: the directory at its end is of a zip that begins at byte %" PRIu64
		" of it",
		end->shift);
}

static int locate_directory(
	struct object *o, const struct tail *t, struct zip_end *ret, struct error *err)
{
	struct zip_end end = {0};
	ssize_t at = find_end_record(t);
	uint64_t end_at = 0;
	int code;

	if (at < 0)
		return error_set(err, -ERR_TRUNCATED,
			"it begins like a zip but has no end record: it is cut short, or something else (then use --no-extract, or extract: false)");
	code = read_numbers(o, t, (size_t)at, &end, &end_at, err);
	if (code < 0)
		return code;
	if (end.directory_len > end_at || end.directory_at > end_at - end.directory_len)
		return error_set(err, -ERR_FORMAT,
			"the zip's directory (%" PRIu64 " bytes at %" PRIu64
			") does not fit before its end record at %" PRIu64,
			end.directory_len, end.directory_at, end_at);
	end.shift = end_at - end.directory_len - end.directory_at;
	end.directory_at += end.shift;
	end.ignored = count_ignored(t, (size_t)at);
	*ret = end;
	return 0;
}

/* The caller frees ret->bytes, also on failure. */
static int read_tail(struct object *o, struct tail *ret, struct error *err)
{
	uint64_t size = o->identity.size;

	ret->len = size < TAIL_MAX ? (size_t)size : TAIL_MAX;
	ret->bytes = zalloc(ret->len + 1);
	ret->at = size - ret->len;
	return object_read_at(o, ret->at, ret->bytes, ret->len, err);
}

int zip_find_end(struct object *o, uint64_t begin, struct zip_end *ret, struct error *err)
{
	struct tail t;
	int code = read_tail(o, &t, err);

	if (code == 0)
		code = locate_directory(o, &t, ret, err);
	free(t.bytes);
	return code < 0 ? code : check_begin(o, begin, ret, err);
}

/* Whether the end record leads to a directory, and no entry lies in front of the zip: 1, 0 or
 * negative. */
static int leads_to_directory(struct object *o, const struct tail *t, struct error *err)
{
	uint8_t record[4] = {0};
	struct zip_end end = {0};
	int code = locate_directory(o, t, &end, err), before;

	if (code == -ERR_FORMAT || code == -ERR_TRUNCATED || code == -ERR_UNSUPPORTED)
		return 0;
	if (code == 0 && (end.directory_len < sizeof(record) || end.ignored > 0))
		return 0;
	if (code == 0)
		code = object_read_at(o, end.directory_at, record, sizeof(record), err);
	if (code < 0 || memcmp(record, "PK\1\2", sizeof(record)) != 0)
		return code;
	before = has_entry_before(o, end.shift, err);
	return before < 0 ? before : before == 0;
}

int zip_is_at_end(struct object *o, bool surely, struct error *err)
{
	struct tail t;
	int code = read_tail(o, &t, err);
	int found = code < 0 ? code : find_end_record(&t) >= 0;

	if (found > 0 && surely)
		found = leads_to_directory(o, &t, err);
	free(t.bytes);
	return found;
}

/* The index of the entries, and its sorting. */

/* Where the data of an entry is, and where its record is in the copy of the directory. */
struct zip_index_entry {
	uint64_t header_at;
	uint64_t record_at;
};

static bool comes_before(const struct zip_index_entry *a, const struct zip_index_entry *b)
{
	return a->header_at != b->header_at ? a->header_at < b->header_at
					    : a->record_at < b->record_at;
}

static void sift_down(struct zip_index_entry *heap, uint64_t i, uint64_t n)
{
	struct zip_index_entry moving = heap[i];

	for (;;) {
		uint64_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && comes_before(&heap[child], &heap[child + 1]))
			child++;
		if (!comes_before(&moving, &heap[child]))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moving;
}

/* Sorts by header_at, then by record_at. A heap sort, which works in place: glibc's qsort() would
 * allocate as much memory again. */
static void sort_positions(struct zip_index_entry *positions, uint64_t n)
{
	for (uint64_t i = n / 2; i > 0; i--)
		sift_down(positions, i - 1, n);
	for (uint64_t last = n; last > 1; last--) {
		struct zip_index_entry largest = positions[0];

		positions[0] = positions[last - 1];
		positions[last - 1] = largest;
		sift_down(positions, 0, last - 1);
	}
}

/* The directory. */

#define READ_BYTES  ((size_t)64 << 10)
#define COPY_BYTES  ((size_t)512 << 10) /* few requests, since each may go to a server */
#define INDEX_CHUNK 512

struct zip_directory {
	/* Set when opened. */
	const struct unpack_env *env;
	struct object *zip;
	struct object *copy; /* the directory's bytes that were checked so far */
	uint64_t len;        /* in bytes, of the directory */
	uint64_t data_end;   /* offset of the directory in the zip; the entries' data precedes it */
	uint64_t shift;
	bool wrapped;            /* see struct zip_end */
	uint64_t n;              /* number of records */
	uint64_t bytes, entries; /* of the selected entries, unpacked */
	bool coded;              /* a selected entry needs a decoder */
	struct zip_charset *charset;
	char *unmarked;       /* an entry's name in an unknown character set; NULL: none */
	char *backslashes;    /* an entry's name with backslashes as separators; NULL: none */
	bool in_data_order;   /* the records are in the order of the data */
	struct object *index; /* otherwise: positions of the records, sorted */
	struct zip_index_entry *positions; /* index, mapped; n elements */

	/* While iterating. */
	uint64_t at;        /* offset of the next record in copy */
	uint64_t next;      /* next element of positions */
	uint64_t unwrapped; /* the lowest possible end of the latest record's entry */
	/* the lowest possible end of the latest entry, as an offset in the zip */
	uint64_t covered;
	struct zip_entry entry;
	struct text last; /* the previous record */
	uint8_t *buf;     /* COPY_BYTES */
	uint64_t buf_at;  /* offset of buf in copy */
	size_t buf_len;
};

/* Copies the next bytes of the directory, through the buffer. */
static int copy_more(struct zip_directory *d, struct error *err)
{
	uint64_t copied = d->copy->identity.size;
	size_t n = d->len - copied < COPY_BYTES ? (size_t)(d->len - copied) : COPY_BYTES;
	int code;

	d->buf_len = 0;
	code = object_read_at(d->zip, d->data_end + copied, d->buf, n, err);
	return code < 0 ? code : scratch_append(d->copy, d->buf, n, err);
}

static int fill_buffer(struct zip_directory *d, uint64_t at, size_t want, struct error *err)
{
	uint64_t left = d->len - at;
	size_t n = want < READ_BYTES ? READ_BYTES : want;
	int code = 0;

	if (n > left)
		n = (size_t)left;
	while (code == 0 && d->copy->identity.size < at + n)
		code = copy_more(d, err);
	d->buf_at = at;
	d->buf_len = 0;
	if (code == 0)
		code = object_read_at(d->copy, at, d->buf, n, err);
	if (code < 0)
		return code;
	d->buf_len = n;
	return 0;
}

/* Returns at least want bytes at this offset of the copy, or as many as there are. */
static int read_copy(struct zip_directory *d, uint64_t at, size_t want, const uint8_t **ret,
	size_t *ret_len, struct error *err)
{
	int code = 0;

	if (at < d->buf_at || at > d->buf_at + d->buf_len || at + want > d->buf_at + d->buf_len)
		code = fill_buffer(d, at, want, err);
	if (code < 0)
		return code;
	*ret = d->buf + (at - d->buf_at);
	*ret_len = d->buf_len - (size_t)(at - d->buf_at);
	return 0;
}

static int bad_record(const struct zip_directory *d, uint64_t at, struct error *err)
{
	const char *after = d->entry.name;

	return error_set(err, -ERR_FORMAT,
		"the zip's directory is damaged at byte %" PRIu64 " of it%s%s%s", at,
		after != NULL ? ", after '" : "", after != NULL ? after : "",
		after != NULL ? "'" : "");
}

/* Reads the whole record at this offset and parses it into d->entry: 1, 0 at the directory's end,
 * or negative. */
static int read_record(struct zip_directory *d, uint64_t at, const uint8_t **ret, size_t *ret_len,
	struct error *err)
{
	const uint8_t *p;
	size_t have, len;
	int code;

	if (at == d->len)
		return 0;
	code = read_copy(d, at, ZIP_RECORD_BYTES, &p, &have, err);
	if (code < 0)
		return code;
	if (have >= 4 && memcmp(p, "PK\5\5", 4) == 0) /* the digital signature of the directory */
		return 0;
	if (have < ZIP_RECORD_BYTES || memcmp(p, "PK\1\2", 4) != 0)
		return bad_record(d, at, err);
	len = zip_record_len(p);
	code = read_copy(d, at, len, &p, &have, err);
	if (code < 0)
		return code;
	if (have < len)
		return bad_record(d, at, err);
	code = zip_entry_parse(&d->entry, p, d->shift, err);
	if (code < 0)
		return code;
	*ret = p;
	*ret_len = len;
	return 1;
}

/* Returns the first offset, from the end of the previous entry on, that equals this one modulo 4
 * GiB. In such a directory, entries are listed in the order of their data, and none is larger: the
 * local headers, and the end of the last entry, prove the result. */
static uint64_t unwrap(const struct zip_directory *d, uint64_t offset)
{
	return d->unwrapped + (uint32_t)((uint32_t)offset - (uint32_t)d->unwrapped);
}

static int unwrap_entry(struct zip_directory *d, struct error *err)
{
	d->entry.header_at = unwrap(d, d->entry.header_at);
	d->unwrapped = zip_entry_end(&d->entry);
	return d->unwrapped > d->data_end ? ambiguous_offsets(err) : 1;
}

/* Reads the next record in the order of the directory. */
static int next_listed(
	struct zip_directory *d, const uint8_t **ret, size_t *ret_len, struct error *err)
{
	int found = cancel_requested(d->env->cancel) ? error_set(err, -ECANCELED, "cancelled")
						     : read_record(d, d->at, ret, ret_len, err);

	if (found > 0)
		d->at += *ret_len;
	return found > 0 && d->wrapped ? unwrap_entry(d, err) : found;
}

/* Reads the next record in the order of the data. */
static int next_in_data_order(
	struct zip_directory *d, const uint8_t **ret, size_t *ret_len, struct error *err)
{
	if (d->positions == NULL)
		return next_listed(d, ret, ret_len, err);
	if (d->next == d->n)
		return 0;
	return read_record(d, d->positions[d->next++].record_at, ret, ret_len, err);
}

/* Whether the record repeats the previous one; if not, it is stored for the next call. Some writers
 * list an entry twice. Both records refer to the same data, so one follows the other. */
static bool is_repeated(struct zip_directory *d, const uint8_t *record, size_t len)
{
	if (len > 0 && len == d->last.len && memcmp(record, d->last.s, len) == 0)
		return true;
	d->last.len = 0;
	text_add_bytes(&d->last, record, len);
	return false;
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

static int check_entry(struct zip_directory *d, struct error *err)
{
	const struct zip_entry *e = &d->entry;
	const char *name;
	int selected = select_entry(d->env->selection, e->name, &name, err), code;

	if (selected <= 0)
		return selected;
	code = zip_entry_check(e, err);
	if (code < 0)
		return code;
	if (e->unmarked && d->unmarked == NULL)
		d->unmarked = text_copy(e->name);
	if (e->backslashes && d->backslashes == NULL)
		d->backslashes = text_copy(e->name);
	d->coded |= zip_method_needs_decoder(e);
	d->bytes = add_saturating(d->bytes, e->size);
	return tree_check_entries(d->env->tree, ++d->entries, err);
}

static int check_all_entries(struct zip_directory *d, struct error *err)
{
	uint64_t previous = 0;
	const uint8_t *record = NULL;
	size_t len = 0;
	int found = 0, code = 0;

	d->in_data_order = true;
	while (code == 0 && (found = next_listed(d, &record, &len, err)) > 0) {
		d->n++;
		d->in_data_order &= d->entry.header_at >= previous;
		previous = d->entry.header_at;
		if (!is_repeated(d, record, len))
			code = check_entry(d, err);
	}
	if (code == 0)
		code = found;
	if (code == 0 && d->wrapped && unwrap(d, d->data_end) != d->data_end)
		code = ambiguous_offsets(err);
	d->at = 0;
	d->unwrapped = 0;
	d->last.len = 0;
	return code;
}

static int append_positions(struct zip_directory *d, struct error *err)
{
	struct zip_index_entry chunk[INDEX_CHUNK];
	const uint8_t *record = NULL;
	size_t n = 0, len = 0;
	int found = 1;

	while (found > 0) {
		uint64_t at = d->at;

		found = next_listed(d, &record, &len, err);
		if (found > 0)
			chunk[n++] = (struct zip_index_entry){d->entry.header_at, at};
		if (n == INDEX_CHUNK || (found == 0 && n > 0)) {
			int code = scratch_append(d->index, chunk, n * sizeof(chunk[0]), err);

			if (code < 0)
				return code;
			n = 0;
		}
	}
	return found;
}

static int build_index(struct zip_directory *d, struct error *err)
{
	int code = scratch_new(d->env, d->copy->name, &d->index, err);
	void *map;

	if (code == 0)
		code = append_positions(d, err);
	if (code < 0)
		return code;
	map = mmap(NULL, d->n * sizeof(struct zip_index_entry), PROT_READ | PROT_WRITE, MAP_SHARED,
		scratch_fd(d->index), 0);
	if (map == MAP_FAILED)
		return error_set(err, -errno, "map the index of the zip's entries: %m");
	d->positions = map;
	sort_positions(d->positions, d->n);
	return 0;
}

/* Writers that do not know the 64-bit record let the 16-bit count wrap. */
static bool count_agrees(uint64_t n, uint64_t said)
{
	return n == said || (said <= UINT16_MAX && (n & UINT16_MAX) == said);
}

static int open_copy(struct zip_directory *d, const struct zip_end *end, struct error *err)
{
	int code = check_all_entries(d, err);

	if (code < 0)
		return code;
	if (!count_agrees(d->n, end->entries))
		return error_set(err, -ERR_FORMAT,
			"the zip says it has %" PRIu64 " entries but its directory lists %" PRIu64,
			end->entries, d->n);
	return d->in_data_order ? 0 : build_index(d, err);
}

int zip_directory_open(const struct unpack_env *env, struct object *o, const struct zip_end *end,
	struct zip_directory **ret, struct error *err)
{
	struct zip_directory *d = zalloc(sizeof(*d));
	int code;

	d->env = env;
	d->zip = o;
	d->len = end->directory_len;
	d->data_end = end->directory_at;
	d->shift = end->shift;
	d->wrapped = end->wrapped;
	d->buf = zalloc(COPY_BYTES);
	code = zip_charset_open(env->zip_names, &d->charset, err);
	d->entry.charset = d->charset;
	if (code == 0)
		code = scratch_new(env, o->name, &d->copy, err);
	if (code == 0)
		code = open_copy(d, end, err);
	if (code < 0)
		zip_directory_close(d);
	else
		*ret = d;
	return code;
}

void zip_directory_close(struct zip_directory *d)
{
	if (d == NULL)
		return;
	if (d->positions != NULL)
		munmap(d->positions, d->n * sizeof(struct zip_index_entry));
	object_close(d->index);
	object_close(d->copy);
	zip_entry_done(&d->entry);
	text_done(&d->last);
	zip_charset_close(d->charset);
	free(d->unmarked);
	free(d->backslashes);
	free(d->buf);
	free(d);
}

void zip_directory_sum(const struct zip_directory *d, uint64_t *ret_bytes, uint64_t *ret_entries)
{
	*ret_bytes = d->bytes;
	*ret_entries = d->entries;
}

bool zip_directory_needs_decoder(const struct zip_directory *d)
{
	return d->coded;
}

const char *zip_directory_unmarked(const struct zip_directory *d)
{
	return d->unmarked;
}

const char *zip_directory_backslashes(const struct zip_directory *d)
{
	return d->backslashes;
}

/* Zip bombs let many entries share the same data, which no honest writer does. */
static int check_layout(struct zip_directory *d, struct error *err)
{
	const struct zip_entry *e = &d->entry;
	uint64_t end = zip_entry_end(e);

	if (e->header_at < d->covered)
		return error_set(err, -ERR_REFUSED,
			"'%s' at byte %" PRIu64 " of the zip overlaps the entry before it", e->name,
			e->header_at);
	if (end > d->data_end)
		return error_set(err, -ERR_FORMAT,
			"'%s' would reach into the zip's directory, to byte %" PRIu64, e->name,
			end);
	d->covered = end;
	return 0;
}

int zip_directory_next(struct zip_directory *d, struct zip_entry **e, struct error *err)
{
	const uint8_t *record = NULL;
	size_t len = 0;
	int found, code;

	do {
		found = next_in_data_order(d, &record, &len, err);
	} while (found > 0 && is_repeated(d, record, len));
	if (found <= 0)
		return found;
	*e = &d->entry;
	code = check_layout(d, err);
	return code < 0 ? code : 1;
}
