/* SPDX-License-Identifier: MIT */
/* A zip entry that is too large for one piece of memory: inflated and written as its bytes arrive.
 * The walking thread's. */
#include "zip_large.h"
#include "defer.h"
#include "text.h"
#include <inttypes.h>
#include <isa-l/igzip_lib.h>
#include <libdeflate.h>

#define OUTPUT_BYTES ((size_t)256 << 10)

struct large {
	struct zip_stream *stream;
	const struct zip_entry *entry;
	const struct zip_target *to;
	uint64_t written;
	uint32_t crc;
	struct inflate_state state;
	uint8_t output[OUTPUT_BYTES];
};

static int wrong_length(const struct zip_entry *e, struct error *err)
{
	return error_set(err, -ERR_FORMAT,
		"the data of '%s' is not as long as the zip says (%" PRIu64 " bytes)", e->name,
		e->size);
}

static int put(struct large *l, const uint8_t *bytes, size_t len, struct error *err)
{
	int r;

	if (len > l->entry->size - l->written)
		return wrong_length(l->entry, err);
	l->crc = libdeflate_crc32(l->crc, bytes, len);
	r = writer_file_write(l->to->writer, l->written, bytes, len, err);
	l->written += len;
	return r;
}

/* All that comes out for one slice of input. */
static int inflate_slice(struct large *l, const struct slice *in, struct error *err)
{
	struct inflate_state *z = &l->state;
	int r;

	z->next_in = (uint8_t *)in->data; /* not written to; the library knows no const */
	z->avail_in = (uint32_t)in->len;
	do {
		z->next_out = l->output;
		z->avail_out = OUTPUT_BYTES;
		if (isal_inflate(z) != ISAL_DECOMP_OK)
			return error_set(err, -ERR_FORMAT, "the compressed data of '%s' is damaged",
				l->entry->name);
		r = put(l, l->output, OUTPUT_BYTES - z->avail_out, err);
		if (r < 0)
			return r;
	} while (z->avail_out == 0 || (z->avail_in > 0 && z->block_state != ISAL_BLOCK_FINISH));
	return z->avail_in > 0 ? wrong_length(l->entry, err) : 0;
}

static int unpack_slice(struct large *l, const struct slice *in, struct error *err)
{
	if (cancel_requested(l->to->cancel))
		return error_set(err, -ECANCELED, "cancelled at '%s'", l->entry->name);
	return l->entry->method == ZIP_STORED ? put(l, in->data, in->len, err)
					      : inflate_slice(l, in, err);
}

static int unpack_slices(struct large *l, struct error *err)
{
	uint64_t left = l->entry->packed;
	int r = 0;

	while (left > 0 && r >= 0) {
		struct slice in = {0};

		/* isal_inflate() counts in 32 bits. */
		r = zip_stream_next(l->stream, left < UINT32_MAX ? left : UINT32_MAX, &in, err);
		if (r < 0)
			break;
		left -= in.len;
		r = unpack_slice(l, &in, err);
		slice_drop(&in);
	}
	return r;
}

static int check_whole(const struct large *l, struct error *err)
{
	const struct zip_entry *e = l->entry;

	if (e->method == ZIP_DEFLATED && l->state.block_state != ISAL_BLOCK_FINISH)
		return wrong_length(e, err);
	if (l->written != e->size)
		return wrong_length(e, err);
	if (l->crc != e->crc)
		return error_set(err, -ERR_FORMAT,
			"'%s' is damaged: its checksum is not the one in the zip", e->name);
	return 0;
}

int zip_unpack_large(struct zip_stream *s, const struct zip_entry *e, const struct zip_target *to,
	struct error *err)
{
	_free_ struct large *l = zalloc(sizeof(*l));
	int r;

	l->stream = s;
	l->entry = e;
	l->to = to;
	isal_inflate_init(&l->state);
	r = writer_file_open(to->writer, to->name, &e->meta, e->size, false, err);
	if (r >= 0)
		r = unpack_slices(l, err);
	if (r >= 0)
		r = check_whole(l, err);
	if (r >= 0)
		r = writer_file_close(to->writer, err);
	return r;
}
