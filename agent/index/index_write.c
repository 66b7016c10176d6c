/* SPDX-License-Identifier: MIT */
/* Writes an index. A part is text that grows in memory until it is full, and is then compressed
 * into one zstd frame. The line of an object or a frame precedes the first entry that needs it. One
 * thread at a time. */
#include "defer.h"
#include "digest.h"
#include "index.h"
#include <inttypes.h>
#include <string.h>
#include <zstd.h>

enum { FIRST_SLOTS = 256 };

struct numbered_frame {
	uint64_t offset;
	uint32_t object, length;
};

/* The numbers of objects and frames in the current part. The entries of a new version point into
 * packs of several older versions in any order, so that frames are found with a hash table. A run
 * of frames that was numbered in another order gets new numbers: this is rare, and readers do not
 * depend on it. */
struct frame_numbers {
	struct strings objects;
	struct numbered_frame *frames;
	size_t n_frames, frames_cap;
	uint32_t *slots; /* hash table of frame numbers + 1; 0: free */
	size_t n_slots;  /* a power of two */
};

static bool is_same_frame(
	const struct numbered_frame *a, uint32_t object, const struct index_frame *b)
{
	return a->offset == b->offset && a->length == b->length && a->object == object;
}

static size_t slot_of(const struct frame_numbers *n, uint32_t object, uint64_t offset)
{
	uint64_t h = (offset + ((uint64_t)object << 40)) * UINT64_C(0x9e3779b97f4a7c15);

	return (size_t)(h >> 32) & (n->n_slots - 1);
}

static void insert_frame(struct frame_numbers *n, uint32_t number)
{
	const struct numbered_frame *f = &n->frames[number];
	size_t i = slot_of(n, f->object, f->offset);

	while (n->slots[i] != 0)
		i = (i + 1) & (n->n_slots - 1);
	n->slots[i] = number + 1;
}

static void grow_slots(struct frame_numbers *n)
{
	if (n->n_slots > 2 * n->n_frames)
		return;
	n->n_slots = n->n_slots > 0 ? 2 * n->n_slots : FIRST_SLOTS;
	free(n->slots);
	n->slots = zalloc(n->n_slots * sizeof(*n->slots));
	for (uint32_t i = 0; i < n->n_frames; i++)
		insert_frame(n, i);
}

static uint32_t add_frame(
	struct frame_numbers *n, struct text *text, uint32_t object, const struct index_frame *f)
{
	if (n->n_frames == n->frames_cap) {
		n->frames_cap = n->frames_cap > 0 ? 2 * n->frames_cap : FIRST_SLOTS;
		n->frames = realloc(n->frames, n->frames_cap * sizeof(*n->frames));
		if (n->frames == NULL)
			abort();
	}
	grow_slots(n);
	n->frames[n->n_frames] =
		(struct numbered_frame){.offset = f->offset, .object = object, .length = f->length};
	insert_frame(n, (uint32_t)n->n_frames);
	text_addf(text, "k\t%" PRIu32 "\t%" PRIu64 "\t%" PRIu32 "\t%" PRIu32 "\n", object,
		f->offset, f->length, f->raw);
	return (uint32_t)n->n_frames++;
}

/* Searches from the end, since the entry before usually has the same object. */
static uint32_t object_number(struct frame_numbers *n, struct text *text, const char *key)
{
	for (size_t i = n->objects.n; i > 0; i--) {
		if (strcmp(n->objects.v[i - 1], key) == 0)
			return (uint32_t)(i - 1);
	}
	text_strings_add(&n->objects, key);
	text_addf(text, "p\t%s\n", key);
	return (uint32_t)(n->objects.n - 1);
}

/* Whether the frames have consecutive numbers from number on, as far as numbers exist; *ret_known:
 * how many of the frames have one. */
static bool follows(const struct frame_numbers *n, uint32_t number, uint32_t object,
	const struct index_frame *frames, size_t n_frames, size_t *ret_known)
{
	size_t i;

	for (i = 0; i < n_frames && number + i < n->n_frames; i++) {
		if (!is_same_frame(&n->frames[number + i], object, &frames[i]))
			return false;
	}
	*ret_known = i;
	return true;
}

