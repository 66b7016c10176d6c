/* SPDX-License-Identifier: MIT */
/* The live display: a block of lines at the end of the terminal, one per source. Loop thread,
 * except for the functions that the log calls. */
#include "defer.h"
#include "log.h"
#include "redact.h"
#include "report.h"
#include "text.h"
#include "utf8.h"
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <uv.h>

/* One source, and how fast it was lately. Loop thread. */
struct display_row {
	const struct progress *progress;
	char *name; /* valid UTF-8 without control characters */

	/* As of the last sample. */
	uint64_t sampled_ns, received, network_ns, decode_ns, disk_ns;
	double bytes_per_second; /* smoothed */
	enum bottleneck waits_for;
};

/* Below this time, the difference of two samples says nothing about a rate. */
#define SAMPLE_NS 90000000ULL

/* Weight of the newest sample: a sample of two seconds ago has hardly any influence. */
static const double newest_weight = 0.15;

static void row_init(struct display_row *r, const struct progress *p, uint64_t at_ns)
{
	_free_ char *shown = redact_own(text_copy(p->name));
	struct text name = {0};

	utf8_add_clean(&name, shown);
	*r = (struct display_row){.progress = p,
		.name = text_take(&name),
		.sampled_ns = at_ns,
		.received = counted(&p->received),
		.network_ns = counted(&p->network_ns),
		.decode_ns = counted(&p->decode_ns),
		.disk_ns = counted(&p->disk_ns)};
}

static void row_done(struct display_row *r)
{
	free(r->name);
}

/* Returns by how much the counter has grown. A stage that starts again resets its counters to
 * zero. */
static uint64_t increase(uint64_t *last, const atomic_ullong *counter)
{
	uint64_t now = counted(counter), more = now > *last ? now - *last : 0;

	*last = now;
	return more;
}

/* Updates the rate and the bottleneck with the time since the last sample. */
static void row_sample(struct display_row *r, uint64_t at_ns)
{
	uint64_t wall_ns = at_ns - r->sampled_ns;
	uint64_t network_ns, decode_ns, disk_ns;
	double rate;

	if (wall_ns < SAMPLE_NS)
		return;
	rate = (double)increase(&r->received, &r->progress->received) * 1e9 / (double)wall_ns;
	r->bytes_per_second +=
		r->bytes_per_second > 0 ? (rate - r->bytes_per_second) * newest_weight : rate;
	network_ns = increase(&r->network_ns, &r->progress->network_ns);
	decode_ns = increase(&r->decode_ns, &r->progress->decode_ns);
	disk_ns = increase(&r->disk_ns, &r->progress->disk_ns);
	r->waits_for = report_bottleneck(network_ns, decode_ns, disk_ns, wall_ns);
	r->sampled_ns = at_ns;
}

static char *format_percent(const struct display_row *r)
{
	uint64_t total = counted(&r->progress->total), received = counted(&r->progress->received);

	if (total == 0)
		return text_copy("    ");
	return text_format("%3u%%",
		received >= total ? 100U : (unsigned)((double)received * 100 / (double)total));
}

static char *format_amount(const struct display_row *r)
{
	uint64_t total = counted(&r->progress->total);
	char received[32], of[32];

	units_print_size(counted(&r->progress->received), received);
	return total == 0 ? text_copy(received)
			  : text_format("%s of %s", received, units_print_size(total, of));
}

static char *format_rate(const struct display_row *r)
{
	char buf[32];

	return text_format("%s/s", units_print_size((uint64_t)r->bytes_per_second, buf));
}

static char *format_unpacked(const struct display_row *r)
{
	unsigned long long entries = counted(&r->progress->entries);
	char buf[32];

	return entries == 0
		       ? text_copy("")
		       : text_format("%llu %s of %s", entries, entries == 1 ? "entry" : "entries",
				 units_print_size(counted(&r->progress->expanded), buf));
}

static char *format_waiting(const struct display_row *r)
{
	return r->waits_for == WAITED_LITTLE ? text_copy("")
					     : text_copy(report_bottleneck_name(r->waits_for));
}

/* Fields in the order of their importance, from left to right. The widths keep the columns in place
 * while the numbers change. */
static const struct field {
	char *(*print)(const struct display_row *r);
	int columns;
} fields[] = {
	{format_percent, 4},
	{format_amount, 18},
	{format_rate, 9},
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

/* Appends the row, without a newline, in at most this many columns; the less important fields are
 * left out if they do not fit. name_columns: common width of all rows' names. */
static void row_draw(
	const struct display_row *r, size_t columns, size_t name_columns, struct text *to)
{
	size_t left = columns;

	if (name_columns > left)
		name_columns = left;
	draw_name(r->name, name_columns, to);
	left -= name_columns;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		_free_ char *field = fields[i].print(r);
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
 * rows. */

enum { REDRAW_MS = 100, SOME_COLUMNS = 80, SOME_LINES = 24, LONGEST_NAME = 32 };

struct display {
	/* Set by display_new() and constant. */
	int fd;

	/* Loop thread. */
	uv_timer_t timer;
	struct display_row *rows;
	size_t n_rows;

	/* Under mutex. */
	pthread_mutex_t mutex;
	struct text frame; /* the text on the terminal */
	unsigned lines;    /* lines of the frame; the cursor is at the start of the line below */
};

static bool is_wanted(int fd)
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

static size_t widest_name(const struct display *d, size_t columns)
{
	size_t widest = 0, most = columns / 2 < LONGEST_NAME ? columns / 2 : LONGEST_NAME;

	for (size_t i = 0; i < d->n_rows; i++) {
		/* A row that is removed is overwritten by those behind it.
		 * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		size_t width = utf8_columns(d->rows[i].name);

		if (width > widest)
			widest = width;
	}
	return widest < most ? widest : most;
}

/* A line that reached the last column would wrap, and a line more than the terminal has would
 * scroll away; neither could be erased. Returns the number of lines. */
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
		_free_ char *rest = text_format("and %zu more", d->n_rows - shown);

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
	write_locked(d, &out);
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

/* The public functions. */

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
	uv_unref((uv_handle_t *)&d->timer); /* stages keep the loop running, not the display */
	log_set_display(erase_for_log, redraw_after_log, d);
	return d;
}

void display_add(struct display *d, const struct progress *p)
{
	struct display_row *rows;

	if (d == NULL)
		return;
	rows = reallocarray(d->rows, d->n_rows + 1, sizeof(*rows));
	if (rows == NULL)
		return; /* the source is staged, but not displayed */
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
