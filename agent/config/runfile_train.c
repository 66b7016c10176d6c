/* SPDX-License-Identifier: MIT */
/* What a run gets beside its data and actions: environment, scratch, words for the command. */
#include "defer.h"
#include "runfile_reader.h"
#include <string.h>

static int add_variable(
	struct runfile_reader *p, const struct yaml_node *node, const char *name, const char *value)
{
	_free_ char *variable = format_text("%s=%s", name, value);

	if (*name == '\0' || strchr(name, '=') != NULL)
		return refuse_node(
			p, node, "%s: '%s' cannot be the name of a variable", p->what, name);
	p->r->environment_lines = realloc(p->r->environment_lines,
		(p->r->environment.n + 1) * sizeof(*p->r->environment_lines));
	if (p->r->environment_lines == NULL)
		abort();
	p->r->environment_lines[p->r->environment.n] = node->line;
	strings_add(&p->r->environment, variable);
	return 0;
}

static int read_assignment(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	_free_ char *name = NULL;
	size_t len;

	(void)into;
	if (node->kind != YAML_SCALAR || strchr(node->text, '=') == NULL)
		return refuse_kind(p, node, "a map NAME: VALUE, or text NAME=VALUE");
	len = strcspn(node->text, "=");
	name = format_text("%.*s", (int)len, node->text);
	return add_variable(p, node, name, node->text + len + 1);
}

int read_environment(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	int code = 0;

	if (yaml_is_null(node) || node->kind != YAML_MAP)
		return read_items(p, node, read_assignment, into);
	for (size_t i = 0; i < node->n && code == 0; i++) {
		const struct yaml_pair *pair = &node->pairs[i];

		if (pair->value->kind != YAML_SCALAR)
			return refuse_node(p, pair->value, "%s.%s must be a single value", p->what,
				pair->key->text);
		code = add_variable(p, pair->key, pair->key->text,
			yaml_is_null(pair->value) ? "" : pair->value->text);
	}
	return code;
}

static int read_size_gb(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	_free_ char *size = NULL;
	const char *number = NULL;
	int code = read_borrow(p, node, &number);

	if (code < 0 || number == NULL)
		return code;
	size = format_text("%sG", number);
	/* Only a number: "100G" would read as a size of its own. */
	if (number[strspn(number, "0123456789.")] != '\0' || parse_size(size, into, NULL) < 0)
		return refuse_kind(p, node, "a number (of gigabytes)");
	return 0;
}

static const struct runfile_field scratch_fields[] = {
	{"size_gb", read_size_gb, offsetof(struct scratch, size_bytes)},
	{"mount_path", read_text, offsetof(struct scratch, mount_path)},
};

static int read_one_scratch(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct scratch scratch = {.line = node->line};
	int code = read_fields(
		p, node, scratch_fields, ARRAY_LEN(scratch_fields), UNKNOWN_WARNS, &scratch);

	(void)into;
	if (code < 0) {
		free(scratch.mount_path);
		return code;
	}
	if (scratch.mount_path == NULL)
		scratch.mount_path = copy_text("/tmp/scratch");
	p->r->scratch = realloc(p->r->scratch, (p->r->n_scratch + 1) * sizeof(scratch));
	if (p->r->scratch == NULL)
		abort();
	p->r->scratch[p->r->n_scratch++] = scratch;
	return 0;
}

int read_scratch(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	return read_items(p, node, read_one_scratch, into);
}

int read_params(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct strings *words = into;

	if (yaml_is_null(node))
		return 0;
	if (node->kind != YAML_MAP)
		return refuse_kind(p, node, "a map of words for the command, such as --foo: 1");
	p->r->params_line = node->line;
	for (size_t i = 0; i < node->n; i++) {
		const struct yaml_pair *pair = &node->pairs[i];

		if (pair->value->kind != YAML_SCALAR)
			return refuse_node(p, pair->value,
				"%s.%s must be a single value; a sweep over several is several "
				"runs",
				p->what, pair->key->text);
		strings_add(words, pair->key->text);
		if (!yaml_is_null(pair->value))
			strings_add(words, pair->value->text);
	}
	return 0;
}
