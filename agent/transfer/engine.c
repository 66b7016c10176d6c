/* SPDX-License-Identifier: MIT */
/* Start and end of the transfer engine, and curl's multi interface on a libuv loop. Loop thread,
 * except for engine_post() and engine_wake_loop().
 *
 * Two rules apply to libuv and curl. A timeout of -1 from curl stops the timer. Results are read
 * after every call into curl, the call from the timer included, since a transfer can end by time
 * alone. */
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

#define CLOCK_NS 100000000ull

struct socket_watch {
	uv_poll_t poll;
	struct transfer *t;
	curl_socket_t fd;
};

/* The inbox is the only way from a worker thread to the loop thread: a list under a lock, and a
 * libuv async handle that wakes the loop. Nothing is allocated; a post is embedded in the object it
 * is about. */

static int inbox_init(struct inbox *in, uv_loop_t *loop, uv_async_cb on_wake)
{
	in->first = NULL;
	in->last = &in->first;
	in->shut = false;
	pthread_mutex_init(&in->lock, NULL);
	return uv_async_init(loop, &in->wake, on_wake);
}

static void inbox_done(struct inbox *in)
{
	pthread_mutex_destroy(&in->lock);
}

bool engine_post(struct inbox *in, struct post *post)
{
	bool open;

	pthread_mutex_lock(&in->lock);
	open = !in->shut;
	if (open && !post->queued) {
		post->queued = true;
		post->next = NULL;
		*in->last = post;
		in->last = &post->next;
		/* Sent under the lock: once the inbox is shut, the handle may be closed. */
		uv_async_send(&in->wake);
	}
	pthread_mutex_unlock(&in->lock);
	return open;
}

static struct post *inbox_take(struct inbox *in)
{
	struct post *post;

	pthread_mutex_lock(&in->lock);
	post = in->first;
	if (post != NULL) {
		in->first = post->next;
		if (in->first == NULL)
			in->last = &in->first;
		post->queued = false;
	}
	pthread_mutex_unlock(&in->lock);
	return post;
}

static void inbox_run(struct inbox *in)
{
	struct post *post;

	while ((post = inbox_take(in)) != NULL)
		post->run(post);
}

static void inbox_shut(struct inbox *in)
{
	pthread_mutex_lock(&in->lock);
	in->shut = true;
	pthread_mutex_unlock(&in->lock);
}

void engine_wake_loop(void *ctx)
{
	struct inbox *in = ctx;

	uv_async_send(&in->wake);
}

/* The end of the engine. */

static void transfer_free(struct transfer *t)
{
	while (t->hosts != NULL) {
		struct host *h = t->hosts;

		t->hosts = h->next;
		free(h->origin);
		free(h);
	}
	while (t->unstable != NULL) {
		struct unstable_url *c = t->unstable;

		t->unstable = c->next;
		free(c->url);
		free(c);
	}
	free(t->idle);
	free(t->ca_file);
	free(t);
}

/* Also called for each socket watch that closes while the engine is running. */
static void engine_handle_closed(struct transfer *t)
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

static void read_results(struct transfer *t)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(t->multi, &left)) != NULL) {
		struct range *r = NULL;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &r);
		range_finished(r, msg->data.result);
	}
}

static void wake_workers(struct transfer *t)
{
	struct http_object *o;

	while ((o = t->to_wake) != NULL) {
		t->to_wake = o->next_to_wake;
		o->will_wake = false;
		pthread_mutex_lock(&o->lock);
		if (o->sleeping)
			pthread_cond_broadcast(&o->changed);
		pthread_mutex_unlock(&o->lock);
	}
}

/* Runs after every event: reads curl's results, then schedules, then wakes the workers that got
 * bytes. */
static void pump(struct transfer *t)
{
	if (t->multi != NULL)
		read_results(t);
	if (t->dirty) {
		t->dirty = false;
		schedule(t);
	}
	wake_workers(t);
}

