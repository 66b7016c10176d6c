/* SPDX-License-Identifier: MIT */
/* The summary of a prewarm. Written by hand: names of files need not be UTF-8. */
#include "summary.h"
#include "defer.h"
#include "progress.h"
#include "redact.h"
#include "table.h"
#include <inttypes.h>
#include <string.h>

void summary_done(struct summary *s)
{
	text_done(&s->destinations);
	*s = (struct summary){0};
}

void summary_begin(struct summary *s)
{
	summary_done(s);
	s->began_ns = now_ns();
}

static void add_member(struct text *t, const char *key, const char *value)
{
	_free_ char *shown = value != NULL ? redact_own(copy_text(value)) : NULL;

	if (shown == NULL || *shown == '\0')
		return;
	text_addf(t, ",\"%s\":", key);
	add_json_string(t, shown);
}

static void add_seconds(struct text *t, uint64_t ns)
{
	text_addf(t, ",\"seconds\":%.3f", (double)ns / 1e9);
}

/* Of a local file more is known than the time. */
static void add_last_modified(struct text *t, const char *value)
{
	_free_ char *time = format_text("%.*s", (int)strcspn(value, ";"), value);

	add_member(t, "last_modified", time);
}

static void add_source(struct text *t, const struct stage_result_source *s)
{
	text_add(t, "{\"source\":");
	add_json_string(t, s->name);
	if (s->datastore != NULL) {
		add_member(t, "datastore", s->datastore);
		text_addf(t, ",\"version\":%u", s->version);
		add_member(t, "manifest_sha256", s->sha256);
	} else {
		add_member(t, "etag", s->etag);
		add_last_modified(t, s->last_modified);
		add_member(t, "sha256", s->sha256);
	}
	text_addf(t, ",\"received_bytes\":%" PRIu64 "}", s->received);
}

void summary_add(void *summary, const struct stage_result *r)
{
	struct summary *s = summary;
	struct text *t = &s->destinations;
	uint64_t received = 0;

	s->ends[r->end]++;
	text_addf(t, "%s{\"to\":", t->len > 0 ? "," : "");
	add_json_string(t, r->to);
	add_member(t, "origin", r->origin);
	add_member(t, "result", stage_end_name(r->end));
	if (r->end == STAGE_FAILED)
		add_member(t, "reason", r->err->msg);
	text_add(t, ",\"sources\":[");
	for (size_t i = 0; i < r->n_sources; i++) {
		text_add(t, i > 0 ? "," : "");
		add_source(t, &r->sources[i]);
		received += r->sources[i].received;
	}
	text_addf(t, "],\"received_bytes\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"entries\":%" PRIu64,
		received, r->bytes, r->entries);
	add_seconds(t, r->elapsed_ns);
	text_add(t, "}");
	s->received += received;
	s->bytes += r->bytes;
	s->entries += r->entries;
}

static unsigned count_ends(const struct summary *s)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_LEN(s->ends); i++)
		n += s->ends[i];
	return n;
}

char *summary_text(const struct summary *s, int exit_code, const char *reason)
{
	struct text t = {0};

	text_addf(&t, "{\"exit_code\":%d", exit_code);
	add_member(&t, "reason", reason);
	text_addf(&t, ",\"destinations\":[%s],\"total\":{\"destinations\":%u",
		s->destinations.s != NULL ? s->destinations.s : "", count_ends(s));
	for (size_t i = 0; i < ARRAY_LEN(s->ends); i++)
		text_addf(&t, ",\"%s\":%u", stage_end_name((enum stage_end)i), s->ends[i]);
	text_addf(&t, ",\"received_bytes\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"entries\":%" PRIu64,
		s->received, s->bytes, s->entries);
	add_seconds(&t, now_ns() - s->began_ns);
	text_add(&t, "}}");
	return text_take(&t);
}