/* Returns the number of the first frame; *ret_known: how many of the frames have a number, 0 if
 * none. */
static uint32_t find_frames(const struct frame_numbers *n, uint32_t object,
	const struct index_frame *frames, size_t n_frames, size_t *ret_known)
{
	*ret_known = 0;
	if (n->n_slots == 0)
		return 0;
	for (size_t i = slot_of(n, object, frames[0].offset); n->slots[i] != 0;
		i = (i + 1) & (n->n_slots - 1)) {
		uint32_t number = n->slots[i] - 1;

		if (follows(n, number, object, frames, n_frames, ret_known))
			return number;
	}
	*ret_known = 0;
	return 0;
}

/* Returns the number of the first of these frames, which are all in one object; the others have the
 * numbers after it. Lines for frames without a number are added to text. */
static uint32_t frame_numbers_get(struct frame_numbers *n, struct text *text, const char *object,
	const struct index_frame *frames, size_t n_frames)
{
	uint32_t in = object_number(n, text, object);
	size_t known;
	uint32_t first = find_frames(n, in, frames, n_frames, &known);

	if (known == 0)
		first = (uint32_t)n->n_frames;
	for (size_t i = known; i < n_frames; i++)
		add_frame(n, text, in, &frames[i]);
	return first;
}

static void frame_numbers_done(struct frame_numbers *n)
{
	text_strings_done(&n->objects);
	free(n->frames);
	free(n->slots);
	*n = (struct frame_numbers){0};
}

/* The writer. */

/* Digests do not compress to less than half at any level, and names compress well at each. */
enum { LEVEL = 3 };

struct index_writer {
	int (*on_part)(void *ctx, const struct index_part_info *part, struct error *err);
	void *ctx;
	ZSTD_CCtx *compressor;

	/* The current part. */
	struct text text;
	uint64_t entries;
	char *first, *last;
	struct frame_numbers numbers;
};

struct index_writer *index_writer_new(
	int (*on_part)(void *ctx, const struct index_part_info *part, struct error *err), void *ctx)
{
	struct index_writer *w = zalloc(sizeof(*w));

	w->on_part = on_part;
	w->ctx = ctx;
	w->compressor = ZSTD_createCCtx();
	if (w->compressor == NULL)
		abort();
	ZSTD_CCtx_setParameter(w->compressor, ZSTD_c_compressionLevel, LEVEL);
	ZSTD_CCtx_setParameter(w->compressor, ZSTD_c_checksumFlag, 1);
	return w;
}

void index_writer_free(struct index_writer *w)
{
	if (w == NULL)
		return;
	ZSTD_freeCCtx(w->compressor);
	text_done(&w->text);
	free(w->first);
	free(w->last);
	frame_numbers_done(&w->numbers);
	free(w);
}

static void add_escaped(struct text *t, const char *s)
{
	size_t plain;

	text_add(t, "\t");
	while (s[plain = strcspn(s, "\t\n\r\\")] != '\0') {
		const char *as = s[plain] == '\t'   ? "\\t"
				 : s[plain] == '\n' ? "\\n"
				 : s[plain] == '\r' ? "\\r"
						    : "\\\\";

		text_add_bytes(t, s, plain);
		text_add(t, as);
		s += plain + 1;
	}
	text_add_bytes(t, s, plain);
}

static void add_or_nothing(struct text *t, const char *s)
{
	if (s != NULL && *s != '\0')
		add_escaped(t, s);
	else
		text_add(t, "\t-");
}

static void add_content(struct text *t, const struct index_entry *e, uint32_t frame)
{
	text_addf(t, "\t%" PRIu64, e->size);
	add_or_nothing(t, e->sha256);
	if (e->size > 0)
		text_addf(t, "\t%" PRIu32 "\t%" PRIu32, frame, e->skip);
	else
		text_add(t, "\t-\t0");
	text_add(t, e->sparse ? "\ts" : "\t-");
}

