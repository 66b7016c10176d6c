/* SPDX-License-Identifier: MIT */
/* Collects the sources that a run has staged, as far as a termination message has room for. Loop
 * thread. */
#include "run.h"
#include "text.h"
#include <stdlib.h>

static const char *first_known(const char *a, const char *b, const char *c)
{
	if (a != NULL && *a != '\0')
		return a;
	return b != NULL && *b != '\0' ? b : c;
}

/* The best name of what was read: of a datastore its number, else a digest, else what the server
 * said. Heap. */
static char *find_version(const struct stage_result_source *s)
{
	if (s->datastore != NULL)
		return text_format("%u", s->version);
	return text_copy(first_known(s->sha256, s->etag, s->last_modified));
}

static void add_source(
	struct staged *s, const struct stage_result *r, const struct stage_result_source *source)
{
	if (s->n == TERMINATION_SOURCES_MAX)
		return;
	s->v = reallocarray(s->v, s->n + 1, sizeof(*s->v));
	if (s->v == NULL)
		abort();
	s->v[s->n++] = (struct termination_source){.name = text_copy(source->name),
		.version = find_version(source),
		.bytes = source->received,
		.ns = r->elapsed_ns};
}

void staged_add(void *staged, const struct stage_result *r)
{
	if (r->end == STAGE_FAILED || r->end == STAGE_CANCELLED)
		return;
	for (size_t i = 0; i < r->n_sources; i++)
		add_source(staged, r, &r->sources[i]);
}

void staged_done(struct staged *s)
{
	for (size_t i = 0; i < s->n; i++) {
		free(s->v[i].name);
		free(s->v[i].version);
	}
	free(s->v);
	*s = (struct staged){0};
}
