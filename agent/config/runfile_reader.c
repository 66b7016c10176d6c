/* SPDX-License-Identifier: MIT */
/* Walks over the maps and lists of config.yml by tables of fields, reads single values, and
 * expands "${NAME}" in them. The tables, not the file, determine how deep the walk goes. */
#include "runfile_reader.h"
#include "defer.h"
#include "log.h"
#include "runfile.h"
#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char *describe_position(const struct runfile_reader *p, const struct yaml_node *node)
{
	return text_format("%s:%u:%u", p->r->path, node->line, node->column);
}

int runfile_refuse(
	const struct runfile_reader *p, const struct yaml_node *node, const char *fmt, ...)
{
	_free_ char *position = describe_position(p, node);
	_free_ char *sentence = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&sentence, fmt, ap) < 0)
		abort();
	va_end(ap);
	return error_set(p->err, -ERR_CONFIG, "%s: %s", position, sentence);
}

int runfile_refuse_kind(
	const struct runfile_reader *p, const struct yaml_node *node, const char *kind)
{
	return runfile_refuse(
		p, node, "%s must be %s", *p->key_path != '\0' ? p->key_path : "config.yml", kind);
}

void runfile_warn(
	const struct runfile_reader *p, const struct yaml_node *node, const char *fmt, ...)
{
	_free_ char *sentence = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&sentence, fmt, ap) < 0)
		abort();
	va_end(ap);
	log_warn("%s:%u: %s", p->r->path, node->line, sentence);
}

/* Appends a component to p->key_path. Returns the previous length, for pop_component(). */
static size_t push_component(struct runfile_reader *p, const char *component)
{
	size_t old_len = strlen(p->key_path);

	snprintf(p->key_path + old_len, sizeof(p->key_path) - old_len, "%s%s",
		old_len > 0 && *component != '[' ? "." : "", component);
	return old_len;
}

