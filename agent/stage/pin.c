/* SPDX-License-Identifier: MIT */
/* Which version of its sources a stage is about, before their bytes are there. Stage thread. Only what names a
 * version for certain counts: a digest, a strong ETag, the manifest of a datastore. */
#include "cache.h"
#include "defer.h"
#include "log.h"
#include "prefix.h"
#include "source.h"
#include "stage_datastore.h"
#include <string.h>

/* false: it is not certain. */
static bool describe(const struct stage *s, size_t i, const struct record_source *r, struct text *t)
{
	const char *url = s->sources[i].url;

	if (!stage_is_datastore(url) && s->sources[i].sha256 != NULL)
		text_addf(t, "sha256 %s\n", s->sources[i].sha256);
	else if (r->identity.etag[0] != '\0')
		text_addf(t, "etag %s\n", r->identity.etag);
	else
		return false;
	return true;
}

bool pin_record(const struct stage *s, const struct record *r, char version[static 65])
{
	struct text t = {0};
	bool pinned = r->n_sources == s->n_sources;

	for (size_t i = 0; i < s->n_sources && pinned; i++)
		pinned = describe(s, i, &r->sources[i], &t);
	if (pinned)
		stage_digest(&t, version);
	text_done(&t);
	return pinned;
}

/* Whether what the cache has is current: then nothing but that was asked. */
static int is_newest(struct stage *s, struct error *err)
{
	struct record *had = cache_newest(s->env->cache, s->cache_key);
	int unchanged = had != NULL && pin_record(s, had, s->version);

	for (size_t i = 0; i < s->n_sources && unchanged > 0; i++)
		unchanged = stage_source_is_unchanged(s, i, &had->sources[i], err);
	record_free(had);
	return unchanged;
}

static int probe(
	struct stage *s, size_t i, struct identity *ret, uint64_t *bytes, struct error *err)
{
	const struct source_env env = {
		.transfer = s->env->transfer, .s3 = s->env->s3, .cancel = &s->attempt};
	const struct source_request request = {.url = s->sources[i].url, .want = WANT_IDENTITY};
	struct object *o;
	int code;

	if (stage_is_datastore(s->sources[i].url))
		return stage_datastore_look(s, i, ret, bytes, err);
	if (s->sources[i].sha256 != NULL || stage_is_prefix(s->sources[i].url))
		return 0;
	code = source_open(&env, &request, &o, err);
	if (code < 0)
		return code;
	*ret = o->identity;
	if (o->identity.size != SIZE_UNKNOWN)
		*bytes += o->identity.size;
	object_close(o);
	return 0;
}

int pin_sources(struct stage *s, uint64_t *ret_bytes, struct error *err)
{
	struct record r = {.n_sources = s->n_sources};
	int code = is_newest(s, err);

	*ret_bytes = 0;
	if (code != 0)
		return code;
	r.sources = zalloc(s->n_sources * sizeof(*r.sources));
	for (size_t i = 0; i < s->n_sources && code == 0; i++)
		code = probe(s, i, &r.sources[i].identity, ret_bytes, err);
	if (code == 0)
		code = pin_record(s, &r, s->version);
	free(r.sources);
	if (code == 0)
		log_debug("%s is not kept in the node cache: nothing names its version for certain",
			s->progress[0].name);
	return code;
}
