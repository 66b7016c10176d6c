/* SPDX-License-Identifier: MIT */
/* The report for people: one page that says in its first line how long the start took and what made
 * it slow, and below that shows it. It has no script, and its policy forbids scripts and the
 * network, so that a hostile name could do nothing even if it were not escaped. Loop thread. */
#include "defer.h"
#include "report_private.h"
#include "utf8.h"
#include <stdlib.h>
#include <string.h>

/* Whether a character changes the direction of what follows, so that "gpj.tar" looks like
 * "rat.jpg". */
static bool changes_direction(uint32_t code)
{
	return (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
	       code == 0x200e || code == 0x200f || code == 0x061c;
}

void html_add(struct text *t, const char *s)
{
	struct text clean = {0};
	size_t len;

	utf8_add_clean(&clean, s);
	for (const char *c = clean.len > 0 ? clean.s : ""; *c != '\0'; c += len) {
		uint32_t code = 0;

		len = utf8_character(c, &code);
		switch (code) {
		case '&':
			text_add(t, "&amp;");
			break;
		case '<':
			text_add(t, "&lt;");
			break;
		case '>':
			text_add(t, "&gt;");
			break;
		case '"':
			text_add(t, "&quot;");
			break;
		case '\'':
			text_add(t, "&#39;");
			break;
		default:
			if (changes_direction(code))
				text_addf(t, "\\u%04x", (unsigned)code);
			else
				text_add_bytes(t, c, len);
		}
	}
	text_done(&clean);
}

void html_add_name(struct text *t, const char *s)
{
	text_add(t, "<bdi>");
	html_add(t, s);
	text_add(t, "</bdi>");
}

void html_add_duration(struct text *t, uint64_t ns)
{
	char buf[32];

	text_add(t, units_print_duration(ns, buf));
}

enum view_cause html_source_cause(const struct view *v, const struct span *source)
{
	uint64_t waits[VIEW_WAITS], most = view_length_ns(v, source) / 10;
	enum view_cause cause = CAUSE_UNPACK;

	view_waits_ns(v, source, waits);
	for (size_t i = 0; i < VIEW_WAITS; i++) {
		if (waits[i] > most) {
			most = waits[i];
			cause = (enum view_cause)i;
		}
	}
	return cause;
}

void html_add_share(struct text *t, enum view_cause c, uint64_t ns, uint64_t whole_ns)
{
	double percent = whole_ns > 0 ? (double)ns * 100 / (double)whole_ns : 0;

	if (percent >= 1)
		text_addf(
			t, "<i class=%s style=\"width:%.2f%%\"></i>", view_cause_name(c), percent);
}

/* The first lines. */

static const char *verdict(const struct view *v)
{
	if (!v->ready)
		return v->run != NULL && v->run->end == SPAN_CANCELLED ? "stopped" : "failed";
	return "ready";
}

static const char *subline_class(const struct view *v)
{
	if (!v->ready)
		return "error";
	return v->warm ? "good" : view_cause_name(v->slowest);
}

static void add_headline(struct text *t, const struct view *v)
{
	_free_ char *headline = view_headline(v), *subline = view_subline(v);
	const char *advice = view_advice(v);
	char begin[40];

	view_time(v->unix_ns, begin);
	text_addf(t,
		"<header class=%s>\n<p class=when>stagerun &middot; <time datetime=\"%s\">%.10s %.8s UTC</time></p>\n<h1>",
		verdict(v), begin, begin, begin + 11);
	html_add(t, headline);
	text_add(t, "</h1>\n");
	if (subline != NULL) {
		text_addf(t, "<p class=cause><i class=\"dot %s\"></i>", subline_class(v));
		html_add_name(t, subline);
		text_add(t, "</p>\n");
	}
	if (advice != NULL) {
		text_add(t, "<p class=advice>What would help: ");
		html_add(t, advice);
		text_add(t, "</p>\n");
	}
	text_add(t, "</header>\n");
}

/* "85 %", or less than one. */
static void add_percent(struct text *t, uint64_t ns, uint64_t whole_ns)
{
	double percent = whole_ns > 0 ? (double)ns * 100 / (double)whole_ns : 0;

	if (percent < 1)
		text_add(t, "&lt;&thinsp;1&thinsp;%");
	else
		text_addf(t, "%.0f&thinsp;%%", percent);
}

/* What took at least a hundredth of the time, the most first. Returns how many. */
static size_t sort_causes(const struct view *v, enum view_cause ret[CAUSE_COUNT])
{
	size_t n = 0;

	for (enum view_cause c = 0; c < CAUSE_COUNT; c++) {
		size_t at = n;

		if (v->cause_ns[c] == 0 || v->cause_ns[c] < v->start_ns / 100)
			continue;
		for (; at > 0 && v->cause_ns[ret[at - 1]] < v->cause_ns[c]; at--)
			ret[at] = ret[at - 1];
		ret[at] = c;
		n++;
	}
	return n;
}

static void add_cause(struct text *t, const struct view *v, enum view_cause c)
{
	text_addf(t, "<li><i class=\"dot %s\"></i><span>%s</span> <b>", view_cause_name(c),
		view_cause_phrase(c));
	html_add_duration(t, v->cause_ns[c]);
	text_add(t, "</b> <em>");
	add_percent(t, v->cause_ns[c], v->start_ns);
	text_add(t, "</em></li>\n");
}

static void add_split(struct text *t, const struct view *v)
{
	enum view_cause causes[CAUSE_COUNT];
	size_t n = sort_causes(v, causes);

	text_add(
		t, "<section class=split aria-label=\"Where the time went\">\n<span class=shares>");
	for (size_t i = 0; i < n; i++)
		html_add_share(t, causes[i], v->cause_ns[causes[i]], v->start_ns);
	text_add(t, "</span>\n<ul>");
	for (size_t i = 0; i < n; i++)
		add_cause(t, v, causes[i]);
	text_add(t, "</ul>\n</section>\n");
}

/* The last lines. */

static void add_fact(struct text *t, const char *label, const char *value)
{
	if (value == NULL || *value == '\0')
		return;
	text_addf(t, "<div><dt>%s</dt><dd>", label);
	html_add_name(t, value);
	text_add(t, "</dd></div>\n");
}

static bool has_fact(const struct span *s, const char *key)
{
	for (size_t i = 0; i < s->n_facts; i++)
		if (strcmp(s->facts[i].key, key) == 0)
			return true;
	return false;
}

static void add_number_fact(
	struct text *t, const char *label, const struct span *s, const char *key)
{
	_free_ char *value = NULL;

	if (!has_fact(s, key))
		return;
	value = text_format("%llu", (unsigned long long)timeline_number(s, key));
	add_fact(t, label, value);
}

static void add_footer(struct text *t, const struct view *v)
{
	text_add(t, "<footer><dl>\n");
	if (v->run != NULL) {
		add_fact(t, "Command", timeline_text(v->run, "command"));
		add_number_fact(t, "Exit status", v->run, "exit_code");
		add_number_fact(t, "Signal", v->run, "signal");
		add_fact(t, "Reason", timeline_text(v->run, "reason"));
		add_fact(t, "Failed in", timeline_text(v->run, "phase"));
		add_fact(t, "stagerun", timeline_text(v->run, "version"));
	}
	text_add(t, "</dl>");
	if (v->dropped > 0)
		text_addf(t, "<p>%llu spans more were not recorded.</p>",
			(unsigned long long)v->dropped);
	text_add(t, "</footer>\n");
}

void report_html(struct timeline *timeline, struct text *ret)
{
	struct view *v = view_new(timeline);
	_free_ char *headline = view_headline(v);

	text_add(ret,
		"<!DOCTYPE html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
		"<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
		"<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
		"<meta name=color-scheme content=\"light dark\">\n<title>");
	html_add(ret, headline);
	text_add(ret, " &middot; stagerun</title>\n<style>\n");
	text_add(ret, html_style);
	text_add(ret, "</style>\n</head>\n<body>\n<main>\n");
	add_headline(ret, v);
	add_split(ret, v);
	html_add_waterfall(ret, v);
	html_add_sources(ret, v);
	html_add_lock_waits(ret, v);
	html_add_steps(ret, v);
	html_add_warnings(ret, v);
	html_add_versions(ret, v);
	add_footer(ret, v);
	text_add(ret, "</main>\n</body>\n</html>\n");
	view_free(v);
}
