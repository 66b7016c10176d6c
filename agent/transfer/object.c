/* SPDX-License-Identifier: MIT */
/* One object over HTTP: the worker's calls (open, stream, read at an offset, close), each of which
 * posts to the loop thread, and what the loop does about them. After object_close() the object
 * belongs to the loop alone, so that closing never waits. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Loop thread: what ranges find out. */

void object_fail(struct http_object *o, int code, const struct error *why)
{
	pthread_mutex_lock(&o->lock);
	if (o->failed == 0) {
		o->failed = code;
		o->why = *why;
	}
	pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
	o->t->dirty = true;
}

static void set_identity(struct http_object *o)
{
	struct identity *id = &o->base.identity;

	*id = (struct identity){.size = o->version.size};
	if (etag_is_strong(o->version.etag))
		memcpy(id->etag, o->version.etag, sizeof(id->etag));
	memcpy(id->last_modified, o->version.last_modified, sizeof(id->last_modified));
}

static void become_ready_locked(struct http_object *o)
{
	o->ready = true;
	pthread_cond_broadcast(&o->changed);
}

void object_discovered(struct http_object *o, const struct answer *a, bool ranges)
{
	pthread_mutex_lock(&o->lock);
	o->discovered = true;
	o->whole = !ranges;
	o->version = a->version;
	if (o->whole)
		o->version.size = a->content_length;
	o->size = o->version.size;
	set_identity(o);
	o->base.seekable = ranges;
	if (o->progress != NULL && o->size != SIZE_UNKNOWN)
		atomic_store(&o->progress->total, o->size);
	become_ready_locked(o);
	pthread_mutex_unlock(&o->lock);
}

void object_not_modified(struct http_object *o)
{
	pthread_mutex_lock(&o->lock);
	o->base.identity = o->have;
	o->base.not_modified = true;
	become_ready_locked(o);
	pthread_mutex_unlock(&o->lock);
}

int object_set_url(struct http_object *o, const char *url)
{
	struct host *host = engine_host(o->t, url);
	char *copy = copy_text(url);

	if (host == NULL) {
		free(copy);
		return -1;
	}
	free(o->url);
	o->url = copy;
	o->url_generation++;
	o->host = host;
	return 0;
}

/* Loop thread: posts. */

static void on_open(struct post *post)
{
	struct http_object *o = container_of(post, struct http_object, open_post);
	struct http_object **at = &o->t->objects;

	while (*at != NULL)
		at = &(*at)->next;
	*at = o;
	pace_init(&o->pace, now_ns(), o->t->opts->range_min);
	if (object_set_url(o, o->asked_url) < 0) {
		struct error why;

		error_set(&why, -ERR_USAGE, "%s: not a well-formed URL", o->name);
		object_fail(o, why.code, &why);
	}
	engine_clock(o->t, now_ns());
}

static void on_stream(struct post *post)
{
	container_of(post, struct http_object, stream_post)->wanted = true;
}

/* A passed range that has begun is cut, unless the end is near: a new connection costs more. */
static bool worth_finishing(const struct range *r)
{
	return r->state == RANGE_COMPLETE ||
	       (r->state == RANGE_ACTIVE && r->end - r->at <= BLOCK_BYTES);
}

static void on_skip(struct post *post)
{
	struct http_object *o = container_of(post, struct http_object, skip_post);
	struct range **at = &o->ranges, *dropped = NULL;

	pthread_mutex_lock(&o->lock);
	while (*at != NULL && (*at)->end <= o->position) {
		struct range *r = *at;

		if (worth_finishing(r)) {
			at = &r->next;
			continue;
		}
		*at = r->next;
		r->next = dropped;
		dropped = r;
	}
	if (o->planned < o->position)
		o->planned = o->position;
	pthread_mutex_unlock(&o->lock);
	while (dropped != NULL) {
		struct range *r = dropped;

		dropped = r->next;
		range_free(r);
	}
}

static void on_read(struct post *post)
{
	struct read_request *req = container_of(post, struct read_request, post);
	struct http_object *o = req->object;
	struct range *r = range_new(o, req->offset, req->offset + req->len);

	r->read = req;
	r->next = o->reads;
	o->reads = r;
}

void read_request_done(struct range *r)
{
	struct http_object *o = r->object;
	struct read_request *req = r->read;
	struct range **at = &o->reads;
	bool abandoned;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	range_free(r);
	pthread_mutex_lock(&o->lock);
	abandoned = req->buf == NULL;
	req->done = true;
	pthread_cond_broadcast(&o->changed);
	pthread_mutex_unlock(&o->lock);
	if (abandoned)
		free(req);
}

static void on_close(struct post *post)
{
	struct http_object *o = container_of(post, struct http_object, close_post);
	struct http_object **at = &o->t->objects;

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	o->t->dirty = true;
	object_destroy(o);
}

