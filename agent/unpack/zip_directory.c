/* SPDX-License-Identifier: MIT */
/* A zip's central directory, streamed from an unnamed file so that it can have any size. Worker
 * thread. Practically every zip lists its entries in the order in which their data follows; for the
 * others an index is sorted in a mapped file, whose pages the kernel can take back. */
#include "defer.h"
#include "scratch.h"
#include "text.h"
#include "zip.h"
#include "zip_place.h"
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#define READ_BYTES  ((size_t)64 << 10)
#define INDEX_CHUNK 512

struct zip_directory {
	/* Set when opened. */
	const struct unpack_env *env;
	struct object *copy; /* the directory's bytes and nothing else */
	uint64_t len;        /* of copy */
	uint64_t data_end;   /* entries' data is before this offset of the zip */
	uint64_t shift;
	uint64_t n;               /* records */
	uint64_t bytes, entries;  /* of the selection, unpacked */
	bool rising;              /* records are in the order of the data */
	struct object *index;     /* else: their places, sorted */
	struct zip_place *places; /* index, mapped; n of them */

	/* While iterating. */
	uint64_t at;      /* in copy: the next record */
	uint64_t next;    /* in places */
	uint64_t covered; /* offset in the zip where the latest entry ends at the earliest */
	struct zip_entry entry;
	uint8_t *buf;    /* ZIP_RECORD_MAX bytes at most */
	uint64_t buf_at; /* of copy */
	size_t buf_len;
};

static int fill(struct zip_directory *d, uint64_t at, size_t want, struct error *err)
{
	uint64_t left = d->len - at;
	size_t n = want < READ_BYTES ? READ_BYTES : want;

	if (n > left)
		n = (size_t)left;
	d->buf_at = at;
	d->buf_len = 0;
	if (object_read_at(d->copy, at, d->buf, n, err) < 0)
		return err->code;
	d->buf_len = n;
	return 0;
}

/* At least want bytes at this place of the copy, or as many as there are. */
static int look_at(struct zip_directory *d, uint64_t at, size_t want, const uint8_t **ret,
	size_t *ret_len, struct error *err)
{
	int r = 0;

	if (at < d->buf_at || at > d->buf_at + d->buf_len || at + want > d->buf_at + d->buf_len)
		r = fill(d, at, want, err);
	if (r < 0)
		return r;
	*ret = d->buf + (at - d->buf_at);
	*ret_len = d->buf_len - (size_t)(at - d->buf_at);
	return 0;
}

static int bad_record(const struct zip_directory *d, uint64_t at, struct error *err)
{
	return error_set(err, -ERR_FORMAT,
		"the zip's directory is damaged at byte %" PRIu64 " of it, after '%s'", at,
		d->entry.name != NULL ? d->entry.name : "");
}

/* Parses the record at this place into d->entry: 1, 0 at the directory's end, or negative. */
static int read_record(struct zip_directory *d, uint64_t at, size_t *ret_len, struct error *err)
{
	const uint8_t *p;
	size_t have, len;
	int r;

	if (at == d->len)
		return 0;
	r = look_at(d, at, ZIP_RECORD_BYTES, &p, &have, err);
	if (r < 0)
		return r;
	if (have >= 4 && memcmp(p, "PK\5\5", 4) == 0) /* a signature over the directory */
		return 0;
	if (have < ZIP_RECORD_BYTES || memcmp(p, "PK\1\2", 4) != 0)
		return bad_record(d, at, err);
	len = zip_record_len(p);
	r = look_at(d, at, len, &p, &have, err);
	if (r < 0)
		return r;
	if (have < len)
		return bad_record(d, at, err);
	r = zip_entry_parse(&d->entry, p, d->shift, err);
	if (r < 0)
		return r;
	*ret_len = len;
	return 1;
}

/* The next record as they are listed. */
static int next_listed(struct zip_directory *d, struct error *err)
{
	size_t len = 0;
	int r = cancel_requested(d->env->cancel) ? error_set(err, -ECANCELED, "cancelled")
						 : read_record(d, d->at, &len, err);

	d->at += len;
	return r;
}

static uint64_t add_saturating(uint64_t a, uint64_t b)
{
	return a + b < a ? UINT64_MAX : a + b;
}