static void add_line(struct text *t, const struct index_entry *e, uint32_t frame)
{
	text_addf(t, "%c\t%o\t%" PRId64 ".%09ld", (char)e->type, (unsigned)(e->mode & 07777),
		(int64_t)e->mtime.tv_sec, e->mtime.tv_nsec);
	if (e->type == INDEX_FILE || e->type == INDEX_HARDLINK)
		add_content(t, e, frame);
	if (e->type == INDEX_REFERENCE) {
		text_addf(t, "\t%" PRIu64, e->size);
		add_or_nothing(t, e->etag);
	}
	add_escaped(t, e->path);
	if (e->target != NULL)
		add_escaped(t, e->target);
	text_add(t, "\n");
}

static bool has_target(const struct index_entry *e)
{
	return e->type == INDEX_SYMLINK || e->type == INDEX_HARDLINK || e->type == INDEX_REFERENCE;
}

static bool has_content(const struct index_entry *e)
{
	return (e->type == INDEX_FILE || e->type == INDEX_HARDLINK) && e->size > 0;
}

/* Readers would refuse an index with such an entry. */
static int check_entry(const struct index_entry *e, const struct index_frame *frames,
	size_t n_frames, struct error *err)
{
	uint64_t raw = 0;

	if (!index_path_is_plain(e->path))
		return error_set(err, -ERR_UNSUPPORTED,
			"'%.300s' is no path that an index can have", e->path);
	if (has_target(e) != (e->target != NULL && *e->target != '\0'))
		return error_set(err, -ERR_UNSUPPORTED,
			"'%.300s' needs a target, and only links do", e->path);
	for (size_t i = 0; i < n_frames; i++)
		raw += frames[i].raw;
	if (has_content(e) &&
		(raw < e->skip || raw - e->skip < e->size || frames[0].raw <= e->skip))
		return error_set(err, -ERR_FORMAT,
			"the content of '%.300s' lies outside its frames", e->path);
	return 0;
}

static int compress(struct index_writer *w, void **ret, size_t *ret_len, struct error *err)
{
	size_t room = ZSTD_compressBound(w->text.len), n;
	_free_ void *bytes = malloc(room);

	if (bytes == NULL)
		return error_set(err, -ENOMEM, "no memory for a part of the index");
	n = ZSTD_compress2(w->compressor, bytes, room, w->text.s, w->text.len);
	if (ZSTD_isError(n))
		return error_set(
			err, -ENOMEM, "compress a part of the index: %s", ZSTD_getErrorName(n));
	*ret = take_ptr(&bytes);
	*ret_len = n;
	return 0;
}

static int emit_part(struct index_writer *w, struct error *err)
{
	_free_ void *bytes = NULL;
	struct index_part_info part = {.entries = w->entries, .first = w->first, .last = w->last};
	int code = compress(w, &bytes, &part.len, err);

	if (code < 0)
		return code;
	part.bytes = bytes;
	digest_hex(bytes, part.len, part.sha256);
	code = w->on_part(w->ctx, &part, err);
	w->text.len = 0;
	w->entries = 0;
	free(take_ptr(&w->first));
	free(take_ptr(&w->last));
	frame_numbers_done(&w->numbers);
	return code;
}

static void begin_part(struct index_writer *w, const struct index_entry *e)
{
	text_addf(&w->text, "stagerun-index\t%d\n", INDEX_FORMAT);
	w->first = text_copy(e->path);
}

int index_writer_add(struct index_writer *w, const struct index_entry *e, const char *object,
	const struct index_frame *frames, size_t n_frames, struct error *err)
{
	uint32_t frame = INDEX_NO_FRAME;
	int code = check_entry(e, frames, n_frames, err);

	if (code < 0)
		return code;
	if (w->entries == 0)
		begin_part(w, e);
	if (has_content(e))
		frame = frame_numbers_get(&w->numbers, &w->text, object, frames, n_frames);
	add_line(&w->text, e, frame);
	free(w->last);
	w->last = text_copy(e->path);
	w->entries++;
	if (w->text.len > INDEX_TEXT_MAX)
		return error_set(err, -ERR_LIMIT, "'%.300s' has more frames than an index can name",
			e->path);
	if (w->entries < INDEX_PART_ENTRIES && w->text.len < INDEX_PART_TEXT)
		return 0;
	return emit_part(w, err);
}

int index_writer_finish(struct index_writer *w, struct error *err)
{
	return w->entries > 0 ? emit_part(w, err) : 0;
}
