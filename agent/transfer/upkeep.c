/* SPDX-License-Identifier: MIT */
/* One object over HTTP, as the loop thread keeps it: what its ranges find out, what its workers
 * post, and its end. Loop thread. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <stdlib.h>
#include <string.h>

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

/* What workers post. */

void upkeep_on_open(struct post *post)
{
	struct http_object *o = container_of(post, struct http_object, open_post);
	struct http_object **at = &o->t->objects;
	struct error why;
	int code;

	while (*at != NULL)
		at = &(*at)->next;
	*at = o;
	pace_init(&o->pace, now_ns(), o->t->opts->range_min);
	code = engine_start_curl(o->t, &why);
	if (code == 0 && object_set_url(o, o->asked_url) < 0)
		code = error_set(&why, -ERR_USAGE, "%s: not a well-formed URL", o->name);
	if (code < 0)
		object_fail(o, code, &why);
	engine_clock(o->t, now_ns());
}

void upkeep_on_stream(struct post *post)
{
	container_of(post, struct http_object, stream_post)->wanted = true;
}

/* A passed range that has begun is cut, unless the end is near: a new connection costs more. */
static bool worth_finishing(const struct range *r)
{
	return r->state == RANGE_COMPLETE ||
	       (r->state == RANGE_ACTIVE && r->end - r->at <= BLOCK_BYTES);
}

void upkeep_on_skip(struct post *post)
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

void upkeep_on_read(struct post *post)
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

void upkeep_on_close(struct post *post)
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
	if (o->signer.ctx != NULL)
		o->signer.release(o->signer.ctx);
	free((char *)o->signer.scope);
	free((char *)o->signer.ca_file);
	pthread_mutex_destroy(&o->lock);
	pthread_cond_destroy(&o->changed);
	free(o->name);
	free(o->asked_url);
	free(o->url);
	free(o);
}
