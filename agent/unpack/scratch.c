/* SPDX-License-Identifier: MIT */
/* Unnamed temporary files as objects. Worker thread. The stream uses the blocks of a small pool, so
 * other threads can hold references to its slices. */
#include "defer.h"
#include "files.h"
#include "text.h"
#include "unpack_private.h"
#include <string.h>

#define BLOCK_BYTES ((size_t)128 << 10)

struct scratch_object {
	struct object base;
	struct reader reader;
	int fd;
	uint64_t streamed; /* bytes that the reader has returned */
	struct block_pool *pool;
	struct cancel *cancel;
	struct tree *tree; /* whose limits apply */
};

static int scratch_read_at(
	struct object *o, uint64_t offset, void *buf, size_t len, struct error *err)
{
	const struct scratch_object *s = container_of(o, struct scratch_object, base);
	ssize_t n = files_read_at(s->fd, buf, len, offset);

	if (n < 0)
		return error_set(err, (int)n, "%s: read the temporary file: %m", o->name);
	return (size_t)n == len ? 0 : error_set(err, -ERR_TRUNCATED, "%s ends early", o->name);
}

static int stream_next(struct reader *r, struct slice *ret, struct error *err)
{
	struct scratch_object *s = container_of(r, struct scratch_object, reader);
	uint64_t left = s->base.identity.size - s->streamed;
	size_t len = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
	struct block *b;
	int code;

	if (len == 0)
		return 0;
	b = block_pool_take(s->pool, s->cancel);
	if (b == NULL)
		return error_set(err, -ECANCELED, "%s: cancelled", s->base.name);
	code = scratch_read_at(&s->base, s->streamed, b->data, len, err);
	if (code < 0) {
		block_unref(b);
		return code;
	}
	s->streamed += len;
	*ret = (struct slice){.data = b->data, .len = len, .owner = b};
	return 1;
}

static int64_t stream_skip(struct reader *r, uint64_t n, struct error *err)
{
	struct scratch_object *s = container_of(r, struct scratch_object, reader);
	uint64_t left = s->base.identity.size - s->streamed;

	(void)err;
	if (n > left)
		n = left;
	if (n > INT64_MAX)
		n = INT64_MAX;
	s->streamed += n;
	return (int64_t)n;
}

/* The reader is a member of the object, which frees it. */
static void stream_close(struct reader *r)
{
	(void)r;
}

static struct reader *scratch_stream(struct object *o)
{
	return &container_of(o, struct scratch_object, base)->reader;
}

static void scratch_close(struct object *o)
{
	struct scratch_object *s = container_of(o, struct scratch_object, base);

	slice_drop(&s->reader.back);
	tree_release_scratch(s->tree, o->identity.size);
	block_pool_free(s->pool);
	close(s->fd);
	free(s);
}

int scratch_new(
	const struct unpack_env *env, const char *name, struct object **ret, struct error *err)
{
	static const struct object_ops object_ops = {
		.stream = scratch_stream, .read_at = scratch_read_at, .close = scratch_close};
	static const struct reader_ops reader_ops = {
		.next = stream_next, .skip = stream_skip, .close = stream_close};
	int fd = files_create_temporary(env->scratch_fd);
	struct scratch_object *s;

	if (fd < 0)
		return tree_disk_error(
			err, -fd, env->scratch_fd, "create a temporary file for", name);
	s = zalloc(sizeof(*s));
	s->base.ops = &object_ops;
	s->base.name = name;
	s->base.seekable = true;
	s->fd = fd;
	s->cancel = env->cancel;
	s->tree = env->tree;
	s->pool = block_pool_new(BLOCK_BYTES, SCRATCH_MEMORY / BLOCK_BYTES, NULL, NULL);
	reader_init(&s->reader, &reader_ops, name);
	*ret = &s->base;
	return 0;
}

int scratch_append(struct object *o, const void *bytes, size_t len, struct error *err)
{
	struct scratch_object *s = container_of(o, struct scratch_object, base);
	int code = tree_reserve_scratch(s->tree, len, err);

	if (code < 0)
		return code;
	code = files_write_all(s->fd, bytes, len, o->identity.size);
	if (code < 0) {
		tree_release_scratch(s->tree, len);
		return tree_disk_error(err, -code, s->fd, "write a temporary file for", o->name);
	}
	o->identity.size += len;
	return 0;
}

int scratch_fd(const struct object *o)
{
	return container_of(o, const struct scratch_object, base)->fd;
}

static int append_all(struct object *to, struct reader *in, struct error *err)
{
	struct slice s = {0};
	int got;

	while ((got = reader_next(in, &s, err)) > 0) {
		int code = scratch_append(to, s.data, s.len, err);

		slice_drop(&s);
		if (code < 0)
			return code;
	}
	return got;
}

/* A known size is checked before the first byte is stored. */
static int check_size(const struct unpack_env *env, const struct object *o, struct error *err)
{
	uint64_t size = o != NULL ? o->identity.size : SIZE_UNKNOWN;
	int code = size == SIZE_UNKNOWN ? 0 : tree_reserve_scratch(env->tree, size, err);

	if (code == 0 && size != SIZE_UNKNOWN)
		tree_release_scratch(env->tree, size);
	return code;
}

int scratch_from_input(const struct unpack_env *env, const struct unpack_input *input,
	struct object **ret, struct error *err)
{
	struct object *to = NULL;
	int code = check_size(env, input->object, err);

	if (code == 0)
		code = scratch_new(env, input->in->name, &to, err);
	if (code == 0)
		code = append_all(to, input->in, err);
	if (code < 0)
		object_close(to);
	else
		*ret = to;
	return code;
}
