/* SPDX-License-Identifier: MIT */
/* The live display: a block of lines at the end of the terminal, one for each active source and one
 * for all. Loop thread, except for the functions that the log calls. */
#include "defer.h"
#include "log.h"
#include "report_private.h"
#include "utf8.h"
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>

static char *format_percent(const struct meter *m)
{
	return meter_print_percent(counted(&m->progress->received), counted(&m->progress->total));
}

static char *format_amount(const struct meter *m)
{
	return meter_print_amount(counted(&m->progress->received), counted(&m->progress->total));
}

static char *format_rate(const struct meter *m)
{
	return meter_print_rate(m->bytes_per_second);
}

static char *format_left(const struct meter *m)
{
	return meter_print_left(meter_seconds_left(m));
}

static char *format_unpacked(const struct meter *m)
{
	unsigned long long entries = counted(&m->progress->entries);
	char buf[32];

	return entries == 0
		       ? text_copy("")
		       : text_format("%llu %s of %s", entries, entries == 1 ? "entry" : "entries",
				 units_print_size(counted(&m->progress->expanded), buf));
}

static char *format_waiting(const struct meter *m)
{
	enum bottleneck b = meter_waits_for(m);

	return text_copy(b == WAITED_LITTLE ? "" : report_bottleneck_name(b));
}

/* Fields in the order of their importance, from left to right. The widths keep the columns in place
 * while the numbers change. */
static const struct field {
	char *(*print)(const struct meter *m);
	int columns;
} fields[] = {
	{format_percent, 4},
	{format_amount, 18},
	{format_rate, 9},
	{format_left, 11},
	{format_unpacked, 24},
	{format_waiting, 7},
};

/* A long name loses its middle, since the names of sources mostly differ at the end. */
static void draw_name(const char *name, size_t columns, struct text *to)
{
	size_t width = utf8_columns(name), head = (columns - 2) / 3, cut = head + 2;
	const char *tail = name;

	if (width <= columns) {
		text_addf(to, "%s%*s", name, (int)(columns - width), "");
	} else if (columns < 3) {
		text_add_bytes(to, name, utf8_fitting(name, columns));
	} else {
		text_add_bytes(to, name, utf8_fitting(name, head));
		text_add(to, "..");
		while (width > columns - cut)
			width -= utf8_step(&tail);
		text_addf(to, "%s%*s", tail, (int)(columns - cut - width), "");
	}
}

/* Appends the row of a source, without a newline, in at most this many columns; the less important
 * fields are left out if they do not fit. name_columns: common width of all rows' names. */
static void draw_source(const struct meter *m, size_t columns, size_t name_columns, struct text *to)
{
	size_t left = columns;

	if (name_columns > left)
		name_columns = left;
	draw_name(m->name, name_columns, to);
	left -= name_columns;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		_free_ char *field = fields[i].print(m);
		size_t width = (size_t)fields[i].columns;

		if (strlen(field) > width)
			width = strlen(field);
		if (width + 2 > left)
			return;
		text_addf(to, "  %*s", (int)width, field);
		left -= width + 2;
	}
}

/* The block of lines on the terminal. It is redrawn by the loop thread. A log line of any thread
 * erases the block, is written in its place, and redraws it; the mutex is held meanwhile, and while
 * the block is drawn. The drawn block is kept as text, so that other threads need no access to the
 * meters. */

enum { SOME_COLUMNS = 80, SOME_LINES = 24, LONGEST_NAME = 28 };

struct display {
	/* Set by display_new() and constant. */
	int fd;

	/* Under mutex. */
	pthread_mutex_t mutex;
	struct text frame; /* the text on the terminal */
	unsigned lines;    /* lines of the frame; the cursor is at the start of the line below */
};

bool display_is_possible(int fd)
{
	/* NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here sets variables */
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

	return isatty(fd) != 0 && term != NULL && strcmp(term, "dumb") != 0 &&
	       (no_color == NULL || *no_color == '\0');
}

/* One write, so that a partly drawn display is never visible. */
static void write_locked(const struct display *d, const struct text *t)
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

/* The log calls the next two functions before and after each line, with its stream locked. The
 * mutex is held from the first to the second. */

