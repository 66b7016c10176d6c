/* SPDX-License-Identifier: MIT */
/* The engine's start and end, and what all objects share: easy handles and hosts. Loop thread. */
#include "engine.h"
#include "defer.h"
#include "libcurl.h"
#include "text.h"
#include "throttle.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define CANNOT_START "the network engine cannot start: out of memory or file descriptors"

CURL *engine_take_easy(struct transfer *t)
{
	CURL *easy = t->n_idle > 0 ? t->idle[--t->n_idle] : curl_easy_init();

	if (easy == NULL)
		abort(); /* without memory for a few words */
	return easy;
}

void engine_give_easy(struct transfer *t, CURL *easy)
{
	if (t->n_idle == t->opts->connections) {
		curl_easy_cleanup(easy);
		return;
	}
	curl_easy_reset(easy);
	t->idle[t->n_idle++] = easy;
}

struct host *engine_host(struct transfer *t, const char *url)
{
	_free_ char *origin = url_origin(url);
	struct host *h;

	if (origin == NULL)
		return NULL;
	for (h = t->hosts; h != NULL; h = h->next) {
		if (strcmp(h->origin, origin) == 0)
			return h;
	}
	h = zalloc(sizeof(*h));
	h->origin = take_ptr(&origin);
	h->next = t->hosts;
	t->hosts = h;
	return h;
}

/* Start and end. */

static int start_handles(struct transfer *t)
{
	int code = inbox_init(&t->inbox, t->loop, drive_on_wake);

	if (code < 0)
		return code;
	uv_timer_init(t->loop, &t->curl_timer);
	uv_timer_init(t->loop, &t->clock);
	t->clock_due_ns = UINT64_MAX;
	t->open_handles = 3;
	return 0;
}

/* 0, or -1 with nothing started. */
static int init_curl(struct transfer *t)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return -1;
	t->multi = curl_multi_init();
	t->share = curl_share_init();
	if (t->multi != NULL && t->share != NULL)
		return 0;
	if (t->multi != NULL)
		curl_multi_cleanup(take_ptr(&t->multi));
	if (t->share != NULL)
		curl_share_cleanup(take_ptr(&t->share));
	curl_global_cleanup();
	return -1;
}

static int start_curl(struct transfer *t)
{
	int code = init_curl(t);

	cloexec_sweep(t->inherited);
	if (code < 0)
		return code;
	curl_share_setopt(t->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	curl_multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION, drive_on_curl_socket);
	curl_multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t);
	curl_multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, drive_on_curl_timer);
	curl_multi_setopt(t->multi, CURLMOPT_TIMERDATA, t);
	curl_multi_setopt(t->multi, CURLMOPT_MAXCONNECTS, (long)t->opts->connections);
	t->idle = zalloc(t->opts->connections * sizeof(*t->idle));
	return 0;
}

int engine_start_curl(struct transfer *t, struct error *err)
{
	int code;

	if (t->multi != NULL)
		return 0;
	code = libcurl_load(err);
	if (code == 0 && start_curl(t) < 0)
		code = error_set(err, -ENOMEM, CANNOT_START);
	return code;
}

static void stop_curl(struct transfer *t)
{
	if (t->multi == NULL)
		return;
	while (t->n_idle > 0)
		curl_easy_cleanup(t->idle[--t->n_idle]);
	curl_multi_cleanup(t->multi);
	curl_share_cleanup(t->share);
	curl_global_cleanup();
}

static void transfer_free(struct transfer *t)
{
	while (t->hosts != NULL) {
		struct host *h = t->hosts;

		t->hosts = h->next;
		free(h->origin);
		free(h);
	}
	free(t->idle);
	free(t->inherited);
	free(t->ca_file);
	free(t);
}

int transfer_new(uv_loop_t *loop, const struct transfer_options *opts, uint64_t network_bytes,
	struct transfer **ret, struct error *err)
{
	struct transfer *t;
	int code = request_check_headers(opts, err);

	if (code < 0)
		return code;
	assert(opts->connections > 0 && opts->connections_per_host > 0 && opts->range_min > 0);
	t = zalloc(sizeof(*t));
	t->loop = loop;
	t->opts = opts;
	t->connections = throttle_connections(opts->throttle, opts->connections);
	t->inherited = cloexec_inherited();
	code = trust_find(opts->ca_file, &t->ca_file, err);
	if (code == 0 && start_handles(t) < 0)
		code = error_set(err, -ENOMEM, CANNOT_START);
	if (code < 0) {
		transfer_free(t);
		return code;
	}
	t->n_blocks = (unsigned)(network_bytes / BLOCK_BYTES);
	if (t->n_blocks < 2 * OWN_BLOCKS)
		t->n_blocks = 2 * OWN_BLOCKS;
	t->pool = block_pool_new(BLOCK_BYTES, t->n_blocks, inbox_wake, &t->inbox);
	*ret = t;
	return 0;
}

/* Also called for each socket that closes while the engine works on. */
void engine_handle_closed(struct transfer *t)
{
	void (*closed)(void *) = t->closed;
	void *ctx = t->closed_ctx;

	if (--t->open_handles > 0)
		return;
	inbox_done(&t->inbox);
	transfer_free(t);
	if (closed != NULL)
		closed(ctx);
}

static void on_inbox_closed(uv_handle_t *handle)
{
	struct transfer *t = container_of((uv_async_t *)handle, struct transfer, inbox.wake);

	engine_handle_closed(t);
}

static void on_curl_timer_closed(uv_handle_t *handle)
{
	struct transfer *t = container_of((uv_timer_t *)handle, struct transfer, curl_timer);

	engine_handle_closed(t);
}

static void on_clock_closed(uv_handle_t *handle)
{
	struct transfer *t = container_of((uv_timer_t *)handle, struct transfer, clock);

	engine_handle_closed(t);
}

void transfer_close(struct transfer *t, void (*closed)(void *ctx), void *ctx)
{
	inbox_shut(&t->inbox);
	inbox_run(&t->inbox);
	t->closing = true;
	t->closed = closed;
	t->closed_ctx = ctx;
	while (t->objects != NULL) {
		struct http_object *o = t->objects;

		t->objects = o->next;
		object_destroy(o);
	}
	stop_curl(t);
	block_pool_free(t->pool);
	uv_close((uv_handle_t *)&t->inbox.wake, on_inbox_closed);
	uv_close((uv_handle_t *)&t->curl_timer, on_curl_timer_closed);
	uv_close((uv_handle_t *)&t->clock, on_clock_closed);
}
