/* SPDX-License-Identifier: MIT */
/* Walking config.yml's maps and lists by tables, and reading single values out of them. How deep
 * the walk goes is up to the tables, not to the file. */
#include "runfile_reader.h"
#include "defer.h"
#include "log.h"
#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char *place_of(const struct runfile_reader *p, const struct yaml_node *node)
{
	return format_text("%s:%u:%u", p->r->path, node->line, node->column);
}

int refuse_node(const struct runfile_reader *p, const struct yaml_node *node, const char *fmt, ...)
{
	_free_ char *place = place_of(p, node);
	_free_ char *sentence = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&sentence, fmt, ap) < 0)
		abort();
	va_end(ap);
	return error_set(p->err, -ERR_CONFIG, "%s: %s", place, sentence);
}

int refuse_kind(const struct runfile_reader *p, const struct yaml_node *node, const char *kind)
{
	return refuse_node(
		p, node, "%s must be %s", *p->what != '\0' ? p->what : "config.yml", kind);
}

void warn_node(const struct runfile_reader *p, const struct yaml_node *node, const char *fmt, ...)
{
	_free_ char *sentence = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&sentence, fmt, ap) < 0)
		abort();
	va_end(ap);
	log_warn("%s:%u: %s", p->r->path, node->line, sentence);
}

/* Appends one step to p->what; leave() takes it back. */
static size_t enter(struct runfile_reader *p, const char *step)
{
	size_t was = strlen(p->what);

	snprintf(p->what + was, sizeof(p->what) - was, "%s%s", was > 0 && *step != '[' ? "." : "",
		step);
	return was;
}

static void leave(struct runfile_reader *p, size_t was)
{
	p->what[was] = '\0';
}

static const struct runfile_field *find_field(
	const struct runfile_field *fields, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++) {
		if (fields[i].name != NULL && strcmp(fields[i].name, name) == 0)
			return &fields[i];
	}
	return NULL;
}

static const char *nearest_field(const struct runfile_field *fields, size_t n, const char *name)
{
	_free_ const char **names = zalloc(n * sizeof(*names));
	size_t known = 0;

	for (size_t i = 0; i < n; i++) {
		if (fields[i].name != NULL)
			names[known++] = fields[i].name;
	}
	return nearest_word(name, names, known);
}

static int meet_unknown(const struct runfile_reader *p, const struct yaml_node *key,
	const char *nearest, enum unknown_keys unknown)
{
	_free_ char *where = *p->what != '\0' ? format_text(" in %s", p->what) : copy_text("");
	_free_ char *hint =
		nearest != NULL ? format_text("; did you mean '%s'?", nearest) : copy_text("");

	if (unknown == UNKNOWN_FAILS)
		return refuse_node(p, key, "unknown key '%s'%s%s", key->text, where, hint);
	warn_node(p, key, "unknown key '%s'%s is ignored%s", key->text, where, hint);
	return 0;
}

int read_fields(struct runfile_reader *p, const struct yaml_node *map,
	const struct runfile_field *fields, size_t n, enum unknown_keys unknown, void *into)
{
	int code = 0;

	if (yaml_is_null(map))
		return 0;
	if (map->kind != YAML_MAP)
		return refuse_kind(p, map, "a map of keys and values");
	for (size_t i = 0; i < map->n && code == 0; i++) {
		const struct yaml_node *key = map->pairs[i].key;
		const struct runfile_field *field = find_field(fields, n, key->text);
		size_t was;

		if (field == NULL) {
			code = meet_unknown(p, key, nearest_field(fields, n, key->text), unknown);
			continue;
		}
		if (field->read == NULL)
			continue;
		was = enter(p, key->text);
		p->key = key;
		code = field->read(p, map->pairs[i].value, (char *)into + field->offset);
		leave(p, was);
	}
	return code;
}

int read_items(
	struct runfile_reader *p, const struct yaml_node *node, runfile_read_fn read, void *into)
{
	int code = 0;

	if (yaml_is_null(node))
		return 0;
	if (node->kind != YAML_LIST)
		return read(p, node, into);
	for (size_t i = 0; i < node->n && code == 0; i++) {
		char step[32];
		size_t was;

		if (yaml_is_null(node->items[i]))
			continue;
		snprintf(step, sizeof(step), "[%zu]", i + 1);
		was = enter(p, step);
		code = read(p, node->items[i], into);
		leave(p, was);
	}
	return code;
}

int read_borrow(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char **field = into;

	if (yaml_is_null(node))
		return 0;
	if (node->kind != YAML_SCALAR)
		return refuse_kind(p, node, "a single value");
	*field = node->text;
	return 0;
}

int read_text(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	char **field = into;
	int code = read_borrow(p, node, &text);

	if (code < 0 || text == NULL)
		return code;
	free(*field);
	*field = copy_text(text);
	return 0;
}

/* A parser of text/units said no: its sentence, with place and name. */
static int refuse_value(
	const struct runfile_reader *p, const struct yaml_node *node, const struct error *why)
{
	return refuse_node(p, node, "%s: %s", p->what, why->msg);
}

int read_bool(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = read_borrow(p, node, &text);
	struct error why;

	if (code < 0 || text == NULL)
		return code;
	return parse_bool(text, into, &why) < 0 ? refuse_value(p, node, &why) : 0;
}

int read_count(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = read_borrow(p, node, &text);
	unsigned *field = into;
	struct error why;
	uint64_t n;

	if (code < 0 || text == NULL)
		return code;
	if (parse_uint(text, UINT16_MAX, &n, &why) < 0)
		return refuse_value(p, node, &why);
	*field = (unsigned)n;
	return 0;
}

int read_duration(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = read_borrow(p, node, &text);
	struct error why;

	if (code < 0 || text == NULL)
		return code;
	return parse_duration(text, into, &why) < 0 ? refuse_value(p, node, &why) : 0;
}

static int read_one_of_texts(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = read_borrow(p, node, &text);

	if (code == 0)
		strings_add(into, text);
	return code;
}

int read_texts(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	return read_items(p, node, read_one_of_texts, into);
}
