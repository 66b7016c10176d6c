/* SPDX-License-Identifier: MIT */
/* What became of a stage, for whoever wants to know. */
#include "defer.h"
#include "stage_private.h"
#include <errno.h>
#include <string.h>

const char *stage_end_name(enum stage_end e)
{
	static const char *const names[] = {
#define X(id, name) [id] = (name),
		STAGE_ENDS(X)
#undef X
	};

	return names[e];
}

const char *stage_place(const struct stage *s)
{
	return s->env->cache_only ? s->to : s->spec->to;
}

void stage_note_found(struct stage *s, const struct record *r)
{
	if (s->env->on_result == NULL || r == NULL || r->n_sources != s->n_sources)
		return;
	s->bytes = r->bytes;
	s->entries = r->entries;
	s->found = zalloc(s->n_sources * sizeof(*s->found));
	for (size_t i = 0; i < s->n_sources; i++) {
		s->found[i].identity = r->sources[i].identity;
		memcpy(s->found[i].sha256, r->sources[i].sha256, sizeof(s->found[i].sha256));
	}
}

static struct stage_result_source tell_source(const struct stage *s, size_t i)
{
	const struct arrival *a = &s->arrivals[i];
	const struct found *f = s->found != NULL ? &s->found[i] : NULL;
	struct stage_result_source r = {.name = s->progress[i].name,
		.received = counted(&s->progress[i].received),
		.etag = "",
		.last_modified = "",
		.sha256 = "",
		.datastore = a->datastore,
		.version = a->version};

	if (r.datastore != NULL)
		r.sha256 = a->manifest_sha256;
	if (r.datastore != NULL || f == NULL)
		return r;
	r.etag = f->identity.etag;
	r.last_modified = f->identity.last_modified;
	r.sha256 = f->sha256;
	return r;
}

void stage_tell_result(const struct stage *s)
{
	struct stage_result_source *sources;
	struct stage_result r = {.to = stage_place(s),
		.origin = s->spec->origin,
		.end = s->end,
		.bytes = s->bytes,
		.entries = s->entries,
		.elapsed_ns = s->elapsed_ns,
		.n_sources = s->n_sources};

	if (s->env->on_result == NULL)
		return;
	if (s->code < 0) {
		r.end = s->code == -ECANCELED ? STAGE_CANCELLED : STAGE_FAILED;
		r.err = &s->err;
	}
	r.sources = sources = zalloc(s->n_sources * sizeof(*sources));
	for (size_t i = 0; i < s->n_sources; i++)
		sources[i] = tell_source(s, i);
	s->env->on_result(s->env->on_result_ctx, &r);
	free(sources);
}
