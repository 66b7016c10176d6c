/* SPDX-License-Identifier: MIT */
/* The tables of the page. On a narrow screen each row becomes a block whose cells bear the headings
 * themselves (data-h). Loop thread. */
#include "defer.h"
#include "report_private.h"
#include <stdlib.h>
#include <string.h>

enum { SOURCES_MAX = 500 };

static size_t count_kind(const struct view *v, enum span_kind kind)
{
	size_t n = 0;

	for (size_t i = 0; i < v->n; i++)
		n += v->spans[i].kind == kind;
	return n;
}

/* A cell of numbers, with the heading that it bears on a narrow screen; a number that is not known
 * is left out there. */
static void add_number(struct text *t, const char *heading, const char *number, const char *unit)
{
	if (number == NULL)
		text_addf(t, "<td class=\"n none\" data-h=%s>&ndash;</td>\n", heading);
	else
		text_addf(t, "<td class=n data-h=%s>%s%s</td>\n", heading, number, unit);
}

static void add_size(struct text *t, const char *heading, uint64_t bytes, const char *unit)
{
	char buf[32];

	add_number(t, heading, bytes > 0 ? units_print_size(bytes, buf) : NULL, unit);
}

static void add_result(struct text *t, const struct span *s, const char *ok)
{
	const char *word = s->end == SPAN_OK ? ok : timeline_end_name(s->end);

	text_addf(t, "<span class=\"result %s\">", timeline_end_name(s->end));
	html_add(t, word);
	text_add(t, "</span>");
}

/* Sources. */

static void add_waits(struct text *t, const struct view *v, const struct span *s)
{
	uint64_t waits[VIEW_WAITS], length = view_length_ns(v, s);
	enum view_cause most = html_source_cause(v, s);

	view_waits_ns(v, s, waits);
	length += waits[CAUSE_LOCK];
	if (most == CAUSE_UNPACK) {
		text_add(t, "<em>little</em>");
		return;
	}
	text_add(t, "<span class=shares>");
	for (enum view_cause c = 0; c < VIEW_WAITS; c++)
		html_add_share(t, c, waits[c], length);
	text_addf(t, "</span><span class=most>%s %.0f&thinsp;%%</span>", view_cause_name(most),
		(double)waits[most] * 100 / (double)length);
}

/* "staged", "warm": how the stage ended says it of all its sources. */
static const char *source_how(const struct view *v, const struct span *s)
{
	const struct span *stage = view_span(v, s->parent);
	const char *how = stage != NULL ? timeline_text(stage, "how") : NULL;

	return how != NULL && s->end == SPAN_OK ? how : timeline_end_name(s->end);
}

static void add_source_name(struct text *t, const struct view *v, const struct span *s)
{
	const struct span *stage = view_span(v, s->parent);
	const char *to = timeline_text(s, "to");
	const char *url = timeline_text(s, "url");

	if (to == NULL && stage != NULL && stage->kind == SPAN_STAGE)
		to = stage->name;
	text_add(t, "<strong>");
	html_add_name(t, view_short_name(s->name));
	text_add(t, "</strong>");
	if (strcmp(view_short_name(s->name), s->name) != 0 || url != NULL) {
		text_add(t, "<small>");
		html_add_name(t, url != NULL ? url : s->name);
		text_add(t, "</small>");
	}
	if (to != NULL) {
		text_add(t, "<small>&rarr; ");
		html_add_name(t, to);
		text_add(t, "</small>");
	}
}

static void add_source(struct text *t, const struct view *v, const struct span *s)
{
	const char *advice = timeline_text(s, "advice");
	const char *below = s->why != NULL ? s->why : advice;
	uint64_t received = timeline_number(s, "received_bytes");
	uint64_t total = timeline_number(s, "total_bytes");
	char length[32];

	text_addf(t, "<tbody><tr%s>\n<td class=what>", below != NULL ? " class=joined" : "");
	add_source_name(t, v, s);
	text_add(t, "</td>\n<td data-h=Result>");
	add_result(t, s, source_how(v, s));
	text_add(t, "</td>\n");
	add_size(t, "Size", total > 0 ? total : received, "");
	add_size(t, "Unpacked", timeline_number(s, "expanded_bytes"), "");
	add_number(t, "Time", units_print_duration(view_length_ns(v, s), length), "");
	add_size(t, "Rate", view_rate(v, s), "/s");
	text_add(t, "<td class=waits data-h=\"Waited for\">");
	add_waits(t, v, s);
	text_add(t, "</td></tr>\n");
	if (below != NULL) {
		text_addf(t, "<tr class=below><td colspan=7 class=%s>",
			s->why != NULL ? "error" : "advice");
		html_add_name(t, below);
		text_add(t, "</td></tr>\n");
	}
	text_add(t, "</tbody>\n");
}

void html_add_sources(struct text *t, const struct view *v)
{
	size_t n = count_kind(v, SPAN_SOURCE), shown = 0;

	if (n == 0)
		return;
	text_add(t,
		"<section>\n<h2>Sources</h2>\n<table class=sources>\n<thead><tr><th>Source<th>Result<th class=n>Size<th class=n>Unpacked<th class=n>Time<th class=n>Rate<th>Waited for</tr></thead>\n");
	for (size_t i = 0; i < v->n && shown < SOURCES_MAX; i++) {
		if (v->spans[i].kind != SPAN_SOURCE)
			continue;
		add_source(t, v, &v->spans[i]);
		shown++;
	}
	text_add(t, "</table>\n");
	if (shown < n)
		text_addf(t, "<p class=note>%zu more are in the report as JSON.</p>\n", n - shown);
	text_add(t, "</section>\n");
}

/* Who waited for whom. */

