/* SPDX-License-Identifier: MIT */
/* From a stage item as it was written to what is staged. Loop thread; touches nothing. */
#include "stage_item.h"
#include "defer.h"
#include "process.h"
#include "runfile.h"

static const char *look_up(void *ctx, const char *name)
{
	return environment_get(ctx, name);
}

static int expand(const char *s, const struct strings *env, char **ret, struct error *err)
{
	return runfile_expand(s, look_up, (void *)env, ret, err);
}

static int expand_sources(const struct stage_spec *written, const struct strings *env,
	struct stage_spec *to, struct error *err)
{
	for (size_t i = 0; i < written->n_sources; i++) {
		_free_ char *url = NULL;
		int r = expand(written->sources[i].url, env, &url, err);

		if (r < 0)
			return r;
		stage_spec_add_source(to, url, written->sources[i].sha256);
	}
	return 0;
}

static void copy_strings(struct strings *to, const struct strings *from)
{
	for (size_t i = 0; i < from->n; i++)
		strings_add(to, from->v[i]);
}

int stage_item_expand(const struct stage_spec *written, const struct strings *env,
	struct stage_spec *ret, struct error *err)
{
	struct stage_spec s = *written;
	int r;

	s.sources = NULL;
	s.n_sources = 0;
	s.to = NULL;
	s.include = s.exclude = (struct strings){0};
	copy_strings(&s.include, &written->include);
	copy_strings(&s.exclude, &written->exclude);
	s.origin = copy_text(written->origin);
	s.max_bytes_why = copy_text(written->max_bytes_why);
	r = expand_sources(written, env, &s, err);
	if (r == 0)
		r = expand(written->to, env, &s.to, err);
	if (r < 0) {
		stage_spec_done(&s);
		return r;
	}
	*ret = s;
	return 0;
}
