/* SPDX-License-Identifier: MIT */
/* What a stage and its sources leave in the timeline of the run: when each was at work, how it
 * ended, and what it waited for. A source that is unpacked again has a span for each attempt; one
 * that was there already has one for the look at its version. */
#include "advice.h"
#include "defer.h"
#include "report.h"
#include "source.h"
#include "stage_private.h"
#include "timeline.h"
#include <errno.h>

static enum span_end end_of(int code)
{
	if (code >= 0)
		return SPAN_OK;
	return code == -ECANCELED ? SPAN_CANCELLED : SPAN_FAILED;
}

static void end_span(const struct stage *s, unsigned span, int code, const struct error *err)
{
	timeline_end(s->env->timeline, span, end_of(code), code < 0 ? err->msg : NULL);
}

void stage_span_begin(struct stage *s)
{
	s->span = timeline_begin(s->env->timeline, s->env->span, SPAN_STAGE, s->shown);
	timeline_set_text(s->env->timeline, s->span, "origin", s->spec->origin);
}

/* Sources. */

static void begin_source(struct stage *s, size_t i, uint64_t begin_ns)
{
	struct timeline *t = s->env->timeline;
	_free_ char *shown = source_display(s->sources[i].url);
	struct progress *p = &s->progress[i];

	p->timeline = t;
	p->span = timeline_begin_at(t, s->span, SPAN_SOURCE, p->name, begin_ns);
	timeline_set_text(t, p->span, "url", shown);
	timeline_set_text(t, p->span, "to", s->shown);
	s->outcomes[i].begun_ns = begin_ns;
}

void stage_span_source_begin(struct stage *s, size_t i)
{
	if (s->env->timeline != NULL)
		begin_source(s, i, now_ns());
}

static void set_counter(const struct stage *s, unsigned span, const char *key, uint64_t n)
{
	if (n > 0)
		timeline_set_number(s->env->timeline, span, key, n);
}

static void set_counters(const struct stage *s, size_t i)
{
	const struct progress *p = &s->progress[i];

	set_counter(s, p->span, "total_bytes", counted(&p->total));
	timeline_set_number(s->env->timeline, p->span, "received_bytes", counted(&p->received));
	timeline_set_number(s->env->timeline, p->span, "expanded_bytes", counted(&p->expanded));
	timeline_set_number(s->env->timeline, p->span, "entries", counted(&p->entries));
	set_counter(s, p->span, "connections", counted(&p->connections));
	timeline_set_number(s->env->timeline, p->span, "retries", counted(&p->retries));
	timeline_set_number(s->env->timeline, p->span, "stalls", counted(&p->stalls));
	set_counter(s, p->span, "network_ns", counted(&p->network_ns));
	set_counter(s, p->span, "decode_ns", counted(&p->decode_ns));
	set_counter(s, p->span, "disk_ns", counted(&p->disk_ns));
	set_counter(s, p->span, "budget_ns", counted(&p->budget_ns));
	set_counter(s, p->span, "lock_ns", counted(&s->lock_ns));
}

/* The words of report_bottleneck_name(), and two more. */
static const char *bottleneck_name(const struct advice_facts *f)
{
	if (f->lock_ns > f->wall_ns)
		return "lock";
	if (f->budget_ns > f->wall_ns / 2)
		return "budget";
	return report_bottleneck_name(
		report_bottleneck(f->network_ns, f->decode_ns, f->disk_ns, f->wall_ns));
}

static void set_advice(const struct stage *s, size_t i, uint64_t wall_ns)
{
	const struct progress *p = &s->progress[i];
	const struct advice_facts facts = {.wall_ns = wall_ns,
		.network_ns = counted(&p->network_ns),
		.decode_ns = counted(&p->decode_ns),
		.disk_ns = counted(&p->disk_ns),
		.budget_ns = counted(&p->budget_ns),
		.lock_ns = counted(&s->lock_ns),
		.received = counted(&p->received),
		.expanded = counted(&p->expanded),
		.entries = counted(&p->entries),
		.connections = (unsigned)counted(&p->connections),
		.connections_max = s->env->connections,
		.connections_all = s->env->connections_all,
		.max_rate = s->env->max_rate,
		.stalls = counted(&p->stalls),
		.format = s->outcomes[i].format};
	_free_ char *sentence = advice_sentence(&facts);

	timeline_set_text(s->env->timeline, p->span, "advice", sentence);
	timeline_set_text(s->env->timeline, p->span, "bottleneck", bottleneck_name(&facts));
}

