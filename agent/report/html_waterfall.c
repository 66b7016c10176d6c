/* SPDX-License-Identifier: MIT */
/* The start as a waterfall: a row for each span, in the order of their beginnings, all along the
 * same axis. A source's bar is filled by the rate at which its bytes arrived, so that a stall is
 * seen as a gap. Loop thread. */
#include "defer.h"
#include "report_private.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pages stay readable and small: of more rows than this the longest are shown. */
enum { ROWS_MAX = 200, RATE_STEPS = 120 };

/* Percent of the axis. */
static double position(const struct view *v, uint64_t ns)
{
	double at = ns > v->begin_ns ? (double)(ns - v->begin_ns) : 0;
	double percent = v->start_ns > 0 ? at * 100 / (double)v->start_ns : 0;

	return percent < 100 ? percent : 100;
}

/* Whole minutes, or 1, 2 or 5 times a power of ten, so that there are some three to six ticks. */
static double tick_ns(const struct view *v)
{
	double rough = (double)v->start_ns / 5, power;

	if (rough < 1)
		return 1;
	if (rough > 60e9)
		return 60e9 * ceil(rough / 60e9);
	power = pow(10, floor(log10(rough)));
	if (rough / power > 5)
		return 10 * power;
	return rough / power > 2 ? 5 * power : rough / power > 1 ? 2 * power : power;
}

/* All in one unit: minutes if the ticks are whole ones, or the largest that the start lasted. */
static void add_tick_label(struct text *t, double at_ns, double tick, double whole)
{
	static const struct {
		double ns;
		const char *name;
	} units[] = {{60e9, "min"}, {1e9, "s"}, {1e6, "ms"}, {1e3, "\xc2\xb5s"}, {1, "ns"}};
	size_t i = tick >= units[0].ns ? 0 : 1;

	while (units[i].ns > whole && i + 1 < ARRAY_LEN(units))
		i++;
	text_addf(t, "%g %s", at_ns / units[i].ns, units[i].name);
}

static void add_axis(struct text *t, const struct view *v)
{
	double tick = tick_ns(v), whole = (double)v->start_ns;

	text_add(t, "<div class=axis>");
	for (double at = 0; whole > 0 && at <= whole * 0.97; at += tick) {
		text_addf(t, "<span style=\"left:%.3f%%\">", at * 100 / whole);
		if (at > 0)
			add_tick_label(t, at, tick, whole);
		else
			text_add(t, "0");
		text_add(t, "</span>");
	}
	text_add(t, "</div>\n");
}

/* The rate of a source. */

struct rate {
	const struct view *view;
	const struct span *source;
	double bytes[RATE_STEPS]; /* that arrived in each part of its time */
	bool any;
};

/* Spreads the bytes of a range evenly from its first byte to its end. */
static void add_range(struct rate *r, const struct span *range)
{
	uint64_t length = view_length_ns(r->view, r->source);
	uint64_t first = timeline_number(range, "first_byte_ns");
	double whole = (double)view_length_ns(r->view, range);
	double begin = (double)(int64_t)(range->begin_ns - r->source->begin_ns),
	       end = begin + whole;
	double step = (double)length / RATE_STEPS;
	double bytes = (double)timeline_number(range, "received_bytes");

	if ((double)first < whole)
		begin += (double)first;
	if (length == 0 || bytes <= 0 || end <= begin)
		return;
	r->any = true;
	for (size_t i = 0; i < RATE_STEPS; i++) {
		double from = fmax(begin, (double)i * step);
		double to = fmin(end, (double)(i + 1) * step);

		if (to > from)
			r->bytes[i] += bytes * (to - from) / (end - begin);
	}
}

static void find_rate(struct rate *r)
{
	unsigned id = (unsigned)(r->source - r->view->spans) + 1;

	for (size_t i = 0; i < r->view->n; i++)
		if (r->view->spans[i].kind == SPAN_RANGE && r->view->spans[i].parent == id)
			add_range(r, &r->view->spans[i]);
}

static void add_rate(struct text *t, const struct rate *r)
{
	double most = 0;

	for (size_t i = 0; i < RATE_STEPS; i++)
		most = fmax(most, r->bytes[i]);
	if (!r->any || most <= 0)
		return;
	text_addf(t,
		"<svg viewBox=\"0 0 %d 100\" preserveAspectRatio=none aria-hidden=true><path d=\"M0 100",
		RATE_STEPS);
	for (size_t i = 0; i < RATE_STEPS; i++)
		text_addf(t, "V%.0fH%zu", 100 - r->bytes[i] * 96 / most, i + 1);
	text_add(t, "V100Z\"/></svg>");
}

/* Rows. */

static bool is_row(const struct view *v, const struct span *s)
{
	switch (s->kind) {
	case SPAN_RUN:
	case SPAN_RANGE:
	case SPAN_COMMAND:
		return false;
	default:
		return s->begin_ns <= v->begin_ns + v->start_ns;
	}
}

static enum view_cause row_cause(const struct view *v, const struct span *s)
{
	switch (s->kind) {
	case SPAN_SOURCE:
		return html_source_cause(v, s);
	case SPAN_LOCK:
		return CAUSE_LOCK;
	case SPAN_PUBLISH:
		return CAUSE_PUBLISH;
	case SPAN_DEPENDENCIES:
		return CAUSE_DEPENDENCIES;
	case SPAN_ACTION:
		return CAUSE_ACTION;
	case SPAN_HOOK:
		return CAUSE_HOOK;
	default:
		return CAUSE_AGENT;
	}
}

