/* SPDX-License-Identifier: MIT */
/* One line at the end of a run's start: how long it took, and what for. Stages run beside each
 * other, so the waits are those of the one that took longest. */
#include "defer.h"
#include "log.h"
#include "progress.h"
#include "run.h"
#include "stage.h"
#include "text.h"

/* A part that took less is not worth a word. */
#define NOTABLE_NS 1000000ull

/* Sources of a stage read beside each other, and so do their threads: their waits may add up to
 * more than the stage took. */
static void limit_waits(struct ready *r)
{
	double sum = (double)r->network_ns + (double)r->decode_ns + (double)r->disk_ns;
	double share = sum > (double)r->stage_ns ? (double)r->stage_ns / sum : 1;

	r->network_ns = (uint64_t)((double)r->network_ns * share);
	r->decode_ns = (uint64_t)((double)r->decode_ns * share);
	r->disk_ns = (uint64_t)((double)r->disk_ns * share);
}

void ready_add_stage(void *ready, const struct stage_result *r)
{
	struct ready *to = ready;

	if (r->end != STAGE_FETCHED && r->end != STAGE_CACHED)
		return;
	to->bytes += r->bytes;
	if (r->elapsed_ns <= to->stage_ns)
		return;
	to->stage_ns = r->elapsed_ns;
	to->network_ns = to->decode_ns = to->disk_ns = 0;
	for (size_t i = 0; i < r->n_sources; i++) {
		to->network_ns += r->sources[i].network_ns;
		to->decode_ns += r->sources[i].decode_ns;
		to->disk_ns += r->sources[i].disk_ns;
	}
	limit_waits(to);
}

static void add_part(struct text *t, const char *separator, const char *name, uint64_t ns)
{
	char time[32];

	if (ns >= NOTABLE_NS)
		text_addf(t, "%s%s %s", t->len > 0 ? separator : "", name,
			units_print_duration(ns, time));
}

static void add_staged(struct text *t, const struct ready *r)
{
	struct text waits = {0};
	char size[32];

	if (r->stage_ns == 0)
		return;
	add_part(&waits, ", ", "network", r->network_ns);
	add_part(&waits, ", ", "decode", r->decode_ns);
	add_part(&waits, ", ", "disk", r->disk_ns);
	text_addf(t, "%s staged", units_print_size(r->bytes, size));
	if (waits.len > 0)
		text_addf(t, " (%s)", waits.s);
	text_done(&waits);
}

void ready_log(const struct ready *r)
{
	uint64_t all_ns = now_ns() - r->begun_ns;
	const struct log_field fields[] = {log_field_ns("seconds", all_ns),
		log_field_integer("bytes", r->bytes),
		log_field_ns("network_seconds", r->network_ns),
		log_field_ns("decode_seconds", r->decode_ns),
		log_field_ns("disk_seconds", r->disk_ns),
		log_field_ns("dependencies_seconds", r->dependencies_ns),
		log_field_ns("actions_seconds", r->actions_ns)};
	struct text parts = {0};
	char time[32];

	add_staged(&parts, r);
	add_part(&parts, ", ", "dependencies", r->dependencies_ns);
	add_part(&parts, ", ", "actions", r->actions_ns);
	if (parts.len > 0)
		log_event(LOG_INFO, EVENT_READY, fields, ARRAY_LEN(fields), "ready in %s: %s",
			units_print_duration(all_ns, time), parts.s);
	text_done(&parts);
}
