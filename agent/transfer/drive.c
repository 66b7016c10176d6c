/* SPDX-License-Identifier: MIT */
/* Makes curl's multi interface run on a libuv loop. Loop thread.
 *
 * Two rules carry it: curl's timeout of -1 deletes the timer, and results are read after every call
 * into curl, the timer's too, since a transfer can end by time alone. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <fcntl.h>
#include <stdlib.h>

#define CLOCK_NS 100000000ull

struct socket_watch {
	uv_poll_t poll;
	struct transfer *t;
	curl_socket_t fd;
};

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

static void wake_touched(struct transfer *t)
{
	struct http_object *o;

	while ((o = t->touched) != NULL) {
		t->touched = o->next_touched;
		o->is_touched = false;
		pthread_mutex_lock(&o->lock);
		if (o->sleeping)
			pthread_cond_broadcast(&o->changed);
		pthread_mutex_unlock(&o->lock);
	}
}

/* After every event: what curl finished, who goes next, and then the workers that got bytes. */
static void pump(struct transfer *t)
{
	if (t->multi != NULL)
		read_results(t);
	if (t->dirty) {
		t->dirty = false;
		schedule(t);
	}
	wake_touched(t);
}

void engine_touch(struct http_object *o)
{
	if (o->is_touched)
		return;
	o->is_touched = true;
	o->next_touched = o->t->touched;
	o->t->touched = o;
}

/* curl's side: sockets and its timer. */

static void on_socket_ready(uv_poll_t *poll, int status, int events)
{
	struct socket_watch *w = container_of(poll, struct socket_watch, poll);
	struct transfer *t = w->t;
	int flags = 0, running;

	if (status < 0)
		flags = CURL_CSELECT_ERR;
	if (events & UV_READABLE)
		flags |= CURL_CSELECT_IN;
	if (events & UV_WRITABLE)
		flags |= CURL_CSELECT_OUT;
	curl_multi_socket_action(t->multi, w->fd, flags, &running);
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
	if ((fcntl(fd, F_GETFD) & FD_CLOEXEC) == 0)
		cloexec_sweep(t->inherited); /* a resolver's: we see one end, it has two */
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

int drive_on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *ctx, void *socket_ctx)
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
	int running;

	curl_multi_socket_action(t->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	pump(t);
}

int drive_on_curl_timer(CURLM *multi, long timeout_ms, void *ctx)
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

/* Our own side: the clock and the inbox. */

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
	engine_clock(t, due);
	hold_release(t);
	pump(t);
}

void engine_clock(struct transfer *t, uint64_t due_ns)
{
	uint64_t now = now_ns();

	if (due_ns >= t->clock_due_ns || t->closing)
		return;
	t->clock_due_ns = due_ns;
	uv_update_time(t->loop);
	uv_timer_start(&t->clock, on_clock, due_ns > now ? (due_ns - now) / 1000000 + 1 : 0, 0);
}

/* Also each time a block comes back. */
void drive_on_wake(uv_async_t *wake)
{
	struct transfer *t = container_of(wake, struct transfer, inbox.wake);

	if (t->closing)
		return;
	inbox_run(&t->inbox);
	t->dirty = true;
	pump(t);
}
