/* SPDX-License-Identifier: MIT */
/* One object over HTTP. The first part belongs to the loop thread: what the ranges found out, the
 * posts of the worker, and the object's end. The second part belongs to the worker: open, stream,
 * read at an offset, close. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool same_size_and_date(const struct object_version *a, const struct object_version *b)
{
	return a->last_modified[0] != '\0' && a->size != SIZE_UNKNOWN && a->size == b->size &&
	       strcmp(a->last_modified, b->last_modified) == 0;
}

static struct unstable_url *find_unstable_url(const struct http_object *o)
{
	struct unstable_url *c = o->t->unstable;

	while (c != NULL && strcmp(c->url, o->asked_url) != 0)
		c = c->next;
	return c;
}

static struct unstable_url *add_unstable_url(struct http_object *o)
{
	struct unstable_url *c = zalloc(sizeof(*c));

	c->url = text_copy(o->asked_url);
	c->next = o->t->unstable;
	o->t->unstable = c;
	return c;
}

void object_changed(struct http_object *o, const struct answer *a)
{
	struct unstable_url *c = find_unstable_url(o);

	/* Some servers send no validators with 412. */
	if (a->status != 412 && !same_size_and_date(&a->version, &o->version))
		return;
	if (c == NULL)
		c = add_unstable_url(o);
	c->version = o->version;
}

static bool is_unranged(const struct http_object *o)
{
	const struct unstable_url *c = find_unstable_url(o);

	return c != NULL && c->unranged;
}

void object_unranged(struct http_object *o)
{
	struct unstable_url *c = find_unstable_url(o);

	if (c == NULL)
		c = add_unstable_url(o);
	c->unranged = true;
}

bool object_varies(const struct http_object *o, const struct object_version *v)
{
	const struct unstable_url *c = find_unstable_url(o);

	return c != NULL && same_size_and_date(v, &c->version);
}

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

void object_engine_failed(struct transfer *t, CURLMcode why)
{
	for (struct http_object *o = t->objects; o != NULL; o = o->next) {
		struct error err;

		error_set(&err, -ERR_HTTP, "%s: the network engine failed: %s", o->name,
			curl_multi_strerror(why));
		object_fail(o, err.code, &err);
	}
}

static void set_identity(struct http_object *o, const struct answer *a)
{
	struct identity *id = &o->base.identity;

	*id = (struct identity){.size = o->version.size, .recent = answer_is_recent(a)};
	if (answer_etag_is_strong(o->version.etag) && !o->varies)
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
	o->base.said = a->said;
	set_identity(o, a);
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
	char *copy = text_copy(url);

	if (host == NULL) {
		free(copy);
		return -1;
	}
	if (o->asked_host == NULL)
		o->asked_host = host;
	free(o->url);
	o->url = copy;
	o->url_generation++;
	o->host = host;
	return 0;
}

/* What the loop thread does for posts of the worker. */

static void on_open(struct post *post)
{
	struct http_object *o = container_of(post, struct http_object, open_post);
	struct http_object **at = &o->t->objects;
	struct error why;
	int code;

	while (*at != NULL)
		at = &(*at)->next;
	*at = o;
	pace_init(&o->pace, now_ns(), o->t->opts->range_min);
	o->plain = is_unranged(o);
	code = engine_start_curl(o->t, &why);
	if (code == 0 && object_set_url(o, o->asked_url) < 0)
		code = error_set(&why, -ERR_USAGE, "%s: not a well-formed URL", o->name);
	if (code < 0)
		object_fail(o, code, &why);
	engine_set_clock(o->t, now_ns());
}

static void on_stream(struct post *post)
{
	container_of(post, struct http_object, stream_post)->wanted = true;
}

/* A skipped range whose request is under way is cut off, unless little of it is left: a new
 * connection would cost more. */
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

