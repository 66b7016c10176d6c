/* SPDX-License-Identifier: MIT */
/* What a stage would do: its sources are asked, its destination and the node cache are looked at,
 * and nothing is changed. Worker threads, one at a time for each source, and for each stage. */
#include "outlook.h"
#include "cache.h"
#include "datastore.h"
#include "datastore_ref.h"
#include "defer.h"
#include "source.h"
#include "stage_private.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

struct outlook {
	struct stage_env env;
	struct stage *stages;
	struct outlook_stage *v;
	size_t n;
};

static void describe_stage(struct stage *s, struct outlook_stage *v)
{
	const struct tree_limits limits = stage_tree_options(s).limits;

	v->spec = s->spec;
	v->n_sources = s->n_sources;
	v->sources = zalloc(s->n_sources * sizeof(*v->sources));
	v->max_bytes = limits.max_bytes;
	v->max_bytes_why = limits.bytes_why;
	for (size_t k = 0; k < s->n_sources; k++)
		v->sources[k] =
			(struct outlook_source){.source = &s->sources[k], .name = s->names[k]};
}

int outlook_new(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct outlook **ret, struct error *err)
{
	struct outlook *o = zalloc(sizeof(*o));
	int code;

	o->env = *env;
	code = stage_join(&o->env, specs, n, &o->stages, &o->n, err);
	o->v = zalloc(o->n * sizeof(*o->v));
	for (size_t i = 0; i < o->n; i++) {
		o->stages[i].cancel = &o->stages[i].attempt;
		describe_stage(&o->stages[i], &o->v[i]);
	}
	if (code < 0)
		outlook_free(take_ptr(&o));
	*ret = o;
	return code;
}

void outlook_free(struct outlook *o)
{
	if (o == NULL)
		return;
	for (size_t i = 0; i < o->n; i++) {
		for (size_t k = 0; k < o->v[i].n_sources; k++)
			manifest_free(o->v[i].sources[k].manifest);
		free(o->v[i].sources);
		text_strings_done(&o->v[i].names);
		stage_done(&o->stages[i]);
	}
	free(o->v);
	free(o->stages);
	free(o);
}

struct outlook_stage *outlook_stages(struct outlook *o, size_t *ret_n)
{
	*ret_n = o->n;
	return o->v;
}

void outlook_cancel(struct outlook *o)
{
	for (size_t i = 0; i < o->n; i++)
		cancel_request(&o->stages[i].attempt);
}

static int ask_stream(struct stage *s, struct outlook_source *q)
{
	const struct source_env env = {
		.transfer = s->env->transfer, .s3 = s->env->s3, .cancel = &s->attempt};
	const struct source_request request = {.url = q->source->url, .want = WANT_IDENTITY};
	struct object *o;
	int code = source_open(&env, &request, &o, &q->err);

	if (code < 0)
		return code;
	q->identity = o->identity;
	object_close(o);
	return 0;
}

void outlook_ask(struct outlook *o, size_t i, size_t k)
{
	struct stage *s = &o->stages[i];
	struct outlook_source *q = &o->v[i].sources[k];

	if (datastore_ref_is_source(q->source->url))
		q->code = stage_datastore_find(s, k, &q->manifest, &q->identity, &q->err);
	else
		q->code = ask_stream(s, q);
}

/* Whether what was staged, or is in the cache, is the version that would be fetched; as for a
 * stage, a version that is pinned needs no answer of the source. */
static bool is_unchanged(
	struct stage *s, size_t k, const struct outlook_source *q, const struct record_source *had)
{
	unsigned version = 0;

	if (datastore_ref_is_source(q->source->url)) {
		if (q->code < 0 &&
			(datastore_ref_source_version(q->source->url, &version, NULL) < 0 ||
				version == 0))
			return false;
		return stage_datastore_is_unchanged(s, k, &had->identity, NULL) > 0;
	}
	if (q->source->sha256 != NULL && strcmp(q->source->sha256, had->sha256) == 0)
		return true;
	return q->code == 0 && object_identity_pins(&had->identity) &&
	       object_identity_same(&q->identity, &had->identity);
}

static bool all_unchanged(struct stage *s, const struct outlook_stage *v, const struct record *had)
{
	bool same = had != NULL && had->n_sources == v->n_sources;

	for (size_t k = 0; k < v->n_sources && same; k++)
		same = is_unchanged(s, k, &v->sources[k], &had->sources[k]);
	return same;
}