static void free_ranges(struct range *first)
{
	while (first != NULL) {
		struct range *r = first;

		first = r->next;
		free(r->read);
		range_free(r);
	}
}

void object_destroy(struct http_object *o)
{
	struct http_object **at = &o->t->touched;

	while (*at != NULL && *at != o)
		at = &(*at)->next_touched;
	if (*at == o)
		*at = o->next_touched;
	free_ranges(o->ranges);
	free_ranges(o->reads);
	if (o->own != NULL) {
		block_pool_free(o->own);
		block_pool_unreserve(o->t->pool, OWN_BLOCKS);
	}
	pthread_mutex_destroy(&o->lock);
	pthread_cond_destroy(&o->changed);
	free(o->name);
	free(o->asked_url);
	free(o->url);
	free(o);
}

/* Worker threads. */

static struct reader *http_stream(struct object *base)
{
	struct http_object *o = container_of(base, struct http_object, base);

	inbox_post(&o->t->inbox, &o->stream_post);
	return &o->reader;
}

static int shut(const struct http_object *o, struct error *err)
{
	return error_set(err, -ECANCELED, "%s: cancelled", o->name);
}

/* Sleeps until *done, the object's failure or a cancel. */
static int await_locked(struct http_object *o, const bool *done, struct error *err)
{
	while (!*done && o->failed == 0 && !cancel_requested(o->cancel))
		pthread_cond_wait(&o->changed, &o->lock);
	if (*done)
		return 0;
	if (o->failed == 0)
		return shut(o, err);
	if (err != NULL)
		*err = o->why;
	return o->failed;
}

static int read_posted(struct http_object *o, struct read_request *req, struct error *err)
{
	int code;
	bool done;

	pthread_mutex_lock(&o->lock);
	code = await_locked(o, &req->done, err);
	done = req->done;
	req->buf = NULL;
	pthread_mutex_unlock(&o->lock);
	if (done)
		free(req); /* else the loop thread does, when it comes to it */
	return code;
}

static int http_read_at(
	struct object *base, uint64_t offset, void *buf, size_t len, struct error *err)
{
	struct http_object *o = container_of(base, struct http_object, base);
	struct read_request *req;

	if (offset > base->identity.size || len > base->identity.size - offset)
		return error_set(err, -ERR_TRUNCATED,
			"%s: %zu bytes at %" PRIu64 " are wanted, but it ends at %" PRIu64, o->name,
			len, offset, base->identity.size);
	if (len == 0)
		return 0;
	req = zalloc(sizeof(*req));
	*req = (struct read_request){
		.post.run = on_read, .object = o, .offset = offset, .len = len, .buf = buf};
	if (!inbox_post(&o->t->inbox, &req->post)) {
		free(req);
		return shut(o, err);
	}
	return read_posted(o, req, err);
}

static void http_close(struct object *base)
{
	struct http_object *o = container_of(base, struct http_object, base);

	cancel_unwatch(o->cancel, &o->watch);
	pthread_mutex_lock(&o->lock);
	o->progress = NULL;
	o->cancel = NULL;
	pthread_mutex_unlock(&o->lock);
	inbox_post(&o->t->inbox, &o->close_post);
}

static struct http_object *object_new(struct transfer *t, const struct http_request *req)
{
	static const struct object_ops ops = {
		.stream = http_stream, .read_at = http_read_at, .close = http_close};
	struct http_object *o = zalloc(sizeof(*o));

	o->t = t;
	o->name = copy_text(req->name);
	o->asked_url = copy_text(req->url);
	o->base = (struct object){.ops = &ops, .name = o->name, .identity.size = SIZE_UNKNOWN};
	reader_init(&o->reader, &window_reader_ops, o->name);
	o->probe = req->probe;
	if (req->have != NULL && identity_pins(req->have)) {
		o->conditional = true;
		o->have = *req->have;
	}
	o->cancel = req->cancel;
	o->progress = req->progress;
	o->size = SIZE_UNKNOWN;
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->changed, NULL);
	o->watch = (struct cancel_watch){.mutex = &o->lock, .cond = &o->changed};
	o->open_post.run = on_open;
	o->stream_post.run = on_stream;
	o->skip_post.run = on_skip;
	o->close_post.run = on_close;
	return o;
}

int http_object_open(
	struct transfer *t, const struct http_request *req, struct object **ret, struct error *err)
{
	struct http_object *o = object_new(t, req);
	int code;

	if (!inbox_post(&t->inbox, &o->open_post)) {
		code = shut(o, err);
		object_destroy(o);
		return code;
	}
	cancel_watch(o->cancel, &o->watch);
	pthread_mutex_lock(&o->lock);
	code = await_locked(o, &o->ready, err);
	pthread_mutex_unlock(&o->lock);
	if (code < 0) {
		http_close(&o->base);
		return code;
	}
	*ret = &o->base;
	return 0;
}