static void pop_component(struct runfile_reader *p, size_t old_len)
{
	p->key_path[old_len] = '\0';
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

static const char *nearest_field_name(
	const struct runfile_field *fields, size_t n, const char *name)
{
	_free_ const char **names = zalloc(n * sizeof(*names));
	size_t known = 0;

	for (size_t i = 0; i < n; i++) {
		if (fields[i].name != NULL)
			names[known++] = fields[i].name;
	}
	return nearest_word(name, names, known);
}

/* A map with fixed keys. */
struct field_table {
	const struct runfile_field *fields;
	size_t n;
};

/* What will not happen because key is ignored: of the nearest key, or else what all keys have in
 * common. */
static const char *describe_loss(const struct field_table *t, const char *nearest)
{
	const char *common = NULL;

	if (nearest != NULL)
		return find_field(t->fields, t->n, nearest)->lost;
	for (size_t i = 0; i < t->n; i++) {
		const struct runfile_field *f = &t->fields[i];

		if (f->name == NULL)
			continue;
		if (f->lost == NULL || (common != NULL && strcmp(common, f->lost) != 0))
			return "it has no effect";
		common = f->lost;
	}
	return common;
}

static char *list_fields(const struct field_table *t)
{
	struct text names = {0};

	for (size_t i = 0; i < t->n; i++)
		if (t->fields[i].name != NULL)
			text_addf(&names, "%s%s", names.len > 0 ? ", " : "", t->fields[i].name);
	return text_take(&names);
}

static int report_unknown_key(const struct runfile_reader *p, const struct yaml_node *key,
	const struct field_table *t, enum unknown_keys unknown)
{
	const char *nearest = nearest_field_name(t->fields, t->n, key->text), *loss;
	_free_ char *where =
		*p->key_path != '\0' ? text_format(" in %s", p->key_path) : text_copy("");
	_free_ char *hint =
		nearest != NULL ? text_format("; did you mean '%s'?", nearest) : text_copy("");
	_free_ char *names = NULL;

	if (unknown == UNKNOWN_FAILS || p->strict) {
		names = list_fields(t);
		return runfile_refuse(p, key, "unknown key '%s'%s%s%s %s", key->text, where, hint,
			nearest != NULL ? " The keys are" : "; the keys are", names);
	}
	loss = describe_loss(t, nearest);
	runfile_warn(p, key, "unknown key '%s'%s is ignored%s%s%s", key->text, where,
		loss != NULL ? ", so " : "", loss != NULL ? loss : "", hint);
	return 0;
}

int runfile_read_fields(struct runfile_reader *p, const struct yaml_node *map,
	const struct runfile_field *fields, size_t n, enum unknown_keys unknown, void *into)
{
	int code = 0;

	if (yaml_is_null(map))
		return 0;
	if (map->kind != YAML_MAP)
		return runfile_refuse_kind(p, map, "a map of keys and values");
	for (size_t i = 0; i < map->n && code == 0; i++) {
		const struct yaml_node *key = map->pairs[i].key;
		const struct runfile_field *field = find_field(fields, n, key->text);
		size_t old_len;

		if (field == NULL) {
			code = report_unknown_key(
				p, key, &(struct field_table){fields, n}, unknown);
			continue;
		}
		if (field->read == NULL)
			continue;
		old_len = push_component(p, key->text);
		p->key = key;
		code = field->read(p, map->pairs[i].value, (char *)into + field->offset);
		pop_component(p, old_len);
	}
	return code;
}

int runfile_read_items(
	struct runfile_reader *p, const struct yaml_node *node, runfile_read_fn read, void *into)
{
	int code = 0;

	if (yaml_is_null(node))
		return 0;
	if (node->kind != YAML_LIST)
		return read(p, node, into);
	for (size_t i = 0; i < node->n && code == 0; i++) {
		char component[32];
		size_t old_len;

		if (yaml_is_null(node->items[i]))
			continue;
		snprintf(component, sizeof(component), "[%zu]", i + 1);
		old_len = push_component(p, component);
		code = read(p, node->items[i], into);
		pop_component(p, old_len);
	}
	return code;
}

int runfile_read_borrow(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char **field = into;

	if (yaml_is_null(node))
		return 0;
	if (node->kind != YAML_SCALAR)
		return runfile_refuse_kind(p, node, "a single value");
	*field = node->text;
	return 0;
}

int runfile_read_text(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	char **field = into;
	int code = runfile_read_borrow(p, node, &text);

	if (code < 0 || text == NULL)
		return code;
	free(*field);
	*field = text_copy(text);
	return 0;
}

/* Reports the error of a units_parse_*() function, with position and key. */
static int refuse_value(
	const struct runfile_reader *p, const struct yaml_node *node, const struct error *why)
{
	return runfile_refuse(p, node, "%s: %s", p->key_path, why->msg);
}

int runfile_read_bool(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = runfile_read_borrow(p, node, &text);
	struct error why;

	if (code < 0 || text == NULL)
		return code;
	return units_parse_bool(text, into, &why) < 0 ? refuse_value(p, node, &why) : 0;
}

int runfile_read_count(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = runfile_read_borrow(p, node, &text);
	unsigned *field = into;
	struct error why;
	uint64_t n;

	if (code < 0 || text == NULL)
		return code;
	if (units_parse_uint(text, UINT16_MAX, &n, &why) < 0)
		return refuse_value(p, node, &why);
	*field = (unsigned)n;
	return 0;
}

int runfile_read_duration(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = runfile_read_borrow(p, node, &text);
	struct error why;

	if (code < 0 || text == NULL)
		return code;
	return units_parse_duration(text, into, &why) < 0 ? refuse_value(p, node, &why) : 0;
}

static int append_text(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = runfile_read_borrow(p, node, &text);

	if (code == 0)
		text_strings_add(into, text);
	return code;
}

int runfile_read_texts(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	return runfile_read_items(p, node, append_text, into);
}

/* Expansion. "${NAME}" is the only form: other expansions of a shell that begin with "${" are
 * errors, so that they are not used as literal text by mistake. */

static bool is_variable_name(const char *s)
{
	if (!isalpha((unsigned char)*s) && *s != '_')
		return false;
	while (isalnum((unsigned char)*s) || *s == '_')
		s++;
	return *s == '\0';
}

/* name is the text between the braces. */
static int append_value(struct text *t, char *name,
	const char *(*lookup)(void *ctx, const char *name), void *ctx, struct error *err)
{
	const char *value;

	if (!is_variable_name(name))
		return error_set(err, -ERR_CONFIG,
			"${%s} is not ${NAME}; other shell expansions work only in run actions",
			name);
	value = lookup(ctx, name);
	if (value == NULL)
		return error_set(err, -ERR_CONFIG,
			"${%s}: the environment has no %s; set it for the container, or under environment in config.yml",
			name, name);
	text_add(t, value);
	return 0;
}

int runfile_expand(const char *s, const char *(*lookup)(void *ctx, const char *name), void *ctx,
	char **ret, struct error *err)
{
	struct text t = {0};
	const char *open;
	int code = 0;

	while (code == 0 && (open = strstr(s, "${")) != NULL) {
		const char *close = strchr(open, '}');
		char *name;

		text_add_bytes(&t, s, (size_t)(open - s));
		if (close == NULL) {
			code = error_set(err, -ERR_CONFIG, "a ${ without its }");
			break;
		}
		name = text_format("%.*s", (int)(close - open - 2), open + 2);
		code = append_value(&t, name, lookup, ctx, err);
		free(name);
		s = close + 1;
	}
	if (code == 0) {
		text_add(&t, s);
		*ret = text_take(&t);
	}
	text_done(&t);
	return code;
}

int runfile_expand_path(const char *s, const char *(*lookup)(void *ctx, const char *name),
	void *ctx, char **ret, struct error *err)
{
	_free_ char *braced = NULL;
	struct text t = {0};

	text_add(&t, "");
	while (*s != '\0') {
		const char *end = s + 1;

		while (*s == '$' && (isalnum((unsigned char)*end) || *end == '_'))
			end++;
		if (end > s + 1 && !isdigit((unsigned char)s[1]))
			text_addf(&t, "${%.*s}", (int)(end - s - 1), s + 1);
		else
			text_add_bytes(&t, s, (size_t)(end - s));
		s = end;
	}
	braced = text_take(&t);
	return runfile_expand(braced, lookup, ctx, ret, err);
}
