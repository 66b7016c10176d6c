/* SPDX-License-Identifier: MIT */
/* One file of a stream. Small ones are gathered and go into a pack whole; of large ones each frame goes on its
 * way as it is full. One thread, that of the entry. */
#include "defer.h"
#include "digest.h"
#include "pack_tar.h"
#include "reader.h"
#include "stream.h"
#include <errno.h>
#include <string.h>

struct stream_file {
	struct stream *stream;
	struct item *item;
	uint64_t size; /* promised, or SIZE_UNKNOWN */
	uint64_t end;  /* so far */
	struct sha256_ctx sha256;

	uint8_t *bytes; /* of a small file */
	size_t cap;

	bool is_large;
	struct out out;
	struct large *headless; /* its header comes when its size is known */
};

static void file_free(struct stream_file *f)
{
	out_done(&f->out);
	free(f->bytes);
	free(f);
}

/* The item of a large file is the stream's from the beginning: so are the frames under way. */
void stream_file_abandon(void *file)
{
	struct stream_file *f = file;

	if (!f->is_large)
		item_free(f->item);
	file_free(f);
}

static int begin_large(struct stream_file *f, struct large *l, struct error *err)
{
	struct hands *hands = NULL;
	int r = stream_hands(f->stream, &hands, err);

	out_begin(&f->out, hands, l, f->item);
	stream_keep(f->stream, f->item);
	f->is_large = true;
	return r;
}

static int begin_known(struct stream_file *f, struct error *err)
{
	struct text header = {0};
	int r;

	r = begin_large(f, large_new_streamed(f->size), err);
	tar_header(&header, f->item);
	f->item->at = header.len;
	if (r == 0)
		r = out_put(&f->out, header.s, header.len, err);
	text_done(&header);
	return r;
}

/* What was taken for a small file grows on. */
static int begin_unknown(struct stream_file *f, struct error *err)
{
	int r;

	f->headless = large_new_headless();
	r = begin_large(f, f->headless, err);
	if (r == 0)
		r = out_put(&f->out, f->bytes, f->end, err);
	free(take_ptr(&f->bytes));
	return r;
}

int stream_file_open(void *ctx, const struct tree_sink_file *file, void **ret, struct error *err)
{
	struct stream_file *f = zalloc(sizeof(*f));
	int r = 0;

	f->stream = ctx;
	f->size = file->size;
	f->item = item_new(INDEX_FILE, file->path, NULL, NULL);
	f->item->mode = file->meta->mode & 0777;
	f->item->mtime = file->meta->mtime;
	f->item->existing = file->existing;
	sha256_init(&f->sha256);
	if (f->size != SIZE_UNKNOWN)
		f->item->size = f->size;
	if (f->size != SIZE_UNKNOWN && f->size >= LARGE_MIN)
		r = begin_known(f, err);
	if (r < 0) {
		stream_file_abandon(f);
		return r;
	}
	*ret = f;
	return 0;
}

static int reserve(struct stream_file *f, size_t more, struct error *err)
{
	size_t cap = f->size != SIZE_UNKNOWN ? (size_t)f->size : (size_t)f->end * 2 + more;
	uint8_t *bytes;

	if (f->cap - f->end >= more)
		return 0;
	bytes = realloc(f->bytes, cap);
	if (bytes == NULL)
		return error_set(err, -ENOMEM, "no memory for a file of %zu bytes", cap);
	f->bytes = bytes;
	f->cap = cap;
	return 0;
}

/* bytes NULL: zeros. */
static int add_small(struct stream_file *f, const void *bytes, size_t len, struct error *err)
{
	int r = reserve(f, len, err);

	if (r < 0 || f->bytes == NULL)
		return r;
	if (bytes != NULL)
		memcpy(f->bytes + f->end, bytes, len);
	else
		memset(f->bytes + f->end, 0, len);
	sha256_update(&f->sha256, len, f->bytes + f->end);
	f->end += len;
	return 0;
}

static int add(struct stream_file *f, const void *bytes, size_t len, struct error *err)
{
	int r = 0;

	if (!f->is_large && f->size == SIZE_UNKNOWN && f->end + len >= LARGE_MIN)
		r = begin_unknown(f, err);
	if (r < 0 || !f->is_large)
		return r < 0 ? r : add_small(f, bytes, len, err);
	sha256_update(&f->sha256, len, bytes);
	f->end += len;
	return out_put(&f->out, bytes, len, err);
}

/* A gap in what is written, up to offset: zeros. */
static int add_zeros(struct stream_file *f, uint64_t offset, struct error *err)
{
	static const uint8_t zeros[64 << 10];
	int r = 0;

	while (r == 0 && f->end < offset) {
		uint64_t n = offset - f->end;

		f->item->sparse = true;
		r = add(f, zeros, n < sizeof(zeros) ? (size_t)n : sizeof(zeros), err);
	}
	return r;
}

int stream_file_write(void *file, uint64_t offset, const void *bytes, size_t len, struct error *err)
{
	struct stream_file *f = file;
	int r = add_zeros(f, offset, err);

	return r < 0 ? r : add(f, bytes, len, err);
}

static int end_large(struct stream_file *f, struct error *err)
{
	int r;

	if (f->headless != NULL)
		large_set_header(f->headless, f->item);
	r = out_put(&f->out, NULL, tar_padding(f->item->size), err);
	return r < 0 ? r : out_end(&f->out, err);
}

int stream_file_close(void *file, struct error *err)
{
	struct stream_file *f = file;
	int r = f->size != SIZE_UNKNOWN ? add_zeros(f, f->size, err) : 0;

	if (r < 0) {
		stream_file_abandon(f);
		return r;
	}
	f->item->size = f->end;
	sha256_digest(&f->sha256, sizeof(f->item->sha256), f->item->sha256);
	r = f->is_large ? end_large(f, err) : stream_add_member(f->stream, f->item, f->bytes, err);
	file_free(f);
	return r;
}
