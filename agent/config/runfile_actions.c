/* SPDX-License-Identifier: MIT */
/* The items of a lifecycle point: shell text, or a map with run or stage. Unknown keys in these
 * maps are errors, not warnings: what they would have asked for (a digest, a retry) must not be
 * dropped. */
#include "defer.h"
#include "runfile_reader.h"
#include <string.h>

static void action_done(struct action *a)
{
	free(a->script);
	free(a->shard_rank);
	free(a->shard_world);
	stage_spec_done(&a->stage);
}

void actions_done(struct actions *actions)
{
	for (size_t i = 0; i < actions->n; i++)
		action_done(&actions->v[i]);
	free(actions->v);
	*actions = (struct actions){0};
}

/* Into a struct action. */
static const struct runfile_field item_fields[] = {
	{"run", read_text, offsetof(struct action, script)},
	{"timeout", read_duration, offsetof(struct action, timeout_ms)},
	{"retries", read_count, offsetof(struct action, retries)},
	{"stage", read_stage},
};

static int read_item_map(struct runfile_reader *p, const struct yaml_node *node, struct action *a)
{
	bool stages;
	int code;

	/* "- echo note: done" is a map to YAML. */
	if (node->n > 0 && strchr(node->pairs[0].key->text, ' ') != NULL)
		return refuse_node(p, node,
			"%s: a shell command that holds ': ' must be quoted or a '|' block",
			p->what);
	code = read_fields(p, node, item_fields, ARRAY_LEN(item_fields), UNKNOWN_FAILS, a);
	if (code < 0)
		return code;
	stages = a->kind != ACTION_RUN;
	if (stages == (a->script != NULL))
		return refuse_node(p, node, "%s needs one of run and stage", p->what);
	if (stages && (a->timeout_ms > 0 || a->retries > 0))
		return refuse_node(
			p, node, "%s: timeout and retries are for run, not for stage", p->what);
	return 0;
}

static int read_action(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct actions *actions = into;
	struct action a = {.kind = ACTION_RUN, .line = node->line};
	int code;

	if (node->kind == YAML_LIST)
		return refuse_kind(p, node, "a shell command, or a map with run or stage");
	if (node->kind == YAML_SCALAR)
		code = read_text(p, node, &a.script);
	else
		code = read_item_map(p, node, &a);
	if (code < 0) {
		action_done(&a);
		return code;
	}
	a.number = (unsigned)actions->n + 1;
	actions->v = realloc(actions->v, (actions->n + 1) * sizeof(a));
	if (actions->v == NULL)
		abort();
	actions->v[actions->n++] = a;
	return 0;
}

int read_actions(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct actions *actions = into;
	size_t point = (size_t)(actions - p->r->actions);
	const char *name = lifecycle_point_name((enum lifecycle_point)point);

	if (yaml_is_null(node))
		return 0;
	if (node->kind == YAML_MAP)
		return refuse_kind(p, node, "a list");
	if (p->point_line[point] > 0)
		return refuse_node(p, p->key,
			"%s is also on line %u, under its other name; keep %s alone", p->what,
			p->point_line[point], name);
	p->point_line[point] = p->key->line;
	return read_items(p, node, read_action, actions);
}