void html_add_lock_waits(struct text *t, const struct view *v)
{
	if (count_kind(v, SPAN_LOCK) == 0)
		return;
	text_add(t,
		"<section>\n<h2>Waited for others</h2>\n<table>\n<thead><tr><th>What<th>For whom<th class=n>Time</tr></thead>\n<tbody>\n");
	for (size_t i = 0; i < v->n; i++) {
		const struct span *s = &v->spans[i], *owner = view_span(v, s->parent);
		const char *holder = timeline_text(s, "holder");

		if (s->kind != SPAN_LOCK)
			continue;
		text_add(t, "<tr><td class=what>");
		html_add_name(t, owner != NULL ? owner->name : "");
		text_add(t, "</td><td data-h=\"For whom\">");
		html_add_name(t, holder != NULL ? holder : s->name);
		text_add(t, "</td><td class=n data-h=Time>");
		html_add_duration(t, view_length_ns(v, s));
		text_add(t, "</td></tr>\n");
	}
	text_add(t, "</tbody></table>\n</section>\n");
}

/* Steps. */

static bool is_step(const struct span *s)
{
	return s->kind == SPAN_DEPENDENCIES || s->kind == SPAN_ACTION || s->kind == SPAN_HOOK ||
	       s->kind == SPAN_COMMAND;
}

static void add_step(struct text *t, const struct view *v, const struct span *s)
{
	uint64_t attempt = timeline_number(s, "attempt");
	char length[32];

	text_addf(t, "<tbody><tr%s><td class=what>", s->why != NULL ? " class=joined" : "");
	html_add_name(t, s->name);
	text_addf(t, "</td><td data-h=Kind>%s</td><td data-h=Result>", timeline_kind_name(s->kind));
	if (timeline_number(s, "skipped") != 0)
		text_add(t, "skipped");
	else if (s->end == SPAN_OPEN)
		text_add(t, "started");
	else
		add_result(t, s, "ok");
	if (attempt > 1)
		text_addf(t, " <small>attempt %llu</small>", (unsigned long long)attempt);
	text_add(t, "</td><td class=n data-h=Begin>");
	html_add_duration(t, s->begin_ns > v->begin_ns ? s->begin_ns - v->begin_ns : 0);
	text_add(t, "</td>");
	add_number(t, "Time",
		s->end == SPAN_OPEN ? NULL : units_print_duration(view_length_ns(v, s), length),
		"");
	text_add(t, "</tr>\n");
	if (s->why != NULL) {
		text_add(t, "<tr class=below><td colspan=5 class=error>");
		html_add_name(t, s->why);
		text_add(t, "</td></tr>\n");
	}
	text_add(t, "</tbody>\n");
}

void html_add_steps(struct text *t, const struct view *v)
{
	bool any = false;

	for (size_t i = 0; i < v->n; i++)
		any = any || is_step(&v->spans[i]);
	if (!any)
		return;
	text_add(t,
		"<section>\n<h2>Steps</h2>\n<table>\n<thead><tr><th>Step<th>Kind<th>Result<th class=n>Begin<th class=n>Time</tr></thead>\n");
	for (size_t i = 0; i < v->n; i++)
		if (is_step(&v->spans[i]))
			add_step(t, v, &v->spans[i]);
	text_add(t, "</table>\n</section>\n");
}

/* Warnings. */

void html_add_warnings(struct text *t, const struct view *v)
{
	const char *line = v->run != NULL ? timeline_text(v->run, "warnings") : NULL;

	if (line == NULL || *line == '\0')
		return;
	text_add(t, "<section class=warnings>\n<h2>Warnings</h2>\n<ul>\n");
	while (*line != '\0') {
		size_t len = strcspn(line, "\n");
		_free_ char *one = text_format("%.*s", (int)len, line);

		text_add(t, "<li>");
		html_add_name(t, one);
		text_add(t, "</li>\n");
		line += len + (line[len] == '\n');
	}
	text_add(t, "</ul>\n</section>\n");
}

/* Versions and digests. */

static void add_version(struct text *t, const char *label, const char *value)
{
	if (value == NULL || *value == '\0')
		return;
	text_addf(t, "<div><dt>%s</dt><dd>", label);
	html_add_name(t, value);
	text_add(t, "</dd></div>\n");
}

static bool has_version(const struct span *s)
{
	return s->kind == SPAN_SOURCE &&
	       (timeline_text(s, "etag") != NULL || timeline_text(s, "last_modified") != NULL ||
		       timeline_text(s, "sha256") != NULL || timeline_text(s, "datastore") != NULL);
}

static void add_versions_of(struct text *t, const struct span *s)
{
	_free_ char *version = NULL;

	text_add(t, "<li><strong>");
	html_add_name(t, view_short_name(s->name));
	text_add(t, "</strong><dl>\n");
	if (timeline_text(s, "datastore") != NULL)
		version = text_format("%s, version %llu", timeline_text(s, "datastore"),
			(unsigned long long)timeline_number(s, "version"));
	add_version(t, "datastore", version);
	add_version(t, "SHA-256", timeline_text(s, "sha256"));
	add_version(t, "ETag", timeline_text(s, "etag"));
	add_version(t, "modified", timeline_text(s, "last_modified"));
	text_add(t, "</dl></li>\n");
}

void html_add_versions(struct text *t, const struct view *v)
{
	bool any = false;

	for (size_t i = 0; i < v->n; i++) {
		if (!has_version(&v->spans[i]))
			continue;
		if (!any)
			text_add(t, "<section class=versions>\n<h2>Versions</h2>\n<ul>\n");
		any = true;
		add_versions_of(t, &v->spans[i]);
	}
	if (any)
		text_add(t, "</ul>\n</section>\n");
}