void object_read_done(struct range *r)
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
	struct http_object **at = &o->t->to_wake;

	while (*at != NULL && *at != o)
		at = &(*at)->next_to_wake;
	if (*at == o)
		*at = o->next_to_wake;
	free_ranges(o->ranges);
	free_ranges(o->reads);
	if (o->own != NULL) {
		block_pool_free(o->own);
		block_pool_unreserve(o->t->pool, OWN_BLOCKS);
	}
	if (o->signer.ctx != NULL)
		o->signer.release(o->signer.ctx);
	free(o->scope);
	free(o->ca_file);
	pthread_mutex_destroy(&o->lock);
	pthread_cond_destroy(&o->changed);
	free(o->name);
	free(o->asked_url);
	free(o->url);
	free(o);
}

/* The worker's side: each call posts to the loop thread. After object_close() the object belongs to
 * the loop thread alone, so closing never waits. */

static struct reader *http_stream(struct object *base)
{
	struct http_object *o = container_of(base, struct http_object, base);

	if (!o->parts_only)
		window_start_stream(o);
	return &o->reader;
}

static int set_cancelled(const struct http_object *o, struct error *err)
{
	return error_set(err, -ECANCELED, "%s: cancelled", o->name);
}

/* Sleeps until *done is set, the object fails or a cancel is requested. */
static int await_locked(struct http_object *o, const bool *done, struct error *err)
{
	while (!*done && o->failed == 0 && !cancel_requested(o->cancel))
		pthread_cond_wait(&o->changed, &o->lock);
	if (*done)
		return 0;
	if (o->failed == 0)
		return set_cancelled(o, err);
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
		free(req); /* else the loop thread frees it when it ends the read */
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
	if (!engine_post(&o->t->inbox, &req->post)) {
		free(req);
		return set_cancelled(o, err);
	}
	return read_posted(o, req, err);
}

static void http_close(struct object *base)
{
	struct http_object *o = container_of(base, struct http_object, base);

	cancel_unwatch(o->cancel, &o->watch);
	pthread_mutex_lock(&o->lock);
	if (o->progress != NULL)
		atomic_fetch_sub(&o->progress->connected, o->connected);
	o->progress = NULL;
	o->cancel = NULL;
	pthread_mutex_unlock(&o->lock);
	engine_post(&o->t->inbox, &o->close_post);
}

static struct http_object *object_new(struct transfer *t, const struct http_request *req)
{
	static const struct object_ops ops = {
		.stream = http_stream, .read_at = http_read_at, .close = http_close};
	struct http_object *o = zalloc(sizeof(*o));

	o->t = t;
	o->name = text_copy(req->name);
	o->asked_url = text_copy(req->url);
	o->base = (struct object){.ops = &ops, .name = o->name, .identity.size = SIZE_UNKNOWN};
	reader_init(&o->reader, &window_reader_ops, o->name);
	o->probe = req->want == WANT_IDENTITY;
	o->parts_only = req->want == WANT_PARTS;
	if (req->have != NULL && object_identity_pins(req->have)) {
		o->conditional = true;
		o->have = *req->have;
	}
	if (req->signer != NULL) {
		o->signer = *req->signer;
		o->signer.scope = o->scope = text_copy(req->signer->scope);
		o->signer.ca_file = o->ca_file = text_copy(req->signer->ca_file);
	}
	o->cancel = req->cancel;
	o->progress = req->progress;
	o->timeline = req->progress != NULL ? req->progress->timeline : NULL;
	o->span = req->progress != NULL ? req->progress->span : 0;
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

int transfer_object_open(
	struct transfer *t, const struct http_request *req, struct object **ret, struct error *err)
{
	struct http_object *o = object_new(t, req);
	uint64_t started_ns = now_ns();
	int code;

	if (!engine_post(&t->inbox, &o->open_post)) {
		code = set_cancelled(o, err);
		object_destroy(o);
		return code;
	}
	cancel_watch(o->cancel, &o->watch);
	pthread_mutex_lock(&o->lock);
	code = await_locked(o, &o->ready, err);
	pthread_mutex_unlock(&o->lock);
	if (req->progress != NULL)
		count(&req->progress->network_ns, now_ns() - started_ns);
	if (code < 0) {
		http_close(&o->base);
		return code;
	}
	*ret = &o->base;
	return 0;
}
