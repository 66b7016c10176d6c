/* SPDX-License-Identifier: MIT */
/* The map of a stage: action. Whether its source can be reached is found out when it is staged. */
#include "defer.h"
#include "runfile_reader.h"
#include <ctype.h>
#include <string.h>

/* Texts and nodes are the tree's. */
struct shard_map {
	const char *rank, *world;
};

struct stage_map {
	const char *source, *datastore, *to;
	const struct yaml_node *shard_node;
	struct shard_map shard;
	char sha256[65]; /* "": none */
	bool extract;
	struct stage_spec spec; /* what goes there as it is read */
};

static int read_sha256(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	char *hex = into;
	int code = read_borrow(p, node, &text);

	if (code < 0 || text == NULL)
		return code;
	if (strlen(text) != 64 || text[strspn(text, "0123456789abcdefABCDEF")] != '\0')
		return refuse_kind(p, node, "64 hexadecimal digits");
	for (size_t i = 0; i <= 64; i++)
		hex[i] = (char)tolower((unsigned char)text[i]);
	return 0;
}

static int read_number_or_variable(
	struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = read_borrow(p, node, &text);

	if (code < 0 || text == NULL)
		return code;
	if (strstr(text, "${") == NULL &&
		(*text == '\0' || text[strspn(text, "0123456789")] != '\0'))
		return refuse_kind(p, node, "a whole number, or ${VARIABLE}");
	*(const char **)into = text;
	return 0;
}

static const struct runfile_field shard_fields[] = {
	{"rank", read_number_or_variable, offsetof(struct shard_map, rank)},
	{"world", read_number_or_variable, offsetof(struct shard_map, world)},
};

/* What launchers such as torchrun set. */
static int read_shard(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct stage_map *m = into;

	if (yaml_is_null(node))
		return 0;
	m->shard_node = node;
	m->shard = (struct shard_map){"${RANK}", "${WORLD_SIZE}"};
	return read_fields(
		p, node, shard_fields, ARRAY_LEN(shard_fields), UNKNOWN_FAILS, &m->shard);
}

static const struct runfile_field fields[] = {
	{"source", read_borrow, offsetof(struct stage_map, source)},
	{"datastore", read_borrow, offsetof(struct stage_map, datastore)},
	{"to", read_borrow, offsetof(struct stage_map, to)},
	{"sha256", read_sha256, offsetof(struct stage_map, sha256)},
	{"include", read_texts, offsetof(struct stage_map, spec.include)},
	{"exclude", read_texts, offsetof(struct stage_map, spec.exclude)},
	{"strip_components", read_count, offsetof(struct stage_map, spec.strip_components)},
	{"extract", read_bool, offsetof(struct stage_map, extract)},
	{"replace", read_bool, offsetof(struct stage_map, spec.replace)},
	{"shard", read_shard, 0},
};

static bool is_said(const char *text)
{
	return text != NULL && *text != '\0';
}

/* Keys that exclude or need each other. */
static int check(
	const struct runfile_reader *p, const struct yaml_node *node, const struct stage_map *m)
{
	if (is_said(m->source) == is_said(m->datastore))
		return refuse_node(p, node, "%s needs one of source and datastore", p->what);
	if (!is_said(m->to))
		return refuse_node(p, node, "%s needs to, the directory to stage into", p->what);
	if (m->shard_node != NULL && is_said(m->source))
		return refuse_node(
			p, m->shard_node, "%s: shard needs a datastore, not a source", p->what);
	if (*m->sha256 != '\0' && is_said(m->datastore))
		return refuse_node(p, node,
			"%s: sha256 is for a source; a datastore's version says what it holds",
			p->what);
	return 0;
}

static int check_datastore(
	const struct runfile_reader *p, const struct yaml_node *node, const struct stage_map *m)
{
	struct datastore_ref ref = {0};
	struct error why;
	int code = 0;

	if (!is_said(m->datastore))
		return 0;
	if (datastore_ref_parse(m->datastore, &ref, &why) < 0)
		code = refuse_node(p, node, "%s: %s", p->what, why.msg);
	else if (ref.mount_dir != NULL)
		code = refuse_node(
			p, node, "%s: '%s': the directory goes under to", p->what, m->datastore);
	datastore_ref_done(&ref);
	return code;
}

static void add_source(struct stage_map *m)
{
	_free_ char *datastore =
		is_said(m->datastore) ? format_text("datastore:%s", m->datastore) : NULL;

	stage_spec_add_source(&m->spec, datastore != NULL ? datastore : m->source,
		*m->sha256 != '\0' ? m->sha256 : NULL);
}

int read_stage(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct stage_map m = {.extract = true};
	struct action *a = into;
	int code;

	if (yaml_is_null(node))
		return 0;
	code = read_fields(p, node, fields, ARRAY_LEN(fields), UNKNOWN_FAILS, &m);

	if (code == 0)
		code = check(p, node, &m);
	if (code == 0)
		code = check_datastore(p, node, &m);
	if (code < 0) {
		stage_spec_done(&m.spec);
		return code;
	}
	a->kind = ACTION_STAGE;
	add_source(&m);
	if (m.shard_node != NULL) {
		a->shard_rank = copy_text(m.shard.rank);
		a->shard_world = copy_text(m.shard.world);
	}
	m.spec.to = copy_text(m.to);
	m.spec.no_extract = !m.extract;
	m.spec.origin = format_text("%s:%u", p->r->path, node->line);
	a->stage = m.spec;
	return 0;
}

void runfile_limit_stage(const struct runfile *r, struct stage_spec *s)
{
	for (size_t i = 0; i < r->n_scratch; i++) {
		const struct scratch *scratch = &r->scratch[i];
		size_t len = strlen(scratch->mount_path);

		while (len > 0 && scratch->mount_path[len - 1] == '/')
			len--;
		if (scratch->size_bytes == 0 || strncmp(s->to, scratch->mount_path, len) != 0 ||
			(s->to[len] != '\0' && s->to[len] != '/'))
			continue;
		free(s->max_bytes_why);
		s->max_bytes = scratch->size_bytes;
		s->max_bytes_why = format_text("scratch.size_gb (%s:%u)", r->path, scratch->line);
	}
}
