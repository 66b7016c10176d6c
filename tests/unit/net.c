/* SPDX-License-Identifier: MIT */
/* Starts and stops a transfer engine on its own thread, for the tests of transfers. */
#include "net.h"
#include "object.h"
#include "test.h"
#include <stdlib.h>

void net_init(struct net *n, uint64_t size)
{
	*n = (struct net){
		.opts = {.connections = 8,
			.connections_per_host = 8,
			.range_min = 65536,
			.range_max = 262144,
			.connect_timeout_ms = 5000,
			.stall_timeout_ms = 5000,
			.retries = 3,
			.retry_base_ms = 5,
			.retry_max_ms = 20},
		.fake = {.size = size},
		.network_bytes = 16 << 20,
	};
	cancel_init(&n->cancel);
}

static atomic_bool closed;

static void on_closed(void *ctx)
{
	*(atomic_bool *)ctx = true;
}

static void on_stop(uv_async_t *stop)
{
	struct net *n = stop->data;

	transfer_close(n->transfer, on_closed, &closed);
	uv_close((uv_handle_t *)stop, NULL);
}

static void *run(void *ctx)
{
	struct net *n = ctx;

	uv_run(&n->loop, UV_RUN_DEFAULT);
	return NULL;
}

void net_start(struct net *n)
{
	n->server = fake_http_start(&n->fake);
	n->url = fake_http_url(n->server, "/object");
	uv_loop_init(&n->loop);
	if (transfer_new(&n->loop, &n->opts, n->network_bytes, &n->transfer, &n->err) < 0)
		fail_msg("%s", n->err.msg);
	uv_async_init(&n->loop, &n->stop, on_stop);
	n->stop.data = n;
	pthread_create(&n->thread, NULL, run, n);
}

void net_stop(struct net *n)
{
	closed = false;
	uv_async_send(&n->stop);
	pthread_join(n->thread, NULL);
	assert_true(closed);
	assert_int_equal(0, uv_loop_close(&n->loop));
	fake_http_stop(n->server);
	cancel_done(&n->cancel);
	free(n->url);
}

int net_open(struct net *n, struct object **ret)
{
	struct http_request req = {.url = n->url,
		.name = "the object",
		.progress = &n->progress,
		.cancel = &n->cancel};

	return transfer_object_open(n->transfer, &req, ret, &n->err);
}

int64_t net_drain(struct net *n, struct object *o)
{
	struct reader *r = object_stream(o);
	struct slice s;
	uint64_t at = 0;
	int got;

	while ((got = reader_next(r, &s, &n->err)) > 0) {
		for (size_t i = 0; i < s.len; i++) {
			if (s.data[i] != fake_byte(1, at + i))
				fail_msg("byte %ju is wrong", (uintmax_t)(at + i));
		}
		at += s.len;
		slice_drop(&s);
	}
	reader_close(r);
	return got < 0 ? got : (int64_t)at;
}

int64_t net_fetch(struct net *n)
{
	struct object *o = NULL;
	int64_t got = net_open(n, &o);

	if (got == 0)
		got = net_drain(n, o);
	object_close(o);
	return got;
}
