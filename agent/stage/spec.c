/* SPDX-License-Identifier: MIT */
/* What to stage, as it was asked for. */
#include "defer.h"
#include "source.h"
#include "stage.h"
#include <string.h>

void stage_spec_add_source(struct stage_spec *s, const char *url, const char *sha256)
{
	s->sources = realloc(s->sources, (s->n_sources + 1) * sizeof(*s->sources));
	if (s->sources == NULL)
		abort();
	s->sources[s->n_sources++] =
		(struct stage_source){.url = copy_text(url), .sha256 = copy_text(sha256)};
}

void stage_spec_done(struct stage_spec *s)
{
	for (size_t i = 0; i < s->n_sources; i++) {
		free(s->sources[i].url);
		free(s->sources[i].sha256);
	}
	free(s->sources);
	free(s->to);
	strings_done(&s->include);
	strings_done(&s->exclude);
	free(s->origin);
	free(s->max_bytes_why);
	*s = (struct stage_spec){0};
}

/* The '=' before DIR: the last one with a path behind it, as presigned URLs are full of others. */
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
	url = format_text("%.*s", (int)(split - arg), arg);
	code = source_check(url, err);
	if (code < 0)
		return code;
	*ret = (struct stage_spec){.to = copy_text(split + 1)};
	stage_spec_add_source(ret, url, NULL);
	return 0;
}
