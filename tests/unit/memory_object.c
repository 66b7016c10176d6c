/* SPDX-License-Identifier: MIT */
/* An object for tests, whose bytes are in memory. */
#include "memory_object.h"
#include "defer.h"
#include "text.h"
#include <string.h>

struct memory_object {
	struct object base;
	struct reader reader;
	const uint8_t *bytes;
	size_t len, at, slice_bytes;
	unsigned slices_in_block;
	struct slice left; /* the unread part of the present block */
	bool drained;
};

/* Each block has a pool of its own, so that their number is not limited and each is freed with
 * its last reference. */
static struct slice next_block(struct memory_object *m)
{
	size_t len = m->slice_bytes * m->slices_in_block;
	struct block_pool *pool;
	struct block *b;

	if (len > m->len - m->at)
		len = m->len - m->at;
	if (len == 0)
		return (struct slice){0};
	pool = block_pool_new(len, 1, NULL, NULL);
	b = block_pool_take(pool, NULL);
	block_pool_free(pool);
	memcpy(b->data, m->bytes + m->at, len);
	m->at += len;
	return (struct slice){.data = b->data, .len = len, .owner = b};
}

static int next(struct reader *r, struct slice *ret, struct error *err)
{
	struct memory_object *m = container_of(r, struct memory_object, reader);

	(void)err;
	if (m->left.len == 0) {
		slice_drop(&m->left);
		m->left = next_block(m);
	}
	m->drained = m->left.len == 0;
	if (m->drained)
		return 0;
	*ret = slice_share(&m->left);
	if (ret->len > m->slice_bytes)
		ret->len = m->slice_bytes;
	slice_advance(&m->left, ret->len);
	return 1;
}

static void keep_open(struct reader *r)
{
	(void)r;
}

static struct reader *stream(struct object *o)
{
	return &container_of(o, struct memory_object, base)->reader;
}

static int read_at(struct object *o, uint64_t offset, void *buf, size_t len, struct error *err)
{
	const struct memory_object *m = container_of(o, struct memory_object, base);

	if (offset > m->len || len > m->len - offset)
		return error_set(err, -ERR_TRUNCATED, "%s ends early", o->name);
	memcpy(buf, m->bytes + offset, len);
	return 0;
}

static void close_object(struct object *o)
{
	struct memory_object *m = container_of(o, struct memory_object, base);

	slice_drop(&m->reader.back);
	slice_drop(&m->left);
	free(m);
}

struct object *memory_object(
	const void *bytes, size_t len, size_t slice_bytes, bool seekable, const char *name)
{
	static const struct object_ops object_ops = {
		.stream = stream, .read_at = read_at, .close = close_object};
	static const struct reader_ops reader_ops = {.next = next, .close = keep_open};
	struct memory_object *m = zalloc(sizeof(*m));

	m->base.ops = &object_ops;
	m->base.name = name;
	m->base.seekable = seekable;
	m->base.identity.size = seekable ? len : SIZE_UNKNOWN;
	m->bytes = bytes;
	m->len = len;
	m->slice_bytes = slice_bytes;
	m->slices_in_block = 1;
	reader_init(&m->reader, &reader_ops, name);
	return &m->base;
}

void memory_object_fill_blocks(struct object *o, unsigned slices)
{
	container_of(o, struct memory_object, base)->slices_in_block = slices;
}

bool memory_object_drained(const struct object *o)
{
	return container_of(o, const struct memory_object, base)->drained;
}
