/* SPDX-License-Identifier: MIT */
/* One object of a prefix becomes one file. A hand's thread. */
#include "defer.h"
#include "prefix.h"
#include "text.h"
#include <errno.h>
#include <string.h>

static struct meta meta_of(const struct prefix_item *item, mode_t mode)
{
	return (struct meta){
		.mode = mode, .mtime.tv_sec = item->modified, .uid = (uid_t)-1, .gid = (gid_t)-1};
}

static int changed(const struct prefix *p, const struct prefix_item *item, struct error *err)
{
	return error_set(err, -ERR_CHANGED, "s3://%s/%.300s changed after it had been listed",
		p->place.bucket, item->key);
}

static void count_bytes(struct prefix *p, uint64_t n)
{
	struct progress *progress = &p->stage->progress[p->i];

	count(&progress->received, n);
	count(&progress->consumed, n);
}

static void count_wait(struct prefix *p, uint64_t started_ns)
{
	count(&p->stage->progress[p->i].network_ns, now_ns() - started_ns);
}

/* A whole object in memory. */
static int fetch_small(struct prefix *p, const struct prefix_item *item, struct s3_client *client,
	struct writer *w, struct error *err)
{
	const struct meta meta = meta_of(item, 0644);
	_free_ uint8_t *buf = malloc(item->size > 0 ? item->size : 1);
	uint64_t started = now_ns();
	size_t got = 0;
	int code;

	if (buf == NULL)
		return error_set(err, -ENOMEM, "out of memory");
	code = s3_get(client, p->place.bucket, item->key, 0, buf, item->size,
		item->etag[0] != '\0' ? item->etag : NULL, &got, NULL, err);
	count_wait(p, started);
	if (code == -ENOENT || (code == 0 && got != item->size))
		return changed(p, item, err);
	if (code < 0)
		return code;
	count_bytes(p, got);
	return writer_file(w, item->name, &meta, &(struct slice){.data = buf, .len = got}, err);
}

static int fetch_reserved(struct prefix *p, const struct prefix_item *item,
	struct s3_client *client, struct writer *w, struct error *err)
{
	struct stage *s = p->stage;
	int code = budget_reserve(s->env->budget, item->size, &s->attempt, err);

	if (code < 0)
		return code;
	code = fetch_small(p, item, client, w, err);
	budget_release(s->env->budget, item->size);
	return code;
}

static int write_stream(struct prefix *p, struct reader *in, struct writer *w, struct error *err)
{
	struct slice slice = {0};
	uint64_t offset = 0, started = now_ns();
	int code;

	for (; (code = reader_next(in, &slice, err)) > 0; started = now_ns()) {
		count_wait(p, started);
		count_bytes(p, slice.len);
		code = writer_file_write(w, offset, slice.data, slice.len, err);
		offset += slice.len;
		slice_drop(&slice);
		if (code < 0)
			break;
	}
	return code;
}

static int stream_object(struct prefix *p, const struct prefix_item *item, struct object *o,
	struct writer *w, struct error *err)
{
	const struct meta meta = meta_of(item, 0644);
	struct reader *in;
	int code;

	if (o->identity.size != item->size ||
		(item->etag[0] != '\0' && strcmp(o->identity.etag, item->etag) != 0))
		return changed(p, item, err);
	code = writer_file_open(w, item->name, &meta, item->size, false, err);
	if (code < 0)
		return code;
	in = object_stream(o);
	code = write_stream(p, in, w, err);
	reader_close(in);
	return code < 0 ? code : writer_file_close(w, err);
}

static int fetch_large(
	struct prefix *p, const struct prefix_item *item, struct writer *w, struct error *err)
{
	struct stage *s = p->stage;
	struct object *o = NULL;
	int code = prefix_queue_begin_large(&p->queue, err);

	if (code < 0)
		return code;
	code = s3_object_open(s->env->s3, s->env->transfer, p->place.bucket, item->key, NULL,
		WANT_ALL, NULL, &s->attempt, &o, err);
	if (code == 0)
		code = stream_object(p, item, o, w, err);
	object_close(o);
	prefix_queue_end_large(&p->queue);
	return code == -ENOENT ? changed(p, item, err) : code;
}

int prefix_fetch(struct prefix *p, const struct prefix_item *item, struct s3_client *client,
	struct writer *w, struct error *err)
{
	if (item->name[strlen(item->name) - 1] == '/') {
		const struct meta meta = meta_of(item, 0755);

		return writer_dir(w, item->name, &meta, err);
	}
	return item->size <= p->small_max ? fetch_reserved(p, item, client, w, err)
					  : fetch_large(p, item, w, err);
}
