/* SPDX-License-Identifier: MIT */
/* Copies a timeline and finds out what made the start slow: it goes back from the end of the start
 * to its beginning, always along the span that ended last. What lies on this path is what the run
 * waited for; what happened beside it could have been infinitely fast and changed nothing. */
#include "defer.h"
#include "progress.h"
#include "report_private.h"
#include "text.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char *const cause_names[] = {
#define X(id, name, phrase) [id] = (name),
	VIEW_CAUSES(X)
#undef X
};

static const char *const cause_phrases[] = {
#define X(id, name, phrase) [id] = (phrase),
	VIEW_CAUSES(X)
#undef X
};

const char *view_cause_name(enum view_cause c)
{
	return cause_names[c];
}

const char *view_cause_phrase(enum view_cause c)
{
	return cause_phrases[c];
}

/* The copy. */

static struct span copy_span(const struct span *s)
{
	struct span copy = *s;

	copy.name = text_copy(s->name != NULL ? s->name : "");
	copy.why = text_copy(s->why);
	copy.facts = zalloc((s->n_facts + 1) * sizeof(*copy.facts));
	for (size_t i = 0; i < s->n_facts; i++) {
		copy.facts[i] = s->facts[i];
		copy.facts[i].text = text_copy(s->facts[i].text);
	}
	return copy;
}

struct copying {
	struct view *view;
	size_t cap;
};

static void add_copy(void *ctx, unsigned id, const struct span *s)
{
	struct copying *c = ctx;
	struct view *v = c->view;

	(void)id;
	if (v->n == c->cap) {
		c->cap = c->cap == 0 ? 64 : 2 * c->cap;
		v->spans = reallocarray(v->spans, c->cap, sizeof(*v->spans));
		if (v->spans == NULL)
			abort();
	}
	v->spans[v->n++] = copy_span(s);
}

void view_free(struct view *v)
{
	if (v == NULL)
		return;
	for (size_t i = 0; i < v->n; i++) {
		for (size_t k = 0; k < v->spans[i].n_facts; k++)
			free(v->spans[i].facts[k].text);
		free(v->spans[i].facts);
		free(v->spans[i].name);
		free(v->spans[i].why);
	}
	free(v->spans);
	free(v);
}

const struct span *view_span(const struct view *v, unsigned id)
{
	return id == 0 || id > v->n ? NULL : &v->spans[id - 1];
}

static uint64_t span_end_ns(const struct view *v, const struct span *s)
{
	uint64_t end = s->end == SPAN_OPEN ? v->end_ns : s->ended_ns;

	return end < s->begin_ns ? s->begin_ns : end;
}

uint64_t view_length_ns(const struct view *v, const struct span *s)
{
	return span_end_ns(v, s) - s->begin_ns;
}

static void find_bounds(struct view *v)
{
	v->begin_ns = v->end_ns = now_ns();
	for (size_t i = 0; i < v->n; i++) {
		const struct span *s = &v->spans[i];

		if (s->kind == SPAN_RUN && v->run == NULL)
			v->run = s;
		if (s->kind == SPAN_COMMAND && v->command == NULL)
			v->command = s;
		if (s->begin_ns < v->begin_ns)
			v->begin_ns = s->begin_ns;
	}
	if (v->run == NULL)
		return;
	v->begin_ns = v->run->begin_ns;
	if (v->run->end != SPAN_OPEN)
		v->end_ns = v->run->ended_ns;
}

static void find_start(struct view *v)
{
	uint64_t ready_ns = v->run != NULL ? timeline_number(v->run, "ready_ns") : 0;
	const char *reason = v->run != NULL ? timeline_text(v->run, "reason") : NULL;

	v->ready = (ready_ns > 0 || v->command != NULL) &&
		   (reason == NULL || strcmp(reason, "start_failed") != 0);
	if (ready_ns > 0)
		v->start_ns = ready_ns;
	else if (v->command != NULL && v->command->begin_ns > v->begin_ns)
		v->start_ns = v->command->begin_ns - v->begin_ns;
	else
		v->start_ns = v->end_ns - v->begin_ns;
}

/* The waits of a source. */

void view_waits_ns(const struct view *v, const struct span *source, uint64_t ret[static VIEW_WAITS])
{
	static const char *const keys[VIEW_WAITS] = {[CAUSE_NETWORK] = "network_ns",
		[CAUSE_DECODE] = "decode_ns",
		[CAUSE_DISK] = "disk_ns",
		[CAUSE_MEMORY] = "budget_ns",
		[CAUSE_LOCK] = "lock_ns"};
	double sum = 0, length = (double)view_length_ns(v, source);

	for (size_t i = 0; i < VIEW_WAITS; i++) {
		ret[i] = timeline_number(source, keys[i]);
		sum += i == CAUSE_LOCK ? 0 : (double)ret[i];
	}
	for (size_t i = 0; i < CAUSE_LOCK && sum > length; i++)
		ret[i] = (uint64_t)((double)ret[i] / sum * length);
}