void engine_wake_worker(struct http_object *o)
{
	if (o->will_wake)
		return;
	o->will_wake = true;
	o->next_to_wake = o->t->to_wake;
	o->t->to_wake = o;
}

/* Sockets and the timer that curl asks for. */

/* An error here concerns all transfers, and curl reports it to none of them. */
static void run_curl(struct transfer *t, curl_socket_t fd, int flags)
{
	int running;
	CURLMcode code = curl_multi_socket_action(t->multi, fd, flags, &running);

	if (code != CURLM_OK)
		object_engine_failed(t, code);
}

static void on_socket_ready(uv_poll_t *poll, int status, int events)
{
	struct socket_watch *w = container_of(poll, struct socket_watch, poll);
	struct transfer *t = w->t;
	int flags = 0;

	if (status < 0)
		flags = CURL_CSELECT_ERR;
	if (events & UV_READABLE)
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	run_curl(t, w->fd, flags);
	pump(t);
}

static struct socket_watch *watch_new(struct transfer *t, curl_socket_t fd)
{
	struct socket_watch *w = zalloc(sizeof(*w));

	w->t = t;
	w->fd = fd;
	if (uv_poll_init_socket(t->loop, &w->poll, fd) < 0) {
		free(w);
		return NULL;
	}
	t->open_handles++;
	curl_multi_assign(t->multi, fd, w);
	return w;
}

