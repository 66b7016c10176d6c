/* SPDX-License-Identifier: MIT */
/* What libyaml could not read, said for a person. */
#include "yaml_problem.h"
#include <string.h>
#include <yaml.h>

/* Where the line with this number (from 0) begins, or NULL. */
static const char *line_start(const char *bytes, size_t len, size_t line)
{
	const char *at = bytes, *end = bytes + len;

	for (; line > 0 && at != NULL; line--) {
		at = memchr(at, '\n', (size_t)(end - at));
		at = at != NULL ? at + 1 : NULL;
	}
	return at;
}

/* The column (from 1) of a tab before the first word of a line, or 0. */
static size_t tab_in_indentation(const char *bytes, size_t len, size_t line)
{
	const char *start = line_start(bytes, len, line);
	const char *at = start, *end = bytes + len;

	while (at != NULL && at < end && *at == ' ')
		at++;
	return at != NULL && at < end && *at == '\t' ? (size_t)(at - start) + 1 : 0;
}

static size_t count_lines(const char *bytes, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += bytes[i] == '\n';
	return n;
}

int yaml_problem(const char *name, const char *bytes, size_t len, const yaml_parser_t *parser,
	struct error *err)
{
	const char *what = parser->problem != NULL ? parser->problem : "cannot be read";
	size_t line = parser->problem_mark.line, tab;

	/* Bytes that are no text have an offset instead of a place. */
	if (parser->error == YAML_READER_ERROR) {
		size_t offset = parser->problem_offset < len ? parser->problem_offset : len;

		return error_set(err, -ERR_CONFIG, "%s:%zu: not UTF-8 text: %s", name,
			count_lines(bytes, offset) + 1, what);
	}
	tab = tab_in_indentation(bytes, len, line);
	if (tab > 0)
		return error_set(err, -ERR_CONFIG,
			"%s:%zu:%zu: a tab in the indentation; YAML takes only spaces there", name,
			line + 1, tab);
	if (parser->context != NULL && parser->context_mark.line < line)
		return error_set(err, -ERR_CONFIG, "%s:%zu:%zu: %s, %s (which begins on line %zu)",
			name, line + 1, parser->problem_mark.column + 1, what, parser->context,
			parser->context_mark.line + 1);
	return error_set(err, -ERR_CONFIG, "%s:%zu:%zu: %s", name, line + 1,
		parser->problem_mark.column + 1, what);
}
