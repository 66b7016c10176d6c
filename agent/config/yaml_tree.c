/* SPDX-License-Identifier: MIT */
/* Builds a tree of nodes from the events of libyaml. The number of nodes and the depth are
 * limited, and each alias counts as a copy of its target. Duplicate keys and several documents,
 * which YAML allows and which are probably mistakes, are errors. This file knows nothing about
 * config.yml. */
#include "defer.h"
#include "runfile_reader.h"
#include "text.h"
#include <string.h>
#include <yaml.h>

/* The start of the line with this number (from 0), or NULL. */
static const char *find_line(const char *bytes, size_t len, size_t line)
{
	const char *at = bytes, *end = bytes + len;

	for (; line > 0 && at != NULL; line--) {
		at = memchr(at, '\n', (size_t)(end - at));
		at = at != NULL ? at + 1 : NULL;
	}
	return at;
}

/* The column (from 1) of a tab in the indentation of a line, or 0. */
static size_t find_tab_in_indentation(const char *bytes, size_t len, size_t line)
{
	const char *start = find_line(bytes, len, line);
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

/* Sets err to the parser's problem, as "name:LINE:COLUMN: ...", and returns its code. A tab in
 * the indentation has a message of its own. */
static int set_parser_error(const char *name, const char *bytes, size_t len,
	const yaml_parser_t *parser, struct error *err)
{
	const char *what = parser->problem != NULL ? parser->problem : "cannot be read";
	size_t line = parser->problem_mark.line, tab;

	/* For bytes that are not text, the parser reports an offset, not a line and column. */
	if (parser->error == YAML_READER_ERROR) {
		size_t offset = parser->problem_offset < len ? parser->problem_offset : len;

		return error_set(err, -ERR_CONFIG, "%s:%zu: not UTF-8 text: %s", name,
			count_lines(bytes, offset) + 1, what);
	}
	tab = find_tab_in_indentation(bytes, len, line);
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

/* The loader: one function for each kind of event. */

struct loader {
	const char *name;
	const char *bytes;
	size_t len;
	yaml_parser_t parser;
	struct yaml_tree tree;
	struct yaml_node
		*open[YAML_MAX_DEPTH]; /* the containers around the next node, outermost first */
	struct yaml_node
		*key[YAML_MAX_DEPTH]; /* of maps: the key whose value comes next, or NULL */
	unsigned depth;
	struct yaml_node *anchored[YAML_MAX_ANCHORS];
	size_t n_anchored;
	bool had_document;
	struct error *err;
};

static int refuse(struct loader *l, const yaml_mark_t *at, const char *what)
{
	return error_set(
		l->err, -ERR_CONFIG, "%s:%zu:%zu: %s", l->name, at->line + 1, at->column + 1, what);
}

bool yaml_is_null(const struct yaml_node *node)
{
	static const char *const words[] = {"", "~", "null", "Null", "NULL"};

	if (node == NULL)
		return true;
	if (node->kind != YAML_SCALAR || node->quoted)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(node->text, words[i]) == 0)
			return true;
	}
	return false;
}

static struct yaml_node *new_node(struct loader *l, enum yaml_kind kind, const yaml_mark_t *at)
{
	struct yaml_node *node = zalloc(sizeof(*node));

	node->kind = kind;
	node->line = (unsigned)at->line + 1;
	node->column = (unsigned)at->column + 1;
	node->weight = 1;
	node->depth = 1;
	node->older = l->tree.newest;
	l->tree.newest = node;
	return node;
}

static void append(struct yaml_node *parent, struct yaml_node *key, struct yaml_node *value)
{
	size_t each = key != NULL ? sizeof(*parent->pairs) : sizeof(struct yaml_node *);

	if (parent->n == parent->cap) {
		parent->cap = parent->cap > 0 ? 2 * parent->cap : 4;
		parent->items = realloc(parent->items, parent->cap * each);
		if (parent->items == NULL)
			abort();
	}
	if (key != NULL)
		parent->pairs[parent->n++] = (struct yaml_pair){key, value};
	else
		parent->items[parent->n++] = value;
}