static void on_watch_closed(uv_handle_t *handle)
{
	struct socket_watch *w = container_of((uv_poll_t *)handle, struct socket_watch, poll);
	struct transfer *t = w->t;

	free(w);
	engine_handle_closed(t);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
{
	struct transfer *t = ctx;
	struct socket_watch *w = socket_ctx;
	int events = 0;

	(void)easy;
	if (what == CURL_POLL_REMOVE) {
		if (w == NULL)
			return 0;
		uv_poll_stop(&w->poll);
		uv_close((uv_handle_t *)&w->poll, on_watch_closed);
		curl_multi_assign(t->multi, fd, NULL);
		return 0;
	}
	if (w == NULL && (w = watch_new(t, fd)) == NULL)
		return -1;
	if (what != CURL_POLL_OUT)
		events |= UV_READABLE;
	if (what != CURL_POLL_IN)
		events |= UV_WRITABLE;
	return uv_poll_start(&w->poll, events, on_socket_ready);
}

static void on_curl_timeout(uv_timer_t *timer)
{
	struct transfer *t = container_of(timer, struct transfer, curl_timer);

	run_curl(t, CURL_SOCKET_TIMEOUT, 0);
	pump(t);
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *ctx)
{
	struct transfer *t = ctx;

	(void)multi;
	if (timeout_ms < 0)
		return uv_timer_stop(&t->curl_timer);
	if (t->closing)
		return 0;
	uv_update_time(t->loop);
	return uv_timer_start(&t->curl_timer, on_curl_timeout, (uint64_t)timeout_ms, 0);
}

/* The engine's clock and the inbox's wake-up. */

static uint64_t tick_ranges(struct range *first, uint64_t now)
{
	uint64_t due = UINT64_MAX;

	for (struct range *r = first, *next; r != NULL; r = next) {
		uint64_t then;

		next = r->next;
		range_tick(r, now);
		then = range_due(r);
		due = then < due ? then : due;
	}
	return due;
}

static void tick_pace(struct http_object *o, uint64_t now)
{
	const struct transfer_options *opts = o->t->opts;
	struct pace_limits limits = {.range_bytes = opts->range_max};
	uint64_t slept_ns;

	limits.connections = o->t->connections < opts->connections_per_host
				     ? o->t->connections
				     : opts->connections_per_host;
	pthread_mutex_lock(&o->lock);
	slept_ns = o->slept_ns + (o->sleeping ? now - o->asleep_since_ns : 0);
	pthread_mutex_unlock(&o->lock);
	pace_tick(&o->pace, now, slept_ns, &limits);
}

static void on_clock(uv_timer_t *timer)
{
	struct transfer *t = container_of(timer, struct transfer, clock);
	uint64_t now = now_ns();
	uint64_t due = t->objects != NULL ? now + CLOCK_NS : UINT64_MAX;

	t->clock_due_ns = UINT64_MAX;
	for (struct http_object *o = t->objects; o != NULL; o = o->next) {
		uint64_t of_ranges = tick_ranges(o->ranges, now);
		uint64_t of_reads = tick_ranges(o->reads, now);

		due = of_ranges < due ? of_ranges : due;
		due = of_reads < due ? of_reads : due;
		tick_pace(o, now);
	}
	t->dirty = true;
	engine_set_clock(t, due);
	range_hold_release(t);
	pump(t);
}

void engine_set_clock(struct transfer *t, uint64_t due_ns)
{
	uint64_t now = now_ns();

	if (due_ns >= t->clock_due_ns || t->closing)
		return;
	t->clock_due_ns = due_ns;
	uv_update_time(t->loop);
	uv_timer_start(&t->clock, on_clock, due_ns > now ? (due_ns - now) / 1000000 + 1 : 0, 0);
}

/* Called for posts from workers, and each time a block returns to a pool. */
static void on_inbox_wake(uv_async_t *wake)
{
	struct transfer *t = container_of(wake, struct transfer, inbox.wake);

	if (t->closing)
		return;
	inbox_run(&t->inbox);
	t->dirty = true;
	pump(t);
}

/* Easy handles and hosts, which all objects share. */

#define CANNOT_START "the network engine cannot start: out of memory or file descriptors"

CURL *engine_acquire_easy(struct transfer *t)
{
	return t->n_idle > 0 ? t->idle[--t->n_idle] : curl_easy_init();
}

void engine_release_easy(struct transfer *t, CURL *easy)
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
	_free_ char *origin = request_url_origin(url);
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

/* The start of the engine. */

static int start_handles(struct transfer *t)
{
	int code = inbox_init(&t->inbox, t->loop, on_inbox_wake);

	if (code < 0)
		return code;
	uv_timer_init(t->loop, &t->curl_timer);
	uv_timer_init(t->loop, &t->clock);
	t->clock_due_ns = UINT64_MAX;
	t->open_handles = 3;
	return 0;
}

/* Returns 0, or -1 with nothing started. */
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

	if (code < 0)
		return code;
	curl_share_setopt(t->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	curl_multi_setopt(t->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
	curl_multi_setopt(t->multi, CURLMOPT_SOCKETDATA, t);
	curl_multi_setopt(t->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
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

int transfer_new(uv_loop_t *loop, const struct transfer_options *opts, uint64_t network_bytes,
	struct transfer **ret, struct error *err)
{
	struct transfer *t;
	int code = opts->headers != NULL && opts->headers[0] != NULL ? libcurl_load(err) : 0;

	if (code == 0)
		code = request_check_headers(opts, err);
	if (code < 0)
		return code;
	assert(opts->connections > 0 && opts->connections_per_host > 0 && opts->range_min > 0);
	t = zalloc(sizeof(*t));
	t->loop = loop;
	t->opts = opts;
	t->connections = throttle_connections(opts->throttle, opts->connections);
	code = trust_find(opts->ca_file, &t->ca_file, err);
	if (code == 0)
		code = trust_check_netrc(opts->netrc_file, err);
	if (code == 0 && start_handles(t) < 0)
		code = error_set(err, -ENOMEM, CANNOT_START);
	if (code < 0) {
		transfer_free(t);
		return code;
	}
	t->n_blocks = (unsigned)(network_bytes / BLOCK_BYTES);
	if (t->n_blocks < 2 * OWN_BLOCKS)
		t->n_blocks = 2 * OWN_BLOCKS;
	t->pool = block_pool_new(BLOCK_BYTES, t->n_blocks, engine_wake_loop, &t->inbox);
	*ret = t;
	return 0;
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