static const char *row_class(const struct view *v, const struct span *s)
{
	if (s->kind == SPAN_STAGE)
		return s->end == SPAN_FAILED ? "stage error" : "stage";
	return s->end == SPAN_FAILED ? "error" : view_cause_name(row_cause(v, s));
}

/* "on_experiment_start action 2 (config.yml:14)" without the point: where it stands says that. */
static const char *action_name(const struct span *s)
{
	const char *action = strstr(s->name, " action ");

	return action != NULL ? action + 1 : s->name;
}

static void add_row_name(struct text *t, const struct span *s)
{
	switch (s->kind) {
	case SPAN_STAGE:
		text_add(t, "to ");
		html_add_name(t, s->name);
		break;
	case SPAN_SOURCE:
		html_add_name(t, view_short_name(s->name));
		break;
	case SPAN_LOCK:
		text_add(t, "waits for ");
		html_add_name(t, s->name);
		break;
	case SPAN_PUBLISH:
		text_add(t, "moved into place");
		break;
	case SPAN_DEPENDENCIES:
		text_add(t, "dependencies: ");
		html_add_name(t, s->name);
		break;
	case SPAN_HOOK:
		text_add(t, "hook ");
		html_add_name(t, view_short_name(s->name));
		break;
	default:
		html_add_name(t, action_name(s));
	}
}

static unsigned row_depth(const struct view *v, const struct span *s)
{
	const struct span *parent = view_span(v, s->parent);

	return s->kind != SPAN_STAGE && parent != NULL && parent->kind != SPAN_RUN ? 1 : 0;
}

static void add_row(struct text *t, const struct view *v, const struct span *s)
{
	struct rate r = {.view = v, .source = s};
	double left = position(v, s->begin_ns);
	double right = position(v, s->begin_ns + view_length_ns(v, s));

	if (s->kind == SPAN_SOURCE)
		find_rate(&r);
	text_addf(t, "<li class=d%u><span class=name title=\"", row_depth(v, s));
	html_add(t, s->name);
	text_add(t, "\">");
	add_row_name(t, s);
	text_addf(t,
		"</span><span class=track><span class=\"bar %s%s%s\" style=\"left:%.3f%%;width:%.3f%%\">",
		row_class(v, s), r.any ? " rated" : "",
		s->end == SPAN_CANCELLED ? " cancelled" : "", left, right - left);
	add_rate(t, &r);
	text_add(t, "</span></span><span class=time>");
	html_add_duration(t, view_length_ns(v, s));
	text_add(t, "</span></li>\n");
}

/* Which rows are shown. */

struct row {
	const struct span *s;
	const struct span *top; /* the stage that it is a part of, or itself */
	uint64_t length_ns;
};

static int compare_lengths(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	return x->length_ns > y->length_ns ? -1 : x->length_ns < y->length_ns;
}

/* A stage and its parts stay together. */
static int compare_rows(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->top->begin_ns != y->top->begin_ns)
		return x->top->begin_ns < y->top->begin_ns ? -1 : 1;
	if (x->top != y->top)
		return x->top < y->top ? -1 : 1;
	if ((x->s == x->top) != (y->s == y->top))
		return x->s == x->top ? -1 : 1;
	if (x->s->begin_ns != y->s->begin_ns)
		return x->s->begin_ns < y->s->begin_ns ? -1 : 1;
	return x->s < y->s ? -1 : x->s > y->s;
}

/* A parent has a smaller id than what is inside of it, so this ends. */
static const struct span *top_of(const struct view *v, const struct span *s)
{
	const struct span *parent;

	while ((parent = view_span(v, s->parent)) != NULL && parent < s && parent->kind != SPAN_RUN)
		s = parent;
	return s;
}

void html_add_waterfall(struct text *t, const struct view *v)
{
	_free_ struct row *rows = zalloc((v->n + 1) * sizeof(*rows));
	size_t n = 0, shown;

	for (size_t i = 0; i < v->n; i++)
		if (is_row(v, &v->spans[i]))
			rows[n++] = (struct row){&v->spans[i], top_of(v, &v->spans[i]),
				view_length_ns(v, &v->spans[i])};
	if (n == 0)
		return;
	qsort(rows, n, sizeof(*rows), compare_lengths);
	shown = n < ROWS_MAX ? n : ROWS_MAX;
	qsort(rows, shown, sizeof(*rows), compare_rows);
	text_addf(t, "<section>\n<h2>The start</h2>\n<div class=fall style=\"--tick:%.4f%%\">\n",
		v->start_ns > 0 ? tick_ns(v) * 100 / (double)v->start_ns : 100);
	add_axis(t, v);
	text_add(t, "<ol>\n");
	for (size_t i = 0; i < shown; i++)
		add_row(t, v, rows[i].s);
	text_add(t, "</ol>\n</div>\n");
	if (shown < n)
		text_addf(t, "<p class=note>%zu shorter ones are not shown.</p>\n", n - shown);
	text_add(t, "</section>\n");
}
