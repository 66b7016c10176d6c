/* SPDX-License-Identifier: MIT */
/* Builds zip files for tests, field by field. */
#include "zip_builder.h"
#include "defer.h"
#include <libdeflate.h>
#include <string.h>

static void put(struct text *t, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++) {
		uint8_t byte = (uint8_t)(value >> (8 * i));

		text_add_bytes(t, &byte, 1);
	}
}

static void put_bytes(struct text *t, const void *bytes, size_t len)
{
	if (len > 0)
		text_add_bytes(t, bytes, len);
}

static char *deflate(const char *content, size_t len, size_t *ret_len)
{
	struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
	size_t room = libdeflate_deflate_compress_bound(c, len);
	char *packed = zalloc(room);

	*ret_len = libdeflate_deflate_compress(c, content, len, packed, room);
	libdeflate_free_compressor(c);
	return packed;
}

/* The values for both headers. */
struct numbers {
	uint32_t crc;
	uint64_t size, packed, offset;
	unsigned method, flags;
};

static void put_common(
	struct text *t, const struct zip_item *i, const struct numbers *n, bool local)
{
	bool later = local && i->descriptor;
	uint32_t crc = n->crc ^ i->crc_lie ^ (local ? i->local_crc_lie : 0);
	uint64_t size = n->size + (uint64_t)i->size_lie + (uint64_t)(local ? i->local_size_lie : 0);
	uint64_t packed = n->packed + (uint64_t)i->packed_lie;

	put(t, i->zip64 ? 45 : 20, 2);
	put(t, n->flags, 2);
	put(t, local && i->local_method != 0 ? i->local_method : n->method, 2);
	put(t, i->dos_time, 2);
	put(t, i->dos_date, 2);
	put(t, later ? 0 : crc, 4);
	put(t, i->zip64 ? UINT32_MAX : later ? 0 : packed, 4);
	put(t, i->zip64 ? UINT32_MAX : later ? 0 : size, 4);
}

static void put_zip64_extra(struct text *t, const struct numbers *n, bool with_offset)
{
	put(t, 1, 2);
	put(t, with_offset ? 24 : 16, 2);
	put(t, n->size, 8);
	put(t, n->packed, 8);
	if (with_offset)
		put(t, n->offset, 8);
}

static void add_local(struct zip *z, const struct zip_item *i, const struct numbers *n)
{
	const char *name = i->local_name != NULL ? i->local_name : i->name;
	struct text *t = &z->data;

	text_add_bytes(t, "PK\3\4", 4);
	put_common(t, i, n, true);
	put(t, strlen(name), 2);
	put(t, i->local_extra.len + (i->zip64 ? 20 : 0), 2);
	text_add(t, name);
	if (i->zip64)
		put_zip64_extra(t, n, false);
	put_bytes(t, i->local_extra.bytes, i->local_extra.len);
}

static void add_central(struct zip *z, const struct zip_item *i, const struct numbers *n)
{
	struct text record = {0}, others = z->directory, *t = &record;

	text_add_bytes(t, "PK\1\2", 4);
	put(t, 20 | (i->made_on != 0 ? i->made_on : i->mode != 0 ? 3 : 0) << 8, 2);
	put_common(t, i, n, false);
	put(t, strlen(i->name), 2);
	put(t, i->central_extra.len + (i->zip64 ? 28 : 0), 2);
	put(t, i->comment.len, 2);
	put(t, 0, 2); /* disk */
	put(t, 0, 2);
	put(t, i->mode << 16 | i->attributes, 4);
	put(t, i->zip64 ? UINT32_MAX : n->offset + (uint64_t)i->offset_lie, 4);
	text_add(t, i->name);
	if (i->zip64)
		put_zip64_extra(t, n, true);
	put_bytes(t, i->central_extra.bytes, i->central_extra.len);
	put_bytes(t, i->comment.bytes, i->comment.len);
	if (i->listed_first) {
		put_bytes(&record, others.s, others.len);
		text_done(&others);
		z->directory = record;
	} else {
		put_bytes(&z->directory, record.s, record.len);
		text_done(&record);
	}
}

void zip_add(struct zip *z, const struct zip_item *i)
{
	size_t len = i->len > 0 ? i->len : i->content != NULL ? strlen(i->content) : 0;
	bool stored = i->stored || len == 0;
	struct numbers n = {
		.crc = libdeflate_crc32(0, i->content, len),
		.size = len,
		.packed = len,
		.offset = z->data.len,
		.method = i->method != 0 ? i->method
			  : stored       ? 0
					 : 8,
		.flags = i->flags | (i->descriptor ? 8 : 0),
	};
	_free_ char *packed = stored ? NULL : deflate(i->content, len, &n.packed);

	add_local(z, i, &n);
	put_bytes(&z->data, stored ? i->content : packed, n.packed);
	if (i->descriptor) {
		text_add_bytes(&z->data, "PK\7\10", 4);
		put(&z->data, n.crc, 4);
		put(&z->data, n.packed, i->zip64 ? 8 : 4);
		put(&z->data, n.size, i->zip64 ? 8 : 4);
	}
	add_central(z, i, &n);
	z->n++;
}

static void add_zip64_end(struct text *t, const struct zip *z, uint64_t directory_at)
{
	uint64_t at = t->len;

	text_add_bytes(t, "PK\6\6", 4);
	put(t, 44, 8);
	put(t, 45, 2);
	put(t, 45, 2);
	put(t, 0, 4);
	put(t, 0, 4);
	put(t, z->n, 8);
	put(t, z->n, 8);
	put(t, z->directory.len, 8);
	put(t, directory_at, 8);
	text_add_bytes(t, "PK\6\7", 4);
	put(t, 0, 4);
	put(t, at, 8);
	put(t, 1, 4);
}

struct text zip_build(struct zip *z, const struct zip_tail *tail)
{
	static const struct zip_tail plain;
	struct text t = z->data;
	uint64_t directory_at = t.len;

	tail = tail != NULL ? tail : &plain;
	put_bytes(&t, z->directory.s, z->directory.len);
	if (tail->zip64)
		add_zip64_end(&t, z, directory_at);
	text_add_bytes(&t, "PK\5\6", 4);
	put(&t, tail->disk, 2);
	put(&t, tail->disk, 2);
	put(&t, tail->zip64 ? UINT16_MAX : z->n + (unsigned)tail->count_lie, 2);
	put(&t, tail->zip64 ? UINT16_MAX : z->n + (unsigned)tail->count_lie, 2);
	put(&t, tail->zip64 ? UINT32_MAX : z->directory.len, 4);
	put(&t, tail->zip64 ? UINT32_MAX : directory_at, 4);
	put(&t, tail->comment != NULL ? strlen(tail->comment) : 0, 2);
	if (tail->comment != NULL)
		text_add(&t, tail->comment);
	text_done(&z->directory);
	*z = (struct zip){0};
	return t;
}