static int survey(struct zip_directory *d, struct error *err)
{
	uint64_t previous = 0;
	int r;

	d->rising = true;
	while ((r = next_listed(d, err)) > 0) {
		const struct zip_entry *e = &d->entry;

		d->n++;
		d->rising &= e->header_at >= previous;
		previous = e->header_at;
		if (selection_apply(d->env->selection, e->name) == NULL)
			continue;
		r = zip_entry_check(e, err);
		if (r < 0)
			break;
		d->entries++;
		d->bytes = add_saturating(d->bytes, e->size);
	}
	d->at = 0;
	return r;
}

static int append_places(struct zip_directory *d, struct error *err)
{
	struct zip_place chunk[INDEX_CHUNK];
	size_t n = 0;
	int r = 1;

	while (r > 0) {
		uint64_t at = d->at;

		r = next_listed(d, err);
		if (r > 0)
			chunk[n++] = (struct zip_place){d->entry.header_at, at};
		if (n == INDEX_CHUNK || (r == 0 && n > 0)) {
			if (scratch_append(d->index, chunk, n * sizeof(chunk[0]), err) < 0)
				return err->code;
			n = 0;
		}
	}
	return r;
}

static int build_index(struct zip_directory *d, struct error *err)
{
	int r = scratch_new(d->env, d->copy->name, &d->index, err);
	void *map;

	if (r >= 0)
		r = append_places(d, err);
	if (r < 0)
		return r;
	map = mmap(NULL, d->n * sizeof(struct zip_place), PROT_READ | PROT_WRITE, MAP_SHARED,
		scratch_fd(d->index), 0);
	if (map == MAP_FAILED)
		return error_set(err, -errno, "map the index of the zip's entries: %m");
	d->places = map;
	zip_places_sort(d->places, d->n);
	return 0;
}

/* Writers without the 64-bit record let the 16-bit count wrap. */
static bool count_agrees(uint64_t n, uint64_t said)
{
	return n == said || (said <= UINT16_MAX && (n & UINT16_MAX) == said);
}

static int open_copy(struct zip_directory *d, const struct zip_end *end, struct error *err)
{
	int r = survey(d, err);

	if (r < 0)
		return r;
	if (!count_agrees(d->n, end->entries))
		return error_set(err, -ERR_FORMAT,
			"the zip says it has %" PRIu64 " entries but its directory lists %" PRIu64,
			end->entries, d->n);
	return d->rising ? 0 : build_index(d, err);
}

int zip_directory_open(const struct unpack_env *env, struct object *o, const struct zip_end *end,
	struct zip_directory **ret, struct error *err)
{
	struct zip_directory *d = zalloc(sizeof(*d));
	int r;

	d->env = env;
	d->len = end->directory_len;
	d->data_end = end->directory_at;
	d->shift = end->shift;
	d->buf = zalloc(ZIP_RECORD_MAX);
	r = scratch_from_object(env, o, end->directory_at, end->directory_len, &d->copy, err);
	if (r >= 0)
		r = open_copy(d, end, err);
	if (r < 0)
		zip_directory_close(d);
	else
		*ret = d;
	return r;
}

void zip_directory_close(struct zip_directory *d)
{
	if (d == NULL)
		return;
	if (d->places != NULL)
		munmap(d->places, d->n * sizeof(struct zip_place));
	object_close(d->index);
	object_close(d->copy);
	zip_entry_done(&d->entry);
	free(d->buf);
	free(d);
}

void zip_directory_sum(const struct zip_directory *d, uint64_t *ret_bytes, uint64_t *ret_entries)
{
	*ret_bytes = d->bytes;
	*ret_entries = d->entries;
}

/* Bombs let many entries share the same data, and no honest writer does. */
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

int zip_directory_next(struct zip_directory *d, const struct zip_entry **e, struct error *err)
{
	size_t len;
	int r;

	if (d->places == NULL)
		r = next_listed(d, err);
	else if (d->next == d->n)
		r = 0;
	else
		r = read_record(d, d->places[d->next++].record_at, &len, err);
	if (r <= 0)
		return r;
	*e = &d->entry;
	r = check_layout(d, err);
	return r < 0 ? r : 1;
}
