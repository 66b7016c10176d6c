/* SPDX-License-Identifier: MIT */
/* The report for programs. What is not known is left out; docs/report.md describes every member.
 * Loop thread. */
#include "defer.h"
#include "report_private.h"
#include <stdlib.h>
#include <string.h>

#define SCHEMA "stagerun.report/1"

/* Facts that are members under their own name. */
static const char *const stage_facts[] = {"origin", "how", "bytes", "entries", NULL};
static const char *const source_facts[] = {"url", "to", "format", "etag", "last_modified", "sha256",
	"datastore", "version", "total_bytes", "received_bytes", "expanded_bytes", "entries",
	"connections", "retries", "stalls", "bottleneck", "advice", NULL};
static const char *const step_facts[] = {"exit_code", "signal", "attempt", "pid", NULL};
static const char *const run_facts[] = {
	"version", "command", "exit_code", "signal", "reason", "phase", NULL};

static const struct span_fact *find_fact(const struct span *s, const char *key)
{
	for (size_t i = 0; i < s->n_facts; i++)
		if (strcmp(s->facts[i].key, key) == 0)
			return &s->facts[i];
	return NULL;
}

static void set_facts(json_t *object, const struct span *s, const char *const *keys)
{
	for (; *keys != NULL; keys++) {
		const struct span_fact *f = find_fact(s, *keys);

		if (f != NULL && f->text != NULL)
			report_value_set_text(object, *keys, f->text);
		else if (f != NULL)
			report_value_set_number(object, *keys, f->number);
	}
}

/* When it began, how long it took, how it ended. */
static json_t *describe_span(const struct view *v, const struct span *s)
{
	json_t *object = json_object();

	report_value_set_seconds(
		object, "begin_seconds", s->begin_ns > v->begin_ns ? s->begin_ns - v->begin_ns : 0);
	if (s->end != SPAN_OPEN)
		report_value_set_seconds(object, "seconds", view_length_ns(v, s));
	report_value_set_text(object, "end", timeline_end_name(s->end));
	report_value_set_text(object, "message", s->why);
	return object;
}

static json_t *describe_named(const struct view *v, const struct span *s, const char *const *keys)
{
	json_t *object = describe_span(v, s);

	report_value_set_text(object, "name", s->name);
	set_facts(object, s, keys);
	return object;
}

static const char *stage_name(const struct view *v, const struct span *part)
{
	const struct span *s = view_span(v, part->parent);

	while (s != NULL && s->kind != SPAN_STAGE)
		s = s->parent < (unsigned)(s - v->spans) + 1 ? view_span(v, s->parent) : NULL;
	return s != NULL ? s->name : NULL;
}

static json_t *describe_stage(const struct view *v, const struct span *s)
{
	json_t *object = describe_span(v, s);

	report_value_set_text(object, "to", s->name);
	set_facts(object, s, stage_facts);
	return object;
}

static size_t count_ranges(const struct view *v, const struct span *source)
{
	unsigned id = (unsigned)(source - v->spans) + 1;
	size_t n = 0;

	for (size_t i = 0; i < v->n; i++)
		n += v->spans[i].kind == SPAN_RANGE && v->spans[i].parent == id;
	return n;
}

static void set_waits(json_t *object, const struct view *v, const struct span *s)
{
	uint64_t waits[VIEW_WAITS], length = view_length_ns(v, s);
	json_t *shares = json_object();

	view_waits_ns(v, s, waits);
	length += waits[CAUSE_LOCK];
	for (size_t i = 0; i < VIEW_WAITS; i++)
		json_object_set_new(shares, view_cause_name((enum view_cause)i),
			json_real(length > 0 ? (double)waits[i] / (double)length : 0));
	json_object_set_new(object, "waits", shares);
}

static json_t *describe_source(const struct view *v, const struct span *s)
{
	json_t *object = describe_named(v, s, source_facts);

	report_value_set_text(object, "stage", stage_name(v, s));
	report_value_set_number(object, "rate_bytes_per_second", view_rate(v, s));
	report_value_set_number(object, "ranges", count_ranges(v, s));
	set_waits(object, v, s);
	return object;
}