uint64_t view_rate(const struct view *v, const struct span *source)
{
	uint64_t ns = view_length_ns(v, source);
	uint64_t bytes = timeline_number(source, "received_bytes");

	return ns == 0 ? 0 : (uint64_t)((double)bytes * 1e9 / (double)ns);
}

/* The path. */

/* What a part of the path was spent on, and by which span. */
struct path {
	struct view *view;
	uint64_t *by_span[CAUSE_COUNT]; /* by index of the span */
	bool *has_parts;                /* the span is a stage whose parts are spans, too */
};

static bool is_step(const struct path *p, size_t i)
{
	switch (p->view->spans[i].kind) {
	case SPAN_SOURCE:
	case SPAN_LOCK:
	case SPAN_PUBLISH:
	case SPAN_DEPENDENCIES:
	case SPAN_ACTION:
	case SPAN_HOOK:
		return true;
	case SPAN_STAGE:
		return !p->has_parts[i];
	default:
		return false;
	}
}

/* The step that ended last before at_ns, or was under way then. */
static const struct span *last_step(const struct path *p, uint64_t at_ns, uint64_t *ret_end_ns)
{
	const struct span *found = NULL;

	for (size_t i = 0; i < p->view->n; i++) {
		const struct span *s = &p->view->spans[i];
		uint64_t end = span_end_ns(p->view, s);

		if (!is_step(p, i) || s->begin_ns >= at_ns)
			continue;
		end = end < at_ns ? end : at_ns;
		if (found == NULL || end > *ret_end_ns ||
			(end == *ret_end_ns && s->begin_ns < found->begin_ns)) {
			found = s;
			*ret_end_ns = end;
		}
	}
	return found;
}

static void spend(struct path *p, enum view_cause cause, const struct span *s, uint64_t ns)
{
	p->view->cause_ns[cause] += ns;
	p->by_span[cause][s - p->view->spans] += ns;
}

/* Splits ns of a source's time in the proportions of all of it. */
static void spend_source(struct path *p, const struct span *s, uint64_t ns)
{
	uint64_t waits[VIEW_WAITS], left = ns;
	double length = (double)view_length_ns(p->view, s);

	view_waits_ns(p->view, s, waits);
	for (size_t i = 0; i < CAUSE_LOCK && length > 0; i++) {
		uint64_t part = (uint64_t)((double)waits[i] / length * (double)ns);

		part = part < left ? part : left;
		spend(p, (enum view_cause)i, s, part);
		left -= part;
	}
	spend(p, CAUSE_UNPACK, s, left);
}

static void spend_step(struct path *p, const struct span *s, uint64_t ns)
{
	static const enum view_cause causes[] = {[SPAN_STAGE] = CAUSE_UNPACK,
		[SPAN_LOCK] = CAUSE_LOCK,
		[SPAN_PUBLISH] = CAUSE_PUBLISH,
		[SPAN_DEPENDENCIES] = CAUSE_DEPENDENCIES,
		[SPAN_ACTION] = CAUSE_ACTION,
		[SPAN_HOOK] = CAUSE_HOOK};

	if (s->kind == SPAN_SOURCE)
		spend_source(p, s, ns);
	else
		spend(p, causes[s->kind], s, ns);
}

static void follow(struct path *p)
{
	struct view *v = p->view;
	uint64_t at = v->begin_ns + v->start_ns, end = 0;
	const struct span *s;

	while (at > v->begin_ns && (s = last_step(p, at, &end)) != NULL && end > v->begin_ns) {
		uint64_t begin = s->begin_ns > v->begin_ns ? s->begin_ns : v->begin_ns;

		v->cause_ns[CAUSE_AGENT] += at - end;
		spend_step(p, s, end - begin);
		at = begin;
	}
	v->cause_ns[CAUSE_AGENT] += at - v->begin_ns;
}

static void find_slowest(struct path *p)
{
	struct view *v = p->view;
	size_t most = 0;

	v->slowest = CAUSE_AGENT;
	for (size_t i = 0; i < CAUSE_AGENT; i++)
		if (v->cause_ns[i] > 0 &&
			(v->slowest == CAUSE_AGENT || v->cause_ns[i] > v->cause_ns[v->slowest]))
			v->slowest = (enum view_cause)i;
	if (v->cause_ns[v->slowest] < v->start_ns / 10)
		v->slowest = CAUSE_AGENT;
	if (v->slowest == CAUSE_AGENT)
		return;
	for (size_t i = 1; i < v->n; i++)
		if (p->by_span[v->slowest][i] > p->by_span[v->slowest][most])
			most = i;
	if (p->by_span[v->slowest][most] >= v->cause_ns[v->slowest] / 2)
		v->slowest_span = &v->spans[most];
}

