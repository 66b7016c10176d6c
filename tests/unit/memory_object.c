/* SPDX-License-Identifier: MIT */
/* An object for tests, from bytes in memory. */
#include "memory_object.h"
#include "defer.h"
#include "text.h"
#include <string.h>

struct memory_object {
	struct object base;
	struct reader reader;
	const uint8_t *bytes;
	size_t len, at, slice_bytes;
	bool drained;
};

/* A pool for each block, so that nothing bounds them and each is freed with its last reference. */
static int next(struct reader *r, struct slice *ret, struct error *err)
{
	struct memory_object *m = container_of(r, struct memory_object, reader);
	size_t len = m->len - m->at < m->slice_bytes ? m->len - m->at : m->slice_bytes;
	struct block_pool *pool;
	struct block *b;

	(void)err;
	m->drained = len == 0;
	if (len == 0)
		return 0;
	pool = block_pool_new(len, 1, NULL, NULL);
	b = block_pool_take(pool, NULL);
	block_pool_free(pool);
	memcpy(b->data, m->bytes + m->at, len);
	m->at += len;
	*ret = (struct slice){.data = b->data, .len = len, .owner = b};
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
	reader_init(&m->reader, &reader_ops, name);
	return &m->base;
}

bool memory_object_drained(const struct object *o)
{
	return container_of(o, const struct memory_object, base)->drained;
}
