/* SPDX-License-Identifier: MIT */
/* Specs, and how stages are made of them. Loop thread. Specs with the same destination become one
 * stage, and each stage gets the key that identifies it in state files. The only I/O is resolving
 * paths. */
#include "datastore_ref.h"
#include "defer.h"
#include "destination.h"
#include "digest.h"
#include "source.h"
#include "stage.h"
#include "stage_private.h"
#include <string.h>

void stage_spec_add_source(struct stage_spec *s, const char *url, const char *sha256)
{
	s->sources = realloc(s->sources, (s->n_sources + 1) * sizeof(*s->sources));
	if (s->sources == NULL)
		abort();
	s->sources[s->n_sources++] =
		(struct stage_source){.url = text_copy(url), .sha256 = text_copy(sha256)};
}

void stage_spec_done(struct stage_spec *s)
{
	for (size_t i = 0; i < s->n_sources; i++) {
		free(s->sources[i].url);
		free(s->sources[i].sha256);
	}
	free(s->sources);
	free(s->to);
	text_strings_done(&s->include);
	text_strings_done(&s->exclude);
	free(s->zip_names);
	free(s->origin);
	free(s->max_bytes_why);
	*s = (struct stage_spec){0};
}

/* Finds the '=' before DIR: the last one that a path follows, since presigned URLs contain
 * others. */
static const char *find_split(const char *arg)
{
	static const char *const starts[] = {"=/", "=./", "=../"};
	const char *split = NULL;

	for (const char *p = arg; (p = strchr(p, '=')) != NULL; p++) {
		for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
			if (strncmp(p, starts[i], strlen(starts[i])) == 0)
				split = p;
		}
	}
	return split;
}

int stage_spec_parse(const char *arg, struct stage_spec *ret, struct error *err)
{
	const char *split = find_split(arg);
	_free_ char *url = NULL;
	int code;

	if (split == NULL || split == arg) {
		_free_ char *shown = source_display(arg); /* it may be a presigned URL */

		return error_set(err, -ERR_USAGE,
			"'%s' is not SOURCE=DIR, where DIR begins with /, ./ or ../", shown);
	}
	url = text_format("%.*s", (int)(split - arg), arg);
	code = source_check(url, err);
	if (code < 0)
		return code;
	*ret = (struct stage_spec){.to = text_copy(split + 1)};
	stage_spec_add_source(ret, url, NULL);
	return 0;
}

/* From specs to stages. */

static bool same_strings(const struct strings *a, const struct strings *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	}
	return true;
}

static const char *text_or_empty(const char *s)
{
	return s != NULL ? s : "";
}

const char *stage_zip_names(const struct stage *s)
{
	const char *own = s->spec->zip_names;

	return text_or_empty(own != NULL ? own : s->env->zip_names);
}

static bool same_options(const struct stage_spec *a, const struct stage_spec *b)
{
	return same_strings(&a->include, &b->include) && same_strings(&a->exclude, &b->exclude) &&
	       a->strip_components == b->strip_components && a->no_extract == b->no_extract &&
	       a->replace == b->replace && a->renew == b->renew &&
	       strcmp(text_or_empty(a->zip_names), text_or_empty(b->zip_names)) == 0 &&
	       a->keep_replaced == b->keep_replaced && a->keep_changed == b->keep_changed &&
	       a->read_only == b->read_only && a->shard_rank == b->shard_rank &&
	       a->shard_world == b->shard_world;
}

static void add_sources(struct stage *s, const struct stage_spec *spec)
{
	s->sources = realloc(s->sources, (s->n_sources + spec->n_sources) * sizeof(*s->sources));
	if (s->sources == NULL)
		abort();
	memcpy(s->sources + s->n_sources, spec->sources, spec->n_sources * sizeof(*s->sources));
	s->n_sources += spec->n_sources;
}

/* Whether inner is below outer. */
static bool lies_inside(const char *inner, const char *outer)
{
	size_t len = strlen(outer);

	return strncmp(inner, outer, len) == 0 && inner[len] == '/';
}

static int find_stage(struct stage *stages, size_t n, const struct stage_spec *spec, const char *to,
	struct stage **ret, struct error *err)
{
	*ret = NULL;
	for (size_t i = 0; i < n; i++) {
		const char *other = stages[i].to;

		if (lies_inside(to, other) || lies_inside(other, to))
			return error_set(err, -ERR_USAGE,
				"%s (%s) and %s (%s): one lies inside the other, and both would be staged at once; give one of them another directory, or stage the second in an action after a shell action",
				to, spec->origin, other, stages[i].spec->origin);
		if (strcmp(to, other) != 0)
			continue;
		if (!same_options(spec, stages[i].spec))
			return error_set(err, -ERR_USAGE,
				"%s and %s stage into %s with different options; give both the same, or two directories",
				stages[i].spec->origin, spec->origin, to);
		*ret = &stages[i];
	}
	return 0;
}

static void describe_sources(const struct stage *s, bool pinned, struct text *t)
{
	for (size_t i = 0; i < s->n_sources; i++) {
		_free_ char *key = datastore_ref_is_source(s->sources[i].url)
					   ? stage_datastore_key(s, i)
					   : source_key(s->sources[i].url);

		text_addf(t, "source %s\n", key);
		if (pinned && s->sources[i].sha256 != NULL)
			text_addf(t, "sha256 %s\n", s->sources[i].sha256);
	}
}

