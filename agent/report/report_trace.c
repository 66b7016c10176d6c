/* SPDX-License-Identifier: MIT */
/* The report in Chrome's trace event format ("JSON Object Format": complete events, X, and
 * metadata, M), which Perfetto and chrome://tracing open. Spans that belong together have tracks of
 * their own; those that overlap lie on different tracks of the same name, so that viewers never
 * have to guess what is inside of what. Times are microseconds from the begin of the run. Loop
 * thread. */
#include "defer.h"
#include "report_private.h"
#include <stdlib.h>

enum { PROCESS = 1 };

/* A row of the viewer. */
struct track {
	char *name;
	uint64_t free_ns; /* its last span ended then */
	/* Of its spans, all of which have the same of both: */
	unsigned group; /* the id of the source or stage that they belong to; 0: the run */
	int kind;       /* what it shows of it */
};

enum { KIND_RANGES = 1000, KIND_PARTS };

struct trace {
	const struct view *view;
	json_t *events;
	struct track *tracks; /* the id of a track is its index and 1 */
	size_t n, cap;
};

/* Which track a span belongs on. */
static void span_track(const struct span *s, unsigned id, unsigned *ret_group, int *ret_kind)
{
	*ret_group = 0;
	*ret_kind = (int)s->kind;
	switch (s->kind) {
	case SPAN_STAGE:
	case SPAN_SOURCE:
		*ret_group = id;
		break;
	case SPAN_RANGE:
		*ret_group = s->parent;
		*ret_kind = KIND_RANGES;
		break;
	case SPAN_LOCK:
	case SPAN_PUBLISH:
		*ret_group = s->parent;
		*ret_kind = KIND_PARTS;
		break;
	default:
		break;
	}
}

static char *track_name(const struct trace *t, const struct span *s, unsigned group)
{
	const struct span *owner = view_span(t->view, group);
	const char *name = owner != NULL ? owner->name : "";

	switch (s->kind) {
	case SPAN_STAGE:
		return text_format("stage %s", name);
	case SPAN_SOURCE:
		return text_copy(name);
	case SPAN_RANGE:
		return text_format("%s: ranges", name);
	case SPAN_LOCK:
	case SPAN_PUBLISH:
		return text_format("%s: waits and publish", name);
	default:
		return text_copy(timeline_kind_name(s->kind));
	}
}

static size_t find_track(struct trace *t, const struct span *s, unsigned id)
{
	unsigned group;
	int kind;

	span_track(s, id, &group, &kind);
	for (size_t i = 0; i < t->n; i++)
		if (t->tracks[i].group == group && t->tracks[i].kind == kind &&
			t->tracks[i].free_ns <= s->begin_ns)
			return i;
	if (t->n == t->cap) {
		t->cap = t->cap == 0 ? 16 : 2 * t->cap;
		t->tracks = reallocarray(t->tracks, t->cap, sizeof(*t->tracks));
		if (t->tracks == NULL)
			abort();
	}
	t->tracks[t->n] =
		(struct track){.name = track_name(t, s, group), .group = group, .kind = kind};
	return t->n++;
}

static json_t *new_event(const char *phase, const char *name, size_t track)
{
	json_t *event = json_object();

	report_value_set_text(event, "name", name);
	json_object_set_new(event, "ph", json_string(phase));
	json_object_set_new(event, "pid", json_integer(PROCESS));
	json_object_set_new(event, "tid", json_integer((json_int_t)track));
	return event;
}

static json_t *describe_facts(const struct span *s)
{
	json_t *args = json_object();

	report_value_set_text(args, "end", timeline_end_name(s->end));
	report_value_set_text(args, "message", s->why);
	for (size_t i = 0; i < s->n_facts; i++) {
		if (s->facts[i].text != NULL)
			report_value_set_text(args, s->facts[i].key, s->facts[i].text);
		else
			report_value_set_number(args, s->facts[i].key, s->facts[i].number);
	}
	return args;
}

static uint64_t after_begin(const struct view *v, uint64_t ns)
{
	return ns > v->begin_ns ? ns - v->begin_ns : 0;
}

static void add_span(struct trace *t, const struct span *s, unsigned id)
{
	uint64_t begin = after_begin(t->view, s->begin_ns);
	uint64_t end = after_begin(t->view, s->begin_ns + view_length_ns(t->view, s));
	size_t track = find_track(t, s, id);
	json_t *event = new_event("X", s->name, track + 1);

	t->tracks[track].free_ns = s->begin_ns + view_length_ns(t->view, s);
	json_object_set_new(event, "cat", json_string(timeline_kind_name(s->kind)));
	json_object_set_new(event, "ts", json_real((double)begin / 1e3));
	json_object_set_new(event, "dur", json_real((double)(end - begin) / 1e3));
	json_object_set_new(event, "args", describe_facts(s));
	json_array_append_new(t->events, event);
}

static void add_metadata(struct trace *t, const char *what, size_t track, json_t *args)
{
	json_t *event = new_event("M", what, track);

	json_object_set_new(event, "args", args);
	json_array_append_new(t->events, event);
}

static json_t *one_member(const char *key, json_t *value)
{
	json_t *object = json_object();

	json_object_set_new(object, key, value);
	return object;
}

static void name_tracks(struct trace *t)
{
	add_metadata(t, "process_name", 0, one_member("name", json_string("stagerun")));
	for (size_t i = 0; i < t->n; i++) {
		add_metadata(t, "thread_name", i + 1,
			one_member("name", report_value_text(t->tracks[i].name)));
		add_metadata(t, "thread_sort_index", i + 1,
			one_member("sort_index", json_integer((json_int_t)i)));
		free(t->tracks[i].name);
	}
	free(t->tracks);
}

struct by_begin {
	uint64_t begin_ns;
	unsigned id;
};

static int compare_begins(const void *a, const void *b)
{
	const struct by_begin *x = a, *y = b;

	if (x->begin_ns != y->begin_ns)
		return x->begin_ns < y->begin_ns ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* A span that was recorded late, by timeline_begin_at(), may have begun before an earlier one. */
static void add_spans(struct trace *t)
{
	const struct view *v = t->view;
	struct by_begin *order = zalloc((v->n + 1) * sizeof(*order));

	for (unsigned i = 0; i < v->n; i++)
		order[i] = (struct by_begin){v->spans[i].begin_ns, i + 1};
	qsort(order, v->n, sizeof(*order), compare_begins);
	for (size_t i = 0; i < v->n; i++)
		add_span(t, view_span(v, order[i].id), order[i].id);
	free(order);
}

void report_trace(struct timeline *timeline, struct text *ret)
{
	struct view *v = view_new(timeline);
	struct trace t = {.view = v, .events = json_array()};
	json_t *trace = json_object(), *other = json_object();
	char *printed, begin[40];

	add_spans(&t);
	name_tracks(&t);
	json_object_set_new(trace, "displayTimeUnit", json_string("ms"));
	report_value_set_text(other, "begin", view_time(v->unix_ns, begin));
	report_value_set_number(other, "spans_dropped", v->dropped);
	json_object_set_new(trace, "otherData", other);
	json_object_set_new(trace, "traceEvents", t.events);
	printed = json_dumps(trace, JSON_COMPACT | JSON_REAL_PRECISION(15));
	text_add(ret, printed != NULL ? printed : "");
	text_add(ret, "\n");
	free(printed);
	json_decref(trace);
	view_free(v);
}
