/* SPDX-License-Identifier: MIT */
/* The status of a run as a value: its sources, times and phases. */
#include "defer.h"
#include "redact.h"
#include "report_private.h"
#include "run_status.h"
#include <string.h>
#include <time.h>

static void free_source(struct run_status_source *s)
{
	free(s->name);
	free(s->to);
}

void run_status_drop_sources(struct run_status *s, size_t n)
{
	while (s->n_sources > n)
		free_source(&s->sources[--s->n_sources]);
	s->sources_total = s->n_sources;
}

void run_status_done(struct run_status *s)
{
	run_status_drop_sources(s, 0);
	free(s->sources);
	free(s->failed_phase);
	free(s->message);
	*s = (struct run_status){0};
}

static void add_source(struct run_status *s, const struct run_status_source *source)
{
	s->sources = reallocarray(s->sources, s->n_sources + 1, sizeof(*s->sources));
	if (s->sources == NULL)
		abort();
	s->sources[s->n_sources++] = *source;
}

void run_status_add_source(struct run_status *s, const struct monitor_source *source)
{
	s->sources_total++;
	if (s->n_sources == RUN_STATUS_SOURCES_MAX)
		return;
	add_source(s, &(struct run_status_source){.name = redact_own(text_copy(source->name)),
			      .to = source->to != NULL ? redact_own(text_copy(source->to)) : NULL,
			      .state = source->state,
			      .received = source->received,
			      .total = source->total,
			      .bytes_per_second = (uint64_t)source->bytes_per_second,
			      .seconds_left = source->seconds_left,
			      .waits_for = source->waits_for});
}

char *run_status_time(uint64_t after_ms, char ret[static RUN_STATUS_TIME])
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	view_time((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + after_ms * 1000000u,
		ret);
	return ret;
}

const char *run_status_phase_name(enum run_phase phase)
{
	static const char *const names[] = {
#define X(id, name) [id] = (name),
		RUN_PHASES(X)
#undef X
	};

	return names[phase];
}