static bool is_cached(struct stage *s, const struct outlook_stage *v)
{
	struct record *had =
		s->env->cache != NULL ? cache_newest(s->env->cache, s->cache_key) : NULL;
	char version[65];
	bool is = had != NULL && resume_pin_record(s, had, version) && all_unchanged(s, v, had);

	publish_record_free(had);
	return is;
}

/* The compressed bytes are a lower bound, unless only some of the entries are wanted. */
static void estimate(const struct stage *s, struct outlook_stage *v)
{
	const struct stage_spec *spec = s->spec;
	bool selects = spec->include.n > 0 || spec->exclude.n > 0 || spec->shard_world > 0;

	for (size_t k = 0; k < v->n_sources && !selects; k++) {
		const struct outlook_source *q = &v->sources[k];

		if (q->manifest != NULL) {
			v->bytes += q->manifest->bytes;
			v->files += q->manifest->files;
		} else if (q->code == 0 && q->identity.size != SIZE_UNKNOWN) {
			v->bytes += q->identity.size;
		}
	}
}

static void note_space(const struct stage *s, struct destination *d, struct outlook_stage *v)
{
	struct destination_outlook there;
	struct stat st;

	destination_outlook(d, s->key, &there);
	v->continues = there.continues;
	v->names = there.names;
	v->n_more = there.n_more;
	v->knows_space = fstat(there.disk_fd, &st) == 0 && disk_space(there.disk_fd, &v->space);
	v->disk = v->knows_space ? st.st_dev : 0;
}

static int look_at_destination(struct stage *s, struct outlook_stage *v)
{
	const struct destination_options opts = {.replace = s->spec->replace,
		.restore = s->spec->restore,
		.renew = s->spec->renew,
		.alone = s->spec->read_only,
		.keep_replaced = s->spec->keep_replaced,
		.cancel = &s->attempt};
	struct destination *d = NULL;
	int code = destination_look(s->to, &opts, &d, &v->err);

	if (code < 0)
		return code;
	if (all_unchanged(s, v, destination_holds(d, s->key))) {
		v->result = OUTLOOK_WARM;
	} else {
		v->result = is_cached(s, v) ? OUTLOOK_CACHED : OUTLOOK_FETCH;
		code = destination_check(d, s->key, &v->err);
		note_space(s, d, v);
	}
	destination_close(d, true);
	return code;
}

/* Only the entry of the cache would be filled. */
static int look_at_cache(struct stage *s, struct outlook_stage *v)
{
	struct record r = {.n_sources = v->n_sources};
	char version[65];
	bool pinned, answered = true;

	if (is_cached(s, v)) {
		v->result = OUTLOOK_WARM;
		return 0;
	}
	r.sources = zalloc(v->n_sources * sizeof(*r.sources));
	for (size_t k = 0; k < v->n_sources; k++) {
		r.sources[k].identity = v->sources[k].identity;
		answered &= v->sources[k].code == 0;
	}
	pinned = resume_pin_record(s, &r, version);
	free(r.sources);
	if (pinned || !answered)
		return 0;
	return error_set(&v->err, -ERR_UNSUPPORTED,
		"%s cannot be kept in the node cache: nothing names its version for certain (a strong ETag, or a sha256 in config.yml)",
		s->names[0]);
}

static bool any_source_failed(const struct outlook_stage *v)
{
	for (size_t k = 0; k < v->n_sources; k++)
		if (v->sources[k].code < 0)
			return true;
	return false;
}

void outlook_look(struct outlook *o, size_t i)
{
	struct stage *s = &o->stages[i];
	struct outlook_stage *v = &o->v[i];
	int code = s->env->cache_only ? look_at_cache(s, v) : look_at_destination(s, v);

	if (code == -ERR_KEPT && s->spec->keep_changed) {
		v->result = OUTLOOK_KEPT;
		v->err = (struct error){0};
		code = 0;
	}
	v->asked = v->result != OUTLOOK_WARM && v->result != OUTLOOK_CACHED;
	if (v->result == OUTLOOK_FETCH)
		estimate(s, v);
	if (code < 0 || (v->asked && any_source_failed(v)))
		v->result = OUTLOOK_REFUSED;
	if (code == 0)
		v->err.code = 0;
}