/* Stores the key of the innermost map until its value is complete. */
static int set_key(struct loader *l, struct yaml_node *key, const yaml_mark_t *at)
{
	if (key->kind != YAML_SCALAR)
		return refuse(l, at, "a key must be a word, not a list or a map");
	if (!key->quoted && strcmp(key->text, "<<") == 0)
		return refuse(l, at, "merge keys (<<) are not supported; write the keys out");
	l->key[l->depth - 1] = key;
	return 0;
}

/* Adds a complete node to the innermost open container. */
static int add_node(struct loader *l, struct yaml_node *node, const yaml_mark_t *at)
{
	struct yaml_node *parent = l->depth > 0 ? l->open[l->depth - 1] : NULL;
	struct yaml_node *key = parent != NULL ? l->key[l->depth - 1] : NULL;

	if (parent == NULL) {
		l->tree.root = node;
		return 0;
	}
	parent->weight += node->weight;
	if (parent->weight > YAML_MAX_NODES)
		return refuse(
			l, at, "too much YAML (more than 100,000 values, aliases written out)");
	if (node->depth + 1 > parent->depth)
		parent->depth = node->depth + 1;
	if (l->depth + node->depth > YAML_MAX_DEPTH)
		return refuse(l, at, "nested too deeply (more than 100 levels)");
	if (parent->kind == YAML_MAP && key == NULL)
		return set_key(l, node, at);
	append(parent, key, node);
	l->key[l->depth - 1] = NULL;
	return 0;
}

static int set_anchor(
	struct loader *l, struct yaml_node *node, const yaml_event_t *e, const yaml_char_t *anchor)
{
	if (anchor == NULL)
		return 0;
	if (l->n_anchored == YAML_MAX_ANCHORS)
		return refuse(l, &e->start_mark, "too many anchors (more than 1,000)");
	node->anchor = text_copy((const char *)anchor);
	l->anchored[l->n_anchored++] = node;
	return 0;
}

static int on_scalar(struct loader *l, const yaml_event_t *e)
{
	const char *text = (const char *)e->data.scalar.value;
	const char *tag = (const char *)e->data.scalar.tag;
	struct yaml_node *node = new_node(l, YAML_SCALAR, &e->start_mark);

	node->text = text_copy(text);
	node->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || tag != NULL;
	if (strlen(text) != e->data.scalar.length)
		return refuse(l, &e->start_mark, "a NUL byte inside a text");
	if (set_anchor(l, node, e, e->data.scalar.anchor) < 0)
		return -ERR_CONFIG;
	return add_node(l, node, &e->start_mark);
}

static int on_start(
	struct loader *l, const yaml_event_t *e, enum yaml_kind kind, const yaml_char_t *anchor)
{
	struct yaml_node *node = new_node(l, kind, &e->start_mark);

	if (l->depth == YAML_MAX_DEPTH)
		return refuse(l, &e->start_mark, "nested too deeply (more than 100 levels)");
	if (set_anchor(l, node, e, anchor) < 0)
		return -ERR_CONFIG;
	node->open = true;
	l->open[l->depth] = node;
	l->key[l->depth++] = NULL;
	return 0;
}

static int compare_keys(const void *a, const void *b)
{
	const struct yaml_node *ka = *(struct yaml_node *const *)a;
	const struct yaml_node *kb = *(struct yaml_node *const *)b;
	int order = strcmp(ka->text, kb->text);

	if (order != 0)
		return order;
	if (ka->line != kb->line)
		return ka->line < kb->line ? -1 : 1;
	return (ka->column > kb->column) - (ka->column < kb->column);
}

