/* SPDX-License-Identifier: MIT */
/* What all readers share: the sticky error, peeking, reading and skipping by count; and a reader of
 * bytes in memory. */
#include "reader.h"
#include "defer.h"
#include "text.h"
#include <assert.h>
#include <string.h>

void reader_init(struct reader *r, const struct reader_ops *ops, const char *name)
{
	*r = (struct reader){.ops = ops, .name = name};
}

static int reader_fail(struct reader *r, int code, const struct error *why)
{
	r->failed = code;
	r->why = *why;
	return code;
}

static int reader_sticky(const struct reader *r, struct error *err)
{
	if (err != NULL)
		*err = r->why;
	return r->failed;
}

int reader_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct error why;
	int n;

	if (r->back.len > 0) {
		*ret = r->back;
		r->back = (struct slice){0};
		return 1;
	}
	if (r->failed < 0)
		return reader_sticky(r, err);
	n = r->ops->next(r, ret, &why);
	if (n < 0) {
		reader_fail(r, n, &why);
		return reader_sticky(r, err);
	}
	return n;
}

/* Copies both slices into one block, from a pool of its own. */
static struct slice join_slices(struct slice first, struct slice second, size_t at_least)
{
	size_t len = first.len + second.len;
	struct block_pool *pool = block_pool_new(len > at_least ? len : at_least, 1, NULL, NULL);
	struct block *b = block_pool_take(pool, NULL);

	if (b == NULL)
		abort();
	memcpy(b->data, first.data, first.len);
	if (second.len > 0)
		memcpy(b->data + first.len, second.data, second.len);
	slice_drop(&first);
	slice_drop(&second);
	block_pool_free(pool); /* the pool lives until the block is returned */
	return (struct slice){.data = b->data, .len = len, .owner = b};
}

int reader_peek(struct reader *r, void *buf, size_t n, struct error *err)
{
	assert(n <= 4096);
	while (r->back.len < n) {
		struct slice had = r->back, more = {0};
		int got;

		r->back = (struct slice){0};
		got = reader_next(r, &more, err);
		if (got <= 0) {
			r->back = had;
			if (got < 0)
				return got;
			n = had.len;
			break;
		}
		r->back = had.len == 0 ? more : join_slices(had, more, n);
	}
	if (n > 0)
		memcpy(buf, r->back.data, n);
	return (int)n;
}

void reader_put_back(struct reader *r, struct slice s)
{
	if (s.len == 0)
		slice_drop(&s);
	else
		r->back = r->back.len == 0 && s.owner != NULL ? s : join_slices(s, r->back, 1);
}

static int ended_early(const struct reader *r, struct error *err)
{
	return error_set(err, -ERR_TRUNCATED, "%s ends early", r->name);
}

/* Drops up to n of the bytes that were put back. */
static uint64_t skip_back(struct reader *r, uint64_t n)
{
	size_t cut = r->back.len < n ? r->back.len : (size_t)n;

	slice_advance(&r->back, cut);
	if (r->back.len == 0)
		slice_drop(&r->back);
	return cut;
}

int reader_skip(struct reader *r, uint64_t n, struct error *err)
{
	while (n > 0) {
		struct slice s = {0};
		int got;

		n -= skip_back(r, n);
		if (n > 0 && r->ops->skip != NULL && r->failed == 0) {
			struct error why;
			int64_t passed = r->ops->skip(r, n, &why);

			if (passed < 0) {
				reader_fail(r, (int)passed, &why);
				return reader_sticky(r, err);
			}
			n -= (uint64_t)passed;
		}
		if (n == 0)
			break;
		got = reader_next(r, &s, err);
		if (got <= 0)
			return got < 0 ? got : ended_early(r, err);
		r->back = s;
	}
	return 0;
}

int reader_read(struct reader *r, void *buf, size_t n, struct error *err)
{
	uint8_t *to = buf;

	while (n > 0) {
		struct slice s = {0};
		size_t take;
		int got = reader_next(r, &s, err);

		if (got <= 0)
			return got < 0 ? got : ended_early(r, err);
		take = s.len < n ? s.len : n;
		memcpy(to, s.data, take);
		to += take;
		n -= take;
		r->back = s;
		skip_back(r, take);
	}
	return 0;
}

int reader_drain(struct reader *r, struct error *err)
{
	struct slice s = {0};
	int got;

	while ((got = reader_next(r, &s, err)) > 0)
		slice_drop(&s);
	return got;
}

void reader_close(struct reader *r)
{
	if (r == NULL)
		return;
	slice_drop(&r->back);
	r->ops->close(r);
}

struct memory_reader {
	struct reader base;
	struct slice left;
};

static int memory_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct memory_reader *m = container_of(r, struct memory_reader, base);

	(void)err;
	if (m->left.len == 0)
		return 0;
	*ret = m->left;
	m->left = (struct slice){0};
	return 1;
}

static void memory_close(struct reader *r)
{
	free(container_of(r, struct memory_reader, base));
}

struct reader *reader_from_memory(const void *bytes, size_t len, const char *name)
{
	static const struct reader_ops ops = {.next = memory_next, .close = memory_close};
	struct memory_reader *m = zalloc(sizeof(*m));

	reader_init(&m->base, &ops, name);
	m->left = (struct slice){.data = bytes, .len = len};
	return &m->base;
}
