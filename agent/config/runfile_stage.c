/* SPDX-License-Identifier: MIT */
/* Reads the stage: map of an action, and later expands it into the spec that is staged. Whether
 * the source can be reached is checked when it is staged, not here. Loop thread; no file is
 * accessed. */
#include "defer.h"
#include "runfile.h"
#include "runfile_reader.h"
#include "source.h"
#include <ctype.h>
#include <limits.h>
#include <string.h>

/* The texts and nodes of these two belong to the tree. */
struct shard_map {
	const char *rank, *world;
};

struct stage_map {
	const char *source, *datastore, *to;
	const struct yaml_node *shard_node;
	struct shard_map shard;
	char sha256[65];      /* "": none */
	struct strings parts; /* the items, if source is a list */
	bool join, extract;
	struct stage_spec spec; /* filled from the keys that need no further checks */
};

static int read_sha256(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	char *hex = into;
	int code = runfile_read_borrow(p, node, &text);

	if (code < 0 || text == NULL)
		return code;
	if (strlen(text) != 64 || text[strspn(text, "0123456789abcdefABCDEF")] != '\0')
		return runfile_refuse_kind(p, node, "64 hexadecimal digits");
	for (size_t i = 0; i <= 64; i++)
		hex[i] = (char)tolower((unsigned char)text[i]);
	return 0;
}

static int read_number_or_variable(
	struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *text = NULL;
	int code = runfile_read_borrow(p, node, &text);

	if (code < 0 || text == NULL)
		return code;
	if (strstr(text, "${") == NULL &&
		(*text == '\0' || text[strspn(text, "0123456789")] != '\0'))
		return runfile_refuse_kind(p, node, "a whole number, or ${VARIABLE}");
	*(const char **)into = text;
	return 0;
}

static const struct runfile_field shard_fields[] = {
	{"rank", read_number_or_variable, offsetof(struct shard_map, rank)},
	{"world", read_number_or_variable, offsetof(struct shard_map, world)},
};

/* The defaults are the variables that launchers such as torchrun set. */
static int read_shard(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct stage_map *m = into;

	if (yaml_is_null(node))
		return 0;
	m->shard_node = node;
	m->shard = (struct shard_map){"${RANK}", "${WORLD_SIZE}"};
	return runfile_read_fields(
		p, node, shard_fields, ARRAY_LEN(shard_fields), UNKNOWN_FAILS, &m->shard);
}

/* A URL or path, or a list of the parts of a split file. */
static int read_source(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct stage_map *m = into;

	return node->kind == YAML_LIST ? runfile_read_texts(p, node, &m->parts)
				       : runfile_read_borrow(p, node, &m->source);
}

static const struct runfile_field stage_fields[] = {
	{"source", read_source, 0},
	{"join", runfile_read_bool, offsetof(struct stage_map, join)},
	{"datastore", runfile_read_borrow, offsetof(struct stage_map, datastore)},
	{"to", runfile_read_borrow, offsetof(struct stage_map, to)},
	{"sha256", read_sha256, offsetof(struct stage_map, sha256)},
	{"include", runfile_read_texts, offsetof(struct stage_map, spec.include)},
	{"exclude", runfile_read_texts, offsetof(struct stage_map, spec.exclude)},
	{"strip_components", runfile_read_count, offsetof(struct stage_map, spec.strip_components)},
	{"zip_names", runfile_read_text, offsetof(struct stage_map, spec.zip_names)},
	{"extract", runfile_read_bool, offsetof(struct stage_map, extract)},
	{"replace", runfile_read_bool, offsetof(struct stage_map, spec.replace)},
	{"shard", read_shard, 0},
};

static bool is_given(const char *text)
{
	return text != NULL && *text != '\0';
}

/* Checks the keys that exclude or need each other. */
static int check_keys(
	const struct runfile_reader *p, const struct yaml_node *node, const struct stage_map *m)
{
	if ((is_given(m->source) || m->parts.n > 0) == is_given(m->datastore))
		return runfile_refuse(p, node, "%s needs one of source and datastore", p->key_path);
	if (!is_given(m->to))
		return runfile_refuse(
			p, node, "%s needs to, the directory to stage into", p->key_path);
	if (m->shard_node != NULL && !is_given(m->datastore))
		return runfile_refuse(
			p, m->shard_node, "%s: shard needs a datastore, not a source", p->key_path);
	if (*m->sha256 != '\0' && is_given(m->datastore))
		return runfile_refuse(p, node,
			"%s: sha256 is for a source; a datastore's version says what it holds",
			p->key_path);
	return 0;
}

static int check_datastore(
	const struct runfile_reader *p, const struct yaml_node *node, const struct stage_map *m)
{
	struct datastore_ref ref = {0};
	struct error why;
	int code = 0;

	if (!is_given(m->datastore))
		return 0;
	if (datastore_ref_parse(m->datastore, &ref, &why) < 0)
		code = runfile_refuse(p, node, "%s: %s", p->key_path, why.msg);
	else if (ref.mount_dir != NULL)
		code = runfile_refuse(p, node, "%s: '%s': the directory goes under to", p->key_path,
			m->datastore);
	datastore_ref_done(&ref);
	return code;
}

