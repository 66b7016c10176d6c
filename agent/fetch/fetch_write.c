/* SPDX-License-Identifier: MIT */
/* Content into the tree. A digest is made while the bytes are still in the processor's cache, and before a whole
 * file is there. */
#include "digest.h"
#include "fetch_private.h"
#include <string.h>
#include <sys/stat.h>

/* Zeros that are worth a hole: a page, wherever it begins in the file. */
enum { HOLE_BYTES = 4096 };

struct meta fetch_meta(const struct fetch *f, const struct index_entry *e)
{
	struct meta m = {.mode = e->mode, .mtime = e->mtime, .uid = f->uid, .gid = f->gid};

	if (f->opts->read_only)
		m.mode &= (mode_t) ~(S_IWUSR | S_IWGRP | S_IWOTH);
	return m;
}

static int wrong_digest(const struct index_entry *e, const char *got, struct error *err)
{
	return error_set(err, -ERR_DIGEST,
		"'%.300s' is damaged in the store: its SHA-256 is %s, and %s was stored", e->path,
		got, e->sha256);
}

static int check_digest(const struct index_entry *e, const uint8_t *bytes, struct error *err)
{
	char got[65];

	if (e->sha256 == NULL)
		return 0;
	digest_hex(bytes, (size_t)e->size, got);
	return strcmp(got, e->sha256) == 0 ? 0 : wrong_digest(e, got, err);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return len > 0 && bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0;
}

/* How many bytes from here on are pages of zeros (zero), or are none. */
static size_t run_length(uint64_t offset, const uint8_t *bytes, size_t len, bool *ret_zero)
{
	size_t n = 0;

	while (n < len) {
		size_t page = HOLE_BYTES - (size_t)((offset + n) % HOLE_BYTES);
		bool zero;

		if (page > len - n)
			page = len - n;
		zero = is_zero(bytes + n, page);
		if (n == 0)
			*ret_zero = zero;
		else if (zero != *ret_zero)
			break;
		n += page;
	}
	return n;
}

static int write_with_holes(
	struct writer *w, uint64_t offset, const uint8_t *bytes, size_t len, struct error *err)
{
	int r = 0;

	while (len > 0 && r == 0) {
		bool zero = false;
		size_t n = run_length(offset, bytes, len, &zero);

		if (!zero)
			r = writer_file_write(w, offset, bytes, n, err);
		offset += n;
		bytes += n;
		len -= n;
	}
	return r;
}

int fetch_open_file(
	const struct fetch *f, struct writer *w, const struct fetch_item *item, struct error *err)
{
	const struct meta m = fetch_meta(f, item->entry);
	int r = crew_await(f->crew, item->name, err);

	return r < 0 ? r : writer_file_open(w, item->name, &m, item->entry->size, false, err);
}

int fetch_write_piece(struct writer *w, const struct index_entry *e, uint64_t offset,
	const uint8_t *bytes, size_t len, struct error *err)
{
	if (e->sparse)
		return write_with_holes(w, offset, bytes, len, err);
	return writer_file_write(w, offset, bytes, len, err);
}

int fetch_close_file(
	struct writer *w, const struct index_entry *e, struct sha256_ctx *sha256, struct error *err)
{
	char got[65];

	digest_finish(sha256, got);
	if (e->sha256 != NULL && strcmp(got, e->sha256) != 0)
		return wrong_digest(e, got, err);
	return writer_file_close(w, err);
}

static int write_sparse(const struct fetch *f, struct writer *w, const struct fetch_item *item,
	const uint8_t *bytes, struct error *err)
{
	int r = fetch_open_file(f, w, item, err);

	if (r == 0)
		r = write_with_holes(w, 0, bytes, (size_t)item->entry->size, err);
	return r < 0 ? r : writer_file_close(w, err);
}

int fetch_write_file(const struct fetch *f, struct writer *w, const struct fetch_item *item,
	const uint8_t *bytes, struct error *err)
{
	const struct index_entry *e = item->entry;
	const struct slice content = {.data = bytes, .len = (size_t)e->size};
	const struct meta m = fetch_meta(f, e);
	int r = check_digest(e, bytes, err);

	if (r < 0)
		return r;
	if (e->sparse)
		return write_sparse(f, w, item, bytes, err);
	return crew_file(f->crew, w, item->name, &m, &content, err);
}
