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

static struct reader *http_stream(struct object *base)
{
	struct http_object *o = container_of(base, struct http_object, base);

	if (!o->sparing)
		window_begin(o);
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
		.post.run = upkeep_on_read, .object = o, .offset = offset, .len = len, .buf = buf};
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
	o->probe = req->want == WANT_IDENTITY;
	o->sparing = req->want == WANT_PARTS;
	if (req->have != NULL && identity_pins(req->have)) {
		o->conditional = true;
		o->have = *req->have;
	}
	if (req->signer != NULL) {
		o->signer = *req->signer;
		o->signer.scope = copy_text(req->signer->scope);
		o->signer.ca_file = copy_text(req->signer->ca_file);
	}
	o->cancel = req->cancel;
	o->progress = req->progress;
	o->size = SIZE_UNKNOWN;
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->changed, NULL);
	o->watch = (struct cancel_watch){.mutex = &o->lock, .cond = &o->changed};
	o->open_post.run = upkeep_on_open;
	o->stream_post.run = upkeep_on_stream;
	o->skip_post.run = upkeep_on_skip;
	o->close_post.run = upkeep_on_close;
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