static int check_parts(
	const struct runfile_reader *p, const struct yaml_node *node, const struct stage_map *m)
{
	if (m->parts.n > 0 && !m->join)
		return runfile_refuse(p, node,
			"%s: source is one, not a list; with join: true, a list of the parts of a split file, in their order",
			p->key_path);
	if (m->join && m->parts.n == 0)
		return runfile_refuse(p, node,
			"%s: join needs source to be a list, of the parts of a split file in their order",
			p->key_path);
	for (size_t i = 0; i < m->parts.n; i++) {
		_free_ char *joined = source_join(&m->parts.v[i], 1);

		if (joined == NULL)
			return runfile_refuse(
				p, node, "%s: a part of source is no URL or path", p->key_path);
	}
	return 0;
}

static void add_source(struct stage_map *m)
{
	_free_ char *joined = m->parts.n > 0 ? source_join(m->parts.v, m->parts.n) : NULL;
	_free_ char *datastore =
		is_given(m->datastore) ? datastore_ref_source(m->datastore, NULL) : NULL;

	stage_spec_add_source(&m->spec,
		datastore != NULL ? datastore
		: joined != NULL  ? joined
				  : m->source,
		*m->sha256 != '\0' ? m->sha256 : NULL);
}

int runfile_read_stage(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct stage_map m = {.extract = true};
	struct action *a = into;
	int code;

	if (yaml_is_null(node))
		return 0;
	code = runfile_read_fields(
		p, node, stage_fields, ARRAY_LEN(stage_fields), UNKNOWN_FAILS, &m);

	if (code == 0)
		code = check_parts(p, node, &m);
	if (code == 0)
		code = check_keys(p, node, &m);
	if (code == 0)
		code = check_datastore(p, node, &m);
	if (code < 0) {
		text_strings_done(&m.parts);
		stage_spec_done(&m.spec);
		return code;
	}
	a->kind = ACTION_STAGE;
	add_source(&m);
	text_strings_done(&m.parts);
	if (m.shard_node != NULL) {
		a->shard_rank = text_copy(m.shard.rank);
		a->shard_world = text_copy(m.shard.world);
	}
	m.spec.to = text_copy(m.to);
	m.spec.no_extract = !m.extract;
	m.spec.origin = text_format("%s:%u", p->r->path, node->line);
	a->stage = m.spec;
	return 0;
}

/* Expansion of an action's spec, when the action starts. */

struct key_lookup {
	const char *(*find)(void *ctx, const char *name);
	void *ctx;
};

static int expand(const char *s, const struct key_lookup *l, char **ret, struct error *err)
{
	return runfile_expand(s, l->find, l->ctx, ret, err);
}

static int expand_sources(const struct stage_spec *unexpanded, const struct key_lookup *l,
	struct stage_spec *to, struct error *err)
{
	int code = 0;

	for (size_t i = 0; i < unexpanded->n_sources && code == 0; i++) {
		_free_ char *url = NULL;

		code = expand(unexpanded->sources[i].url, l, &url, err);
		if (code == 0)
			code = datastore_ref_normalize(&url, err);
		if (code == 0)
			stage_spec_add_source(to, url, unexpanded->sources[i].sha256);
	}
	return code;
}

static int expand_number(const char *s, const struct key_lookup *l, const char *what, unsigned *ret,
	struct error *err)
{
	_free_ char *text = NULL;
	uint64_t n = 0;
	int code = expand(s, l, &text, err);

	if (code == 0)
		code = units_parse_uint(text, INT_MAX, &n, err);
	if (code < 0)
		return error_prefix(err, "shard: %s", what);
	*ret = (unsigned)n;
	return 0;
}

static int expand_shard(const struct action *a, const struct key_lookup *l, struct stage_spec *to,
	struct error *err)
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
		text_strings_add(to, from->v[i]);
}

int runfile_stage(const struct action *a, const char *(*lookup)(void *ctx, const char *name),
	void *ctx, struct stage_spec *ret, struct error *err)
{
	const struct key_lookup l = {lookup, ctx};
	const struct stage_spec *unexpanded = &a->stage;
	struct stage_spec s = {.strip_components = unexpanded->strip_components,
		.no_extract = unexpanded->no_extract,
		.replace = unexpanded->replace,
		.zip_names = text_copy(unexpanded->zip_names),
		.origin = text_copy(unexpanded->origin)};
	int code;

	copy_strings(&s.include, &unexpanded->include);
	copy_strings(&s.exclude, &unexpanded->exclude);
	code = expand_sources(unexpanded, &l, &s, err);
	if (code == 0)
		code = expand(unexpanded->to, &l, &s.to, err);
	if (code == 0)
		code = expand_shard(a, &l, &s, err);
	if (code < 0) {
		stage_spec_done(&s);
		return code;
	}
	*ret = s;
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
		s->max_bytes_why = text_format("scratch.size_gb (%s:%u)", r->path, scratch->line);
	}
}