void stage_span_source_end(struct stage *s, size_t i, int code, const struct error *err)
{
	unsigned span = s->progress[i].span;

	if (s->env->timeline == NULL)
		return;
	set_counters(s, i);
	timeline_set_text(s->env->timeline, span, "format", s->outcomes[i].format);
	if (code >= 0)
		set_advice(s, i, now_ns() - s->outcomes[i].begun_ns);
	end_span(s, span, code, err);
}

void stage_span_looked(
	struct stage *s, size_t i, uint64_t began_ns, int code, const struct error *err)
{
	if (s->env->timeline == NULL)
		return;
	s->outcomes[i].looked_ns = began_ns;
	s->outcomes[i].looked_end_ns = now_ns();
	if (code >= 0)
		return;
	begin_source(s, i, began_ns);
	end_span(s, s->progress[i].span, code, err);
}

/* A source that was looked at, and not unpacked. */
static void add_looked_at(struct stage *s, size_t i)
{
	const struct source_outcome *a = &s->outcomes[i];
	struct timeline *t = s->env->timeline;

	if (s->progress[i].span != 0 || a->looked_ns == 0)
		return;
	begin_source(s, i, a->looked_ns);
	if (source_is_remote(s->sources[i].url) || a->datastore != NULL)
		set_counter(s, s->progress[i].span, "network_ns", a->looked_end_ns - a->looked_ns);
	timeline_end_at(t, s->progress[i].span, SPAN_OK, NULL, a->looked_end_ns);
}

static void set_version(const struct stage *s, size_t i)
{
	const struct source_outcome *a = &s->outcomes[i];
	struct timeline *t = s->env->timeline;
	unsigned span = s->progress[i].span;

	if (a->datastore != NULL) {
		timeline_set_text(t, span, "datastore", a->datastore);
		timeline_set_number(t, span, "version", a->version);
		timeline_set_text(t, span, "sha256", a->manifest_sha256);
	} else if (s->versions != NULL) {
		const struct source_version *v = &s->versions[i];

		timeline_set_text(
			t, span, "etag", v->identity.etag[0] != '\0' ? v->identity.etag : NULL);
		timeline_set_text(t, span, "last_modified",
			v->identity.last_modified[0] != '\0' ? v->identity.last_modified : NULL);
		timeline_set_text(t, span, "sha256", v->sha256[0] != '\0' ? v->sha256 : NULL);
	}
}

/* Stages. */

static enum stage_end stage_end_of(const struct stage *s)
{
	if (s->code >= 0)
		return s->end;
	return s->code == -ECANCELED ? STAGE_CANCELLED : STAGE_FAILED;
}

void stage_span_end(struct stage *s)
{
	struct timeline *t = s->env->timeline;

	if (t == NULL)
		return;
	for (size_t i = 0; i < s->n_sources && s->code >= 0; i++) {
		add_looked_at(s, i);
		set_version(s, i);
	}
	timeline_set_text(t, s->span, "how", stage_end_name(stage_end_of(s)));
	if (s->versions != NULL) {
		timeline_set_number(t, s->span, "bytes", s->bytes);
		timeline_set_number(t, s->span, "entries", s->entries);
	}
	end_span(s, s->span, s->code, &s->err);
}

unsigned stage_span_publish(const struct stage *s)
{
	return timeline_begin(s->env->timeline, s->span, SPAN_PUBLISH, s->shown);
}

void stage_span_published(const struct stage *s, unsigned span, int code, const struct error *err)
{
	end_span(s, span, code, err);
}