static void erase_for_log(void *ctx)
{
	struct display *d = ctx;
	struct text out = {0};

	pthread_mutex_lock(&d->mutex);
	add_rewind_locked(d, &out);
	text_add(&out, d->lines > 0 ? "\033[J" : "");
	write_locked(d, &out);
	text_done(&out);
}

static void redraw_after_log(void *ctx)
{
	struct display *d = ctx;

	if (d->lines > 0)
		write_locked(d, &d->frame);
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

/* What is drawn. */
struct picture {
	const struct meter *meters;
	size_t n;
	struct meter_total total;
};

static bool is_active(const struct meter *m)
{
	return progress_state(m->progress) == PROGRESS_ACTIVE;
}

static size_t widest_name(const struct picture *p, size_t columns)
{
	size_t widest = 0, most = columns / 2 < LONGEST_NAME ? columns / 2 : LONGEST_NAME;

	for (size_t i = 0; i < p->n; i++) {
		size_t width = is_active(&p->meters[i]) ? utf8_columns(p->meters[i].name) : 0;

		if (width > widest)
			widest = width;
	}
	return widest < most ? widest : most;
}

/* Appends the field if it fits; all are ASCII. */
static void add_field(struct text *to, const char *field, size_t columns)
{
	if (*field != '\0' && to->len + 2 + strlen(field) <= columns)
		text_addf(to, "  %s", field);
}

/* The line of all sources together, which stands last. */
static void draw_total(const struct meter_total *t, size_t columns, struct text *to)
{
	_free_ char *percent = meter_print_percent(t->received, t->total);
	_free_ char *amount = meter_print_amount(t->received, t->total);
	_free_ char *rate = meter_print_rate(t->bytes_per_second);
	_free_ char *left = meter_print_left(t->seconds_left);
	struct text line = {0};

	text_addf(&line, "%zu of %zu done", t->done, t->queued + t->active + t->done);
	add_field(&line, percent, columns);
	add_field(&line, amount, columns);
	add_field(&line, left, columns);
	add_field(&line, rate, columns);
	text_add_bytes(to, line.s, utf8_fitting(line.s, columns));
	text_done(&line);
}

/* Sources that are active, one line each; those that are queued or done are only counted. A line
 * that reached the last column would wrap, and a line more than the terminal has would scroll away;
 * neither could be erased. Returns the number of lines. */
static unsigned compose(const struct display *d, const struct picture *p, struct text *frame)
{
	struct size size = terminal_size(d);
	size_t columns = size.columns - 1, name_columns = widest_name(p, columns);
	size_t has_total = p->n > 1 && size.lines > 1, room = size.lines - 1 - has_total;
	unsigned lines = 0;

	for (size_t i = 0; i < p->n && lines < room; i++) {
		if (!is_active(&p->meters[i]))
			continue;
		draw_source(&p->meters[i], columns, name_columns, frame);
		text_add(frame, "\033[K\n");
		lines++;
	}
	if (has_total > 0) {
		draw_total(&p->total, columns, frame);
		text_add(frame, "\033[K\n");
		lines++;
	}
	return lines;
}

void display_draw(struct display *d, const struct meter *meters, size_t n)
{
	struct picture picture = {.meters = meters, .n = n};
	struct text frame = {0}, out = {0};
	unsigned lines;

	meter_add_up(meters, n, &picture.total);
	lines = n > 0 ? compose(d, &picture, &frame) : 0;
	text_add(&frame, "");
	pthread_mutex_lock(&d->mutex);
	add_rewind_locked(d, &out);
	text_add_bytes(&out, frame.s, frame.len);
	text_add(&out, lines < d->lines ? "\033[J" : "");
	write_locked(d, &out);
	text_done(&d->frame);
	d->frame = frame;
	d->lines = lines;
	pthread_mutex_unlock(&d->mutex);
	text_done(&out);
}

struct display *display_new(int fd)
{
	struct display *d = zalloc(sizeof(*d));

	d->fd = fd;
	pthread_mutex_init(&d->mutex, NULL);
	log_set_display(erase_for_log, redraw_after_log, d);
	return d;
}

void display_close(struct display *d)
{
	if (d == NULL)
		return;
	display_draw(d, NULL, 0);
	log_set_display(NULL, NULL, NULL);
	pthread_mutex_destroy(&d->mutex);
	text_done(&d->frame);
	free(d);
}