/* The keys are sorted, because comparing each pair would take quadratic time in a large map. */
static int refuse_duplicates(struct loader *l, const struct yaml_node *map)
{
	_free_ struct yaml_node **keys = zalloc(map->n * sizeof(struct yaml_node *));

	for (size_t i = 0; i < map->n; i++)
		keys[i] = map->pairs[i].key;
	qsort(keys, map->n, sizeof(struct yaml_node *), compare_keys);
	for (size_t i = 1; i < map->n; i++) {
		if (strcmp(keys[i - 1]->text, keys[i]->text) == 0)
			return error_set(l->err, -ERR_CONFIG,
				"%s:%u:%u: key '%s' is already on line %u", l->name, keys[i]->line,
				keys[i]->column, keys[i]->text, keys[i - 1]->line);
	}
	return 0;
}

static int on_end(struct loader *l)
{
	struct yaml_node *node = l->open[--l->depth];
	yaml_mark_t start = {.line = node->line - 1, .column = node->column - 1};
	int code = node->kind == YAML_MAP ? refuse_duplicates(l, node) : 0;

	node->open = false;
	return code < 0 ? code : add_node(l, node, &start);
}

static int on_alias(struct loader *l, const yaml_event_t *e)
{
	const char *anchor = (const char *)e->data.alias.anchor;
	struct yaml_node *node = NULL;

	/* An anchor may be defined again: an alias means the latest definition before it. */
	for (size_t i = l->n_anchored; i > 0 && node == NULL; i--) {
		if (strcmp(l->anchored[i - 1]->anchor, anchor) == 0)
			node = l->anchored[i - 1];
	}
	if (node == NULL)
		return error_set(l->err, -ERR_CONFIG, "%s:%zu:%zu: there is no anchor &%s above",
			l->name, e->start_mark.line + 1, e->start_mark.column + 1, anchor);
	if (node->open)
		return refuse(l, &e->start_mark, "an alias of what it is inside of");
	return add_node(l, node, &e->start_mark);
}

static int on_event(struct loader *l, const yaml_event_t *e)
{
	switch (e->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (l->had_document)
			return refuse(l, &e->start_mark, "a second document; one file holds one");
		l->had_document = true;
		return 0;
	case YAML_SCALAR_EVENT:
		return on_scalar(l, e);
	case YAML_SEQUENCE_START_EVENT:
		return on_start(l, e, YAML_LIST, e->data.sequence_start.anchor);
	case YAML_MAPPING_START_EVENT:
		return on_start(l, e, YAML_MAP, e->data.mapping_start.anchor);
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		return on_end(l);
	case YAML_ALIAS_EVENT:
		return on_alias(l, e);
	default:
		return 0;
	}
}

static int load(struct loader *l)
{
	bool more = true;
	int code = 0;

	while (more && code == 0) {
		yaml_event_t e;

		if (!yaml_parser_parse(&l->parser, &e))
			return set_parser_error(l->name, l->bytes, l->len, &l->parser, l->err);
		more = e.type != YAML_STREAM_END_EVENT;
		code = on_event(l, &e);
		yaml_event_delete(&e);
	}
	return code;
}

int yaml_tree_load(
	const char *name, const char *bytes, size_t len, struct yaml_tree *ret, struct error *err)
{
	struct loader l = {.name = name, .bytes = bytes, .len = len, .err = err};
	int code;

	if (!yaml_parser_initialize(&l.parser))
		abort(); /* out of memory */
	yaml_parser_set_input_string(&l.parser, (const unsigned char *)bytes, len);
	code = load(&l);
	yaml_parser_delete(&l.parser);
	if (code < 0)
		yaml_tree_done(&l.tree);
	else
		*ret = l.tree;
	return code;
}

void yaml_tree_done(struct yaml_tree *tree)
{
	struct yaml_node *older;

	for (struct yaml_node *node = tree->newest; node != NULL; node = older) {
		older = node->older;
		free(node->text);
		free(node->anchor);
		if (node->kind != YAML_SCALAR)
			free(node->items);
		free(node);
	}
	*tree = (struct yaml_tree){0};
}