static json_t *describe_lock(const struct view *v, const struct span *s)
{
	const char *holder = timeline_text(s, "holder");
	json_t *object = describe_span(v, s);

	report_value_set_text(object, "holder", holder != NULL ? holder : s->name);
	report_value_set_text(object, "stage", stage_name(v, s));
	return object;
}

static json_t *describe_step(const struct view *v, const struct span *s)
{
	json_t *object = describe_named(v, s, step_facts);

	json_object_set_new(object, "skipped", json_boolean(timeline_number(s, "skipped") != 0));
	return object;
}

static void set_list(json_t *report, const char *key, const struct view *v, enum span_kind kind,
	json_t *(*describe)(const struct view *v, const struct span *s))
{
	json_t *list = json_array();

	for (size_t i = 0; i < v->n; i++)
		if (v->spans[i].kind == kind)
			json_array_append_new(list, describe(v, &v->spans[i]));
	json_object_set_new(report, key, list);
}

static json_t *describe_run(const struct view *v)
{
	static const struct span none = {0};
	const struct span *run = v->run != NULL ? v->run : &none;
	json_t *object = json_object();
	char begin[40];

	report_value_set_text(object, "begin", view_time(v->unix_ns, begin));
	if (run->end != SPAN_OPEN)
		report_value_set_seconds(object, "seconds", v->end_ns - v->begin_ns);
	if (v->ready)
		report_value_set_seconds(object, "ready_seconds", v->start_ns);
	report_value_set_text(object, "end", timeline_end_name(run->end));
	report_value_set_text(object, "message", run->why);
	set_facts(object, run, run_facts);
	return object;
}

static json_t *describe_start(const struct view *v)
{
	_free_ char *headline = view_headline(v), *subline = view_subline(v);
	json_t *object = json_object(), *spent = json_object(), *slowest = json_object();

	report_value_set_text(object, "headline", headline);
	report_value_set_text(object, "explanation", subline);
	for (size_t i = 0; i < CAUSE_COUNT; i++)
		report_value_set_seconds(
			spent, view_cause_name((enum view_cause)i), v->cause_ns[i]);
	json_object_set_new(object, "spent_seconds", spent);
	report_value_set_text(slowest, "cause", view_cause_name(v->slowest));
	report_value_set_seconds(slowest, "seconds", v->cause_ns[v->slowest]);
	if (v->slowest_span != NULL)
		report_value_set_text(slowest, "name", v->slowest_span->name);
	report_value_set_text(slowest, "advice", view_advice(v));
	json_object_set_new(object, "slowest", slowest);
	return object;
}

static json_t *describe_warnings(const struct view *v)
{
	json_t *list = json_array();
	const char *line = v->run != NULL ? timeline_text(v->run, "warnings") : NULL;

	while (line != NULL && *line != '\0') {
		size_t len = strcspn(line, "\n");
		_free_ char *one = text_format("%.*s", (int)len, line);

		json_array_append_new(list, report_value_text(one));
		line += len + (line[len] == '\n');
	}
	return list;
}

void report_json(struct timeline *t, struct text *ret)
{
	struct view *v = view_new(t);
	json_t *report = json_object();
	char *printed;

	json_object_set_new(report, "schema", json_string(SCHEMA));
	json_object_set_new(report, "run", describe_run(v));
	json_object_set_new(report, "start", describe_start(v));
	set_list(report, "stages", v, SPAN_STAGE, describe_stage);
	set_list(report, "sources", v, SPAN_SOURCE, describe_source);
	set_list(report, "lock_waits", v, SPAN_LOCK, describe_lock);
	set_list(report, "dependencies", v, SPAN_DEPENDENCIES, describe_step);
	set_list(report, "actions", v, SPAN_ACTION, describe_step);
	set_list(report, "hooks", v, SPAN_HOOK, describe_step);
	set_list(report, "commands", v, SPAN_COMMAND, describe_step);
	json_object_set_new(report, "warnings", describe_warnings(v));
	report_value_set_number(report, "spans_dropped", v->dropped);
	printed = json_dumps(report, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
	text_add(ret, printed != NULL ? printed : "");
	text_add(ret, "\n");
	free(printed);
	json_decref(report);
	view_free(v);
}
