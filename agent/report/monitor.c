/* SPDX-License-Identifier: MIT */
/* Watches the progress of all sources, and shows it: on a terminal as a live display, elsewhere as
 * log lines. Loop thread. */
#include "log.h"
#include "report_private.h"
#include <uv.h>

/* The first line comes early, so that something is seen of every stage that is not short. */
enum { TICK_MS = 100, FIRST_LINE_MS = 5000 };

struct monitor {
	uv_timer_t timer;
	struct monitor_options opts;
	struct display *display; /* NULL: lines are logged */
	struct meter *meters;
	size_t n;
	uint64_t next_line_ns; /* 0: nothing is active */
};

static bool is_any_active(const struct monitor *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (progress_state(m->meters[i].progress) == PROGRESS_ACTIVE)
			return true;
	return false;
}

static bool is_json(const struct monitor *m)
{
	return m->opts.mode == PROGRESS_JSON;
}

static void log_heartbeat(struct monitor *m, uint64_t at_ns)
{
	if (!is_any_active(m)) {
		m->next_line_ns = 0;
	} else if (m->next_line_ns == 0) {
		m->next_line_ns = at_ns + (uint64_t)FIRST_LINE_MS * 1000000;
	} else if (at_ns >= m->next_line_ns) {
		m->next_line_ns = at_ns + m->opts.interval_ms * 1000000;
		progress_lines_heartbeat(m->meters, m->n, is_json(m));
	}
}

static void show(struct monitor *m, uint64_t at_ns)
{
	for (size_t i = 0; i < m->n; i++) {
		if (m->display == NULL)
			progress_lines_start(&m->meters[i], at_ns, is_json(m));
		progress_lines_incidents(&m->meters[i], at_ns, is_json(m));
	}
	if (m->display != NULL)
		display_draw(m->display, m->meters, m->n);
	else
		log_heartbeat(m, at_ns);
}

static void describe(const struct meter *m, struct monitor_source *ret)
{
	*ret = (struct monitor_source){.name = m->name,
		.to = m->progress->to,
		.state = progress_state(m->progress),
		.received = counted(&m->progress->received),
		.total = counted(&m->progress->total),
		.bytes_per_second = m->bytes_per_second,
		.seconds_left = meter_seconds_left(m),
		.waits_for = meter_waits_for(m)};
}

static void notify(const struct monitor *m, const struct monitor_source *removed)
{
	if (m->opts.on_tick != NULL)
		m->opts.on_tick(m->opts.on_tick_ctx, removed);
}

static void on_tick(uv_timer_t *h)
{
	struct monitor *m = h->data;
	uint64_t at_ns = now_ns();

	for (size_t i = 0; i < m->n; i++)
		meter_sample(&m->meters[i], at_ns);
	if (m->opts.mode != PROGRESS_NONE)
		show(m, at_ns);
	notify(m, NULL);
}

static bool wants_display(const struct monitor_options *opts)
{
	return opts->mode == PROGRESS_TTY ||
	       (opts->mode == PROGRESS_AUTO && display_is_possible(opts->fd));
}

struct monitor *monitor_new(uv_loop_t *loop, const struct monitor_options *opts)
{
	struct monitor *m;

	if (opts->mode == PROGRESS_NONE && opts->on_tick == NULL)
		return NULL;
	m = zalloc(sizeof(*m));
	m->opts = *opts;
	if (wants_display(opts))
		m->display = display_new(opts->fd);
	uv_timer_init(loop, &m->timer);
	m->timer.data = m;
	uv_timer_start(&m->timer, on_tick, TICK_MS, TICK_MS);
	uv_unref((uv_handle_t *)&m->timer); /* stages keep the loop running, not this */
	return m;
}

void monitor_add(struct monitor *m, struct progress *p)
{
	struct meter *meters;

	if (m == NULL)
		return;
	meters = reallocarray(m->meters, m->n + 1, sizeof(*meters));
	if (meters == NULL)
		return; /* the source is staged, but not displayed */
	m->meters = meters;
	meter_init(&m->meters[m->n++], p);
}

/* An incident may have been noted since the last tick. */
static void end_meter(const struct monitor *monitor, struct meter *m)
{
	struct monitor_source source;

	if (monitor->opts.mode != PROGRESS_NONE)
		progress_lines_incidents(m, now_ns(), is_json(monitor));
	describe(m, &source);
	notify(monitor, &source);
	meter_done(m);
}

void monitor_remove(struct monitor *m, const struct progress *p)
{
	size_t kept = 0;

	if (m == NULL)
		return;
	for (size_t i = 0; i < m->n; i++) {
		if (m->meters[i].progress == p)
			end_meter(m, &m->meters[i]);
		else
			m->meters[kept++] = m->meters[i];
	}
	m->n = kept;
	if (m->display != NULL)
		display_draw(m->display, m->meters, m->n);
}

void monitor_each(const struct monitor *m,
	void (*each)(void *ctx, const struct monitor_source *source), void *ctx)
{
	for (size_t i = 0; m != NULL && i < m->n; i++) {
		struct monitor_source source;

		describe(&m->meters[i], &source);
		each(ctx, &source);
	}
}

bool monitor_print(const struct monitor *m)
{
	if (m == NULL || !is_any_active(m))
		return false;
	progress_lines_heartbeat(m->meters, m->n, is_json(m));
	return true;
}

static void on_timer_closed(uv_handle_t *h)
{
	struct monitor *m = h->data;

	free(m->meters);
	free(m);
}

void monitor_close(struct monitor *m)
{
	if (m == NULL)
		return;
	for (size_t i = 0; i < m->n; i++)
		meter_done(&m->meters[i]);
	m->n = 0;
	display_close(m->display);
	m->display = NULL;
	uv_close((uv_handle_t *)&m->timer, on_timer_closed);
}