static void describe_options(const struct stage *s, bool read_only, struct text *t)
{
	const struct stage_spec *spec = s->spec;

	for (size_t i = 0; i < spec->include.n; i++)
		text_addf(t, "include %s\n", spec->include.v[i]);
	for (size_t i = 0; i < spec->exclude.n; i++)
		text_addf(t, "exclude %s\n", spec->exclude.v[i]);
	text_addf(t, "strip %u extract %d owner %d %u %u\n", spec->strip_components,
		!spec->no_extract, s->env->tree.same_owner, s->env->tree.uid, s->env->tree.gid);
	if (stage_zip_names(s)[0] != '\0')
		text_addf(t, "zip_names %s\n", stage_zip_names(s));
	if (read_only || spec->shard_world > 0)
		text_addf(t, "read_only %d shard %u of %u\n", read_only, spec->shard_rank,
			spec->shard_world);
}

/* The key covers sources and options, but not versions: the same request later has the same key. */
static void compute_key(const struct stage *s, bool read_only, char key[static 65])
{
	struct text t = {0};

	describe_sources(s, true, &t);
	describe_options(s, read_only, &t);
	digest_hex(t.s, t.len, key);
	text_done(&t);
}

/* Stages with the same lineage are versions of the same sources, whatever was selected from
 * them. */
static void compute_lineage(const struct stage *s, char lineage[static 65])
{
	struct text t = {0};

	describe_sources(s, false, &t);
	digest_hex(t.s, t.len, lineage);
	text_done(&t);
}

static void new_progress(struct stage *s)
{
	s->names = zalloc(s->n_sources * sizeof(*s->names));
	s->progress = zalloc(s->n_sources * sizeof(*s->progress));
	s->outcomes = zalloc(s->n_sources * sizeof(*s->outcomes));
	for (size_t i = 0; i < s->n_sources; i++) {
		s->progress[i].name = s->names[i] = source_display(s->sources[i].url);
		s->progress[i].to = s->spec->to;
	}
}

/* Refuses a '~' that no shell has expanded, and the empty path that an unset variable leaves. */
static int check_destination(const struct stage_spec *spec, struct error *err)
{
	if (spec->to[0] == '\0')
		return error_set(
			err, -ERR_USAGE, "%s: the directory to stage into is empty", spec->origin);
	if (spec->to[0] == '~' && (spec->to[1] == '/' || spec->to[1] == '\0'))
		return error_set(err, -ERR_USAGE,
			"%s: '~' is not expanded in '%s'; write the directory out, or ${HOME} in config.yml",
			spec->origin, spec->to);
	return 0;
}

/* Only a datastore, by its index, can tell which files belong to a shard before their bytes are
 * fetched. */
static int check_sources(const struct stage_spec *spec, struct error *err)
{
	for (size_t i = 0; i < spec->n_sources; i++) {
		if (spec->shard_world > 0 && !datastore_ref_is_source(spec->sources[i].url))
			return error_set(err, -ERR_USAGE, "%s: only datastores can be sharded",
				spec->origin);
	}
	return 0;
}

int stage_join(const struct stage_env *env, const struct stage_spec *specs, size_t n,
	struct stage **ret_stages, size_t *ret_n, struct error *err)
{
	struct stage *stages = zalloc(n * sizeof(*stages));
	size_t n_stages = 0;
	int code = 0;

	for (size_t i = 0; i < n && code == 0; i++) {
		_free_ char *to = NULL;
		struct stage *s = NULL;

		code = check_destination(&specs[i], err);
		if (code == 0)
			code = check_sources(&specs[i], err);
		if (code == 0)
			code = destination_canonical_path(specs[i].to, &to, err);
		if (code == 0)
			code = find_stage(stages, n_stages, &specs[i], to, &s, err);
		if (code == 0 && s == NULL) {
			s = &stages[n_stages++];
			*s = (struct stage){.env = env, .spec = &specs[i], .to = take_ptr(&to)};
			cancel_init(&s->attempt);
		}
		if (code == 0)
			add_sources(s, &specs[i]);
	}
	for (size_t i = 0; i < n_stages; i++) {
		new_progress(&stages[i]);
		compute_key(&stages[i], stages[i].spec->read_only, stages[i].key);
		compute_key(&stages[i], false, stages[i].cache_key);
		compute_lineage(&stages[i], stages[i].lineage);
	}
	*ret_stages = stages;
	*ret_n = n_stages;
	return code;
}

void stage_done(struct stage *s)
{
	for (size_t i = 0; i < s->n_sources; i++) {
		free(s->names[i]);
		free(s->outcomes[i].format);
		free(s->outcomes[i].datastore);
		select_left_done(&s->outcomes[i].left);
	}
	free(s->names);
	free(s->progress);
	free(s->outcomes);
	free(s->versions);
	free(s->sources);
	free(s->to);
	free(s->entry_path);
	cancel_done(&s->attempt);
}

int stage_specs_check(const struct stage_spec *specs, size_t n, struct error *err)
{
	static const struct stage_env env;
	struct stage *stages;
	size_t n_stages;
	int code = stage_join(&env, specs, n, &stages, &n_stages, err);

	for (size_t i = 0; i < n_stages; i++)
		stage_done(&stages[i]);
	free(stages);
	return code;
}
