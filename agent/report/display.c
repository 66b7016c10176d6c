/* SPDX-License-Identifier: MIT */
/* The live display: a block of lines at the end of the terminal, redrawn from the loop thread. Log lines
 * come from any thread and are written in its place; meanwhile, and while it is drawn, its mutex is
 * held. What is on the terminal is kept as text, so that other threads never look at the rows. */
#include "defer.h"
#include "log.h"
#include "report.h"
#include "row.h"
#include "utf8.h"
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <uv.h>

enum { REDRAW_MS = 100, SOME_COLUMNS = 80, SOME_LINES = 24, LONGEST_NAME = 32 };

struct display {
	/* Set at creation. */
	int fd;

	/* Loop thread. */
	uv_timer_t timer;
	struct row *rows;
	size_t n_rows;

	/* Under lock. */
	pthread_mutex_t mutex;
	struct text frame; /* as it stands on the terminal */
	unsigned lines;    /* in it; the cursor is at the start of the one below */
};

static bool is_wanted(int fd)
{
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here sets variables */
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

	return isatty(fd) != 0 && term != NULL && strcmp(term, "dumb") != 0 &&
	       (no_color == NULL || *no_color == '\0');
}

/* One write, so that a half-drawn display is never seen. */
static void put_locked(const struct display *d, const struct text *t)
{
	ssize_t n;

	do {
		n = write(d->fd, t->s, t->len);
	} while (n < 0 && errno == EINTR);
}

static void add_rewind_locked(const struct display *d, struct text *to)
{
	if (d->lines > 0)
		text_addf(to, "\r\033[%uA", d->lines);
}

/* With the log's stream locked, around one line; the mutex is held from one to the other. */

static void hide(void *ctx)
{
	struct display *d = ctx;
	struct text out = {0};

	pthread_mutex_lock(&d->mutex);
	add_rewind_locked(d, &out);
	text_add(&out, d->lines > 0 ? "\033[J" : "");
	put_locked(d, &out);
	text_done(&out);
}

static void show(void *ctx)
{
	struct display *d = ctx;

	if (d->lines > 0)
		put_locked(d, &d->frame);
	pthread_mutex_unlock(&d->mutex);
}

/* Drawing. */

struct size {
	size_t columns, lines;
};

static struct size terminal_size(const struct display *d)
{
	struct winsize w = {0};

	if (ioctl(d->fd, TIOCGWINSZ, &w) < 0 || w.ws_col == 0 || w.ws_row == 0)
		return (struct size){SOME_COLUMNS, SOME_LINES};
	return (struct size){w.ws_col, w.ws_row};
}

static size_t widest_name(const struct display *d, size_t columns)
{
	size_t widest = 0, most = columns / 2 < LONGEST_NAME ? columns / 2 : LONGEST_NAME;

	for (size_t i = 0; i < d->n_rows; i++) {
		size_t width = utf8_columns(d->rows[i].name);

		if (width > widest)
			widest = width;
	}
	return widest < most ? widest : most;
}

/* A line that reached the last column would wrap, and one more line than the terminal has would scroll
 * away: both could not be taken back. Returns the number of lines. */
static unsigned compose(const struct display *d, struct text *frame)
{
	struct size size = terminal_size(d);
	size_t columns = size.columns - 1, room = size.lines - 1, shown = d->n_rows;
	size_t name_columns = widest_name(d, columns);
	unsigned lines = 0;

	if (shown > room)
		shown = room > 0 ? room - 1 : 0;
	for (size_t i = 0; i < shown; i++, lines++) {
		row_draw(&d->rows[i], columns, name_columns, frame);
		text_add(frame, "\033[K\n");
	}
	if (shown < d->n_rows && room > 0) {
		_free_ char *rest = format_text("and %zu more", d->n_rows - shown);

		text_addf(frame, "%.*s\033[K\n", (int)columns, rest);
		lines++;
	}
	return lines;
}

static void redraw(struct display *d)
{
	struct text frame = {0}, out = {0};
	unsigned lines = compose(d, &frame);

	text_add(&frame, "");
	pthread_mutex_lock(&d->mutex);
	add_rewind_locked(d, &out);
	text_add_bytes(&out, frame.s, frame.len);
	text_add(&out, lines < d->lines ? "\033[J" : "");
	put_locked(d, &out);
	text_done(&d->frame);
	d->frame = frame;
	d->lines = lines;
	pthread_mutex_unlock(&d->mutex);
	text_done(&out);
}

static void on_timer(uv_timer_t *h)
{
	struct display *d = h->data;
	uint64_t now = now_ns();

	for (size_t i = 0; i < d->n_rows; i++)
		row_sample(&d->rows[i], now);
	redraw(d);
}

/* The rows. */

struct display *display_new(uv_loop_t *loop, int fd)
{
	struct display *d;

	if (!is_wanted(fd))
		return NULL;
	d = zalloc(sizeof(*d));
	d->fd = fd;
	pthread_mutex_init(&d->mutex, NULL);
	uv_timer_init(loop, &d->timer);
	d->timer.data = d;
	uv_timer_start(&d->timer, on_timer, REDRAW_MS, REDRAW_MS);
	uv_unref(
		(uv_handle_t *)&d->timer); /* what it shows keeps the loop going, not the showing */
	log_set_display(hide, show, d);
	return d;
}

void display_add(struct display *d, const struct progress *p)
{
	struct row *rows;

	if (d == NULL)
		return;
	rows = reallocarray(d->rows, d->n_rows + 1, sizeof(*rows));
	if (rows == NULL)
		return; /* staged all the same, only not seen */
	d->rows = rows;
	row_init(&d->rows[d->n_rows++], p, now_ns());
}

void display_remove(struct display *d, const struct progress *p)
{
	size_t kept = 0;

	if (d == NULL)
		return;
	for (size_t i = 0; i < d->n_rows; i++) {
		if (d->rows[i].progress == p)
			row_done(&d->rows[i]);
		else
			d->rows[kept++] = d->rows[i];
	}
	d->n_rows = kept;
	redraw(d);
}

static void on_timer_closed(uv_handle_t *h)
{
	struct display *d = h->data;

	pthread_mutex_destroy(&d->mutex);
	text_done(&d->frame);
	free(d->rows);
	free(d);
}

void display_close(struct display *d)
{
	if (d == NULL)
		return;
	for (size_t i = 0; i < d->n_rows; i++)
		row_done(&d->rows[i]);
	d->n_rows = 0;
	redraw(d);
	log_set_display(NULL, NULL, NULL);
	uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}