static void find_path(struct view *v)
{
	struct path p = {.view = v};

	for (size_t i = 0; i < CAUSE_COUNT; i++)
		p.by_span[i] = zalloc((v->n + 1) * sizeof(**p.by_span));
	p.has_parts = zalloc((v->n + 1) * sizeof(*p.has_parts));
	for (size_t i = 0; i < v->n; i++)
		if (v->spans[i].parent > 0 && v->spans[i].parent <= v->n)
			p.has_parts[v->spans[i].parent - 1] = true;
	follow(&p);
	find_slowest(&p);
	for (size_t i = 0; i < CAUSE_COUNT; i++)
		free(p.by_span[i]);
	free(p.has_parts);
}

static bool is_warm(const struct view *v)
{
	size_t n = 0;

	for (size_t i = 0; i < v->n; i++) {
		const char *how = timeline_text(&v->spans[i], "how");

		if (v->spans[i].kind != SPAN_STAGE)
			continue;
		n++;
		if (how == NULL || strcmp(how, "warm") != 0)
			return false;
	}
	return n > 0;
}

struct view *view_new(struct timeline *t)
{
	struct view *v = zalloc(sizeof(*v));
	struct copying c = {.view = v};

	timeline_each(t, add_copy, &c);
	v->dropped = timeline_dropped(t);
	find_bounds(v);
	v->unix_ns = timeline_unix_ns(t, v->begin_ns);
	find_start(v);
	v->warm = v->ready && v->start_ns < 1000000000 && is_warm(v);
	find_path(v);
	return v;
}

/* Sentences. */

const char *view_short_name(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash != NULL && slash[1] != '\0' ? slash + 1 : name;
}

char *view_headline(const struct view *v)
{
	char length[32];

	units_print_duration(v->start_ns, length);
	if (v->ready)
		return text_format("Ready in %s", length);
	if (v->run != NULL && v->run->end == SPAN_CANCELLED)
		return text_format("Stopped after %s", length);
	return text_format("Failed after %s", length);
}

/* "at imagenet.tar", "in on_experiment_start action 2". Heap; "" where no span has most of it. */
static char *where_slowest(const struct view *v)
{
	const struct span *s = v->slowest_span;

	if (s == NULL || s->kind == SPAN_DEPENDENCIES)
		return text_copy("");
	if (s->kind == SPAN_LOCK)
		return text_format(", %s", s->name);
	if (s->kind == SPAN_PUBLISH || s->kind == SPAN_STAGE)
		return text_format(" at %s", s->name);
	return text_format(" at %s", view_short_name(s->name));
}

static char *describe_slowest(const struct view *v)
{
	_free_ char *where = NULL;
	char length[32];

	units_print_duration(v->cause_ns[v->slowest], length);
	if (v->slowest_span != NULL && (v->slowest == CAUSE_ACTION || v->slowest == CAUSE_HOOK))
		return text_format("%s in %s", length, v->slowest_span->name);
	where = where_slowest(v);
	return text_format("%s %s%s", length, view_cause_phrase(v->slowest), where);
}

/* The first span that failed by itself; its parents fail with it. */
static const struct span *first_failure(const struct view *v)
{
	const struct span *found = NULL;

	for (size_t i = 0; i < v->n; i++) {
		const struct span *s = &v->spans[i];

		if (s->end == SPAN_FAILED && s->why != NULL && s->kind != SPAN_RANGE &&
			s->kind != SPAN_RUN && (found == NULL || s->ended_ns <= found->ended_ns))
			found = s;
	}
	return found;
}

char *view_subline(const struct view *v)
{
	const struct span *failed = v->ready ? NULL : first_failure(v);

	if (!v->ready && v->run != NULL && v->run->why != NULL)
		return text_copy(v->run->why);
	if (failed != NULL)
		return text_format("%s: %s", failed->name, failed->why);
	if (v->warm)
		return text_copy("everything was there already");
	return v->slowest == CAUSE_AGENT ? NULL : describe_slowest(v);
}

const char *view_advice(const struct view *v)
{
	if (!v->ready || v->slowest_span == NULL || (size_t)v->slowest >= VIEW_WAITS)
		return NULL;
	return timeline_text(v->slowest_span, "advice");
}

const char *view_time(uint64_t unix_ns, char buf[static 40])
{
	struct tm tm;
	size_t n = strftime(
		buf, 24, "%Y-%m-%dT%H:%M:%S", units_date((time_t)(unix_ns / 1000000000u), &tm));

	snprintf(buf + n, 40 - n, ".%09" PRIu64 "Z", unix_ns % 1000000000u);
	return buf;
}
