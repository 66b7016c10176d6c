/* SPDX-License-Identifier: MIT */
/* Entries to parts of an index. A part is text that grows in memory until it is full, and then one zstd frame.
 * An object or a frame is named where an entry first needs it. One thread at a time. */
#include "defer.h"
#include "digest.h"
#include "index.h"
#include "index_frames.h"
#include "index_line.h"
#include <inttypes.h>
#include <string.h>
#include <zstd.h>

/* Digests do not shrink below their half, whatever the effort; names do at once. */
enum { LEVEL = 3 };

struct index_writer {
	int (*on_part)(void *ctx, const struct index_part_info *part, struct error *err);
	void *ctx;
	ZSTD_CCtx *compressor;

	/* Of the part that grows. */
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

/* What no reader would take must not be written. */
static int check(const struct index_entry *e, const struct index_frame *frames, size_t n_frames,
	struct error *err)
{
	uint64_t raw = 0;

	if (!path_is_plain(e->path))
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

static int hand_out(struct index_writer *w, struct error *err)
{
	_free_ void *bytes = NULL;
	struct index_part_info part = {.entries = w->entries, .first = w->first, .last = w->last};
	int r = compress(w, &bytes, &part.len, err);

	if (r < 0)
		return r;
	part.bytes = bytes;
	digest_hex(bytes, part.len, part.sha256);
	r = w->on_part(w->ctx, &part, err);
	w->text.len = 0;
	w->entries = 0;
	free(take_ptr(&w->first));
	free(take_ptr(&w->last));
	frame_numbers_done(&w->numbers);
	return r;
}

static void begin(struct index_writer *w, const struct index_entry *e)
{
	text_addf(&w->text, "stagerun-index\t%d\n", INDEX_FORMAT);
	w->first = copy_text(e->path);
}

int index_writer_add(struct index_writer *w, const struct index_entry *e, const char *object,
	const struct index_frame *frames, size_t n_frames, struct error *err)
{
	uint32_t frame = INDEX_NO_FRAME;
	int r = check(e, frames, n_frames, err);

	if (r < 0)
		return r;
	if (w->entries == 0)
		begin(w, e);
	if (has_content(e))
		frame = frame_numbers_get(&w->numbers, &w->text, object, frames, n_frames);
	add_line(&w->text, e, frame);
	free(w->last);
	w->last = copy_text(e->path);
	w->entries++;
	if (w->text.len > INDEX_TEXT_MAX)
		return error_set(err, -ERR_LIMIT, "'%.300s' has more frames than an index can name",
			e->path);
	if (w->entries < INDEX_PART_ENTRIES && w->text.len < INDEX_PART_TEXT)
		return 0;
	return hand_out(w, err);
}

int index_writer_finish(struct index_writer *w, struct error *err)
{
	return w->entries > 0 ? hand_out(w, err) : 0;
}
