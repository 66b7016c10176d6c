/* SPDX-License-Identifier: MIT */
/* From a stage item as it was written to what is staged. Loop thread; touches nothing. */
#include "defer.h"
#include "runfile.h"
#include <limits.h>
#include <string.h>

struct lookup {
	const char *(*find)(void *ctx, const char *name);
	void *ctx;
};

static int expand(const char *s, const struct lookup *l, char **ret, struct error *err)
{
	return runfile_expand(s, l->find, l->ctx, ret, err);
}

static int expand_sources(const struct stage_spec *written, const struct lookup *l,
	struct stage_spec *to, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < written->n_sources && code == 0; i++) {
		_free_ char *url = NULL;

		code = expand(written->sources[i].url, l, &url, err);
		if (code == 0)
			code = datastore_source(&url, err);
		if (code == 0)
			stage_spec_add_source(to, url, written->sources[i].sha256);
	}
	return code;
}

static int expand_number(
	const char *s, const struct lookup *l, const char *what, unsigned *ret, struct error *err)
{
	_free_ char *text = NULL;
	uint64_t n = 0;
	int code = expand(s, l, &text, err);

	if (code == 0)
		code = parse_uint(text, INT_MAX, &n, err);
	if (code < 0)
		return error_prefix(err, "shard: %s", what);
	*ret = (unsigned)n;
	return 0;
}

static int expand_shard(
	const struct action *a, const struct lookup *l, struct stage_spec *to, struct error *err)
{
	int code;

	if (a->shard_rank == NULL)
		return 0;
	code = expand_number(a->shard_rank, l, "rank", &to->shard_rank, err);
	if (code == 0)
		code = expand_number(a->shard_world, l, "world", &to->shard_world, err);
	if (code == 0 && to->shard_rank >= to->shard_world)
		code = error_set(err, -ERR_CONFIG,
			"shard: there is no rank %u in a world of %u; ranks count from 0",
			to->shard_rank, to->shard_world);
	return code;
}

static void copy_strings(struct strings *to, const struct strings *from)
{
	for (size_t i = 0; i < from->n; i++)
		strings_add(to, from->v[i]);
}

int runfile_stage(const struct action *a, const char *(*lookup)(void *ctx, const char *name),
	void *ctx, struct stage_spec *ret, struct error *err)
{
	const struct lookup l = {lookup, ctx};
	const struct stage_spec *written = &a->stage;
	struct stage_spec s = {.strip_components = written->strip_components,
		.no_extract = written->no_extract,
		.replace = written->replace,
		.origin = copy_text(written->origin)};
	int code;

	copy_strings(&s.include, &written->include);
	copy_strings(&s.exclude, &written->exclude);
	code = expand_sources(written, &l, &s, err);
	if (code == 0)
		code = expand(written->to, &l, &s.to, err);
	if (code == 0)
		code = expand_shard(a, &l, &s, err);
	if (code < 0) {
		stage_spec_done(&s);
		return code;
	}
	*ret = s;
	return 0;
}
