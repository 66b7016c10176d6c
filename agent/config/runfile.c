/* SPDX-License-Identifier: MIT */
/* Reads config.yml: the file, its outer maps, the environment, scratch directories, dependency
 * file and parameters of the run, and the items of its lifecycle points with their stage: maps.
 * Keys that describe the machine to rent are known and ignored. Loop thread, before any other
 * thread starts. */
#include "runfile.h"
#include "datastore_ref.h"
#include "defer.h"
#include "runfile_reader.h"
#include <ctype.h>
#include <fcntl.h>
#include <string.h>

enum { MAX_BYTES = 1 << 20 };

#define AT(field) offsetof(struct runfile, field)

#define READ(p, node, fields) \
	runfile_read_fields(p, node, fields, ARRAY_LEN(fields), UNKNOWN_WARNS, (p)->r)

/* Names of lifecycle points. */

static const struct point_name {
	const char *name, *older;
} point_names[] = {
#define X(id, name, older, build) {name, older},
	LIFECYCLE_POINTS(X)
#undef X
};

const char *runfile_point_name(enum lifecycle_point p)
{
	return point_names[p].name;
}

int runfile_point_parse(const char *name, enum lifecycle_point *ret, struct error *err)
{
	const char *names[POINT_COUNT];
	const char *nearest;

	for (int i = 0; i < POINT_COUNT; i++) {
		const char *older = point_names[i].older;

		names[i] = point_names[i].name;
		if (strcmp(names[i], name) == 0 || (older != NULL && strcmp(older, name) == 0)) {
			*ret = (enum lifecycle_point)i;
			return 0;
		}
	}
	nearest = nearest_word(name, names, POINT_COUNT);
	return error_set(err, -ERR_USAGE, "there is no lifecycle point '%s'; %s%s", name,
		nearest != NULL
			? "did you mean "
			: "the points are on_build_start, on_build, on_build_end, on_experiment_start and ",
		nearest != NULL ? nearest : "on_experiment_end");
}

/* compute.train.environment and compute.train.scratch. */

static int add_variable(
	struct runfile_reader *p, const struct yaml_node *node, const char *name, const char *value)
{
	_free_ char *assignment = text_format("%s=%s", name, value);

	if (*name == '\0' || strchr(name, '=') != NULL)
		return runfile_refuse(
			p, node, "%s: '%s' cannot be the name of a variable", p->key_path, name);
	p->r->environment_lines = realloc(p->r->environment_lines,
		(p->r->environment.n + 1) * sizeof(*p->r->environment_lines));
	if (p->r->environment_lines == NULL)
		abort();
	p->r->environment_lines[p->r->environment.n] = node->line;
	text_strings_add(&p->r->environment, assignment);
	return 0;
}

static int read_assignment(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	_free_ char *name = NULL;
	size_t len;

	(void)into;
	if (node->kind != YAML_SCALAR || strchr(node->text, '=') == NULL)
		return runfile_refuse_kind(p, node, "a map NAME: VALUE, or text NAME=VALUE");
	len = strcspn(node->text, "=");
	name = text_format("%.*s", (int)len, node->text);
	return add_variable(p, node, name, node->text + len + 1);
}

static int read_environment(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	int code = 0;

	if (yaml_is_null(node) || node->kind != YAML_MAP)
		return runfile_read_items(p, node, read_assignment, into);
	for (size_t i = 0; i < node->n && code == 0; i++) {
		const struct yaml_pair *pair = &node->pairs[i];

		if (pair->value->kind != YAML_SCALAR)
			return runfile_refuse(p, pair->value, "%s.%s must be a single value",
				p->key_path, pair->key->text);
		code = add_variable(p, pair->key, pair->key->text,
			yaml_is_null(pair->value) ? "" : pair->value->text);
	}
	return code;
}

static int read_size_gb(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	_free_ char *size = NULL;
	const char *number = NULL;
	int code = runfile_read_borrow(p, node, &number);

	if (code < 0 || number == NULL)
		return code;
	size = text_format("%sG", number);
	/* Only a number is valid: a value such as "100G" would be a size with its own unit. */
	if (number[strspn(number, "0123456789.")] != '\0' || units_parse_size(size, into, NULL) < 0)
		return runfile_refuse_kind(p, node, "a number (of gigabytes)");
	return 0;
}

static const struct runfile_field scratch_fields[] = {
	{"size_gb", read_size_gb, offsetof(struct scratch, size_bytes)},
	{"mount_path", runfile_read_text, offsetof(struct scratch, mount_path)},
};

static int read_one_scratch(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct scratch scratch = {.line = node->line};
	int code = runfile_read_fields(
		p, node, scratch_fields, ARRAY_LEN(scratch_fields), UNKNOWN_WARNS, &scratch);

	(void)into;
	if (code < 0) {
		free(scratch.mount_path);
		return code;
	}
	if (scratch.mount_path == NULL)
		scratch.mount_path = text_copy("/tmp/scratch");
	p->r->scratch = realloc(p->r->scratch, (p->r->n_scratch + 1) * sizeof(scratch));
	if (p->r->scratch == NULL)
		abort();
	p->r->scratch[p->r->n_scratch++] = scratch;
	return 0;
}

static int read_scratch(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	return runfile_read_items(p, node, read_one_scratch, into);
}

/* compute.train.dependency_file_info. */

static int read_dependency_file(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	p->r->dependency_line = node->line;
	return runfile_read_text(p, node, into);
}

static int read_package_manager(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *name = NULL;
	int code = runfile_read_borrow(p, node, &name);

	if (code < 0 || name == NULL)
		return code;
	if (strcmp(name, "pip") != 0 && strcmp(name, "conda") != 0)
		return runfile_refuse_kind(p, node, "pip or conda");
	return runfile_read_text(p, node, into);
}

static const struct runfile_field dependency_fields[] = {
	{"path", read_dependency_file, AT(dependency_file)},
	{"package_manager", read_package_manager, AT(package_manager)},
};

static int read_dependency_info(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, dependency_fields);
}

/* The stage: map of an action. Whether the source can be reached is checked when it is staged. */

struct stage_map {
	const char *source, *datastore; /* belong to the tree */
	const struct yaml_node *shard_node;
	bool extract;
	struct action_stage stage; /* its sources are the items, if source is a list */
};

static void stage_done(struct action_stage *s)
{
	text_strings_done(&s->sources);
	text_strings_done(&s->include);
	text_strings_done(&s->exclude);
	free(s->sha256);
	free(s->to);
	free(s->zip_names);
	free(s->shard_rank);
	free(s->shard_world);
	free(s->origin);
}

static int read_sha256(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	char **hex = into;
	int code = runfile_read_text(p, node, into);

	if (code < 0 || *hex == NULL)
		return code;
	if (strlen(*hex) != 64 || (*hex)[strspn(*hex, "0123456789abcdefABCDEF")] != '\0')
		return runfile_refuse_kind(p, node, "64 hexadecimal digits");
	for (char *at = *hex; *at != '\0'; at++)
		*at = (char)tolower((unsigned char)*at);
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
	return runfile_read_text(p, node, into);
}

static const struct runfile_field shard_fields[] = {
	{"rank", read_number_or_variable, offsetof(struct action_stage, shard_rank)},
	{"world", read_number_or_variable, offsetof(struct action_stage, shard_world)},
};

/* The defaults are the variables that launchers such as torchrun set. */
static int read_shard(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct stage_map *m = into;

	if (yaml_is_null(node))
		return 0;
	m->shard_node = node;
	m->stage.shard_rank = text_copy("${RANK}");
	m->stage.shard_world = text_copy("${WORLD_SIZE}");
	return runfile_read_fields(
		p, node, shard_fields, ARRAY_LEN(shard_fields), UNKNOWN_FAILS, &m->stage);
}

/* A URL or path, or a list of the parts of a split file. */
static int read_source(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct stage_map *m = into;

	return node->kind == YAML_LIST ? runfile_read_texts(p, node, &m->stage.sources)
				       : runfile_read_borrow(p, node, &m->source);
}

#define IN_STAGE(field) offsetof(struct stage_map, stage.field)

static const struct runfile_field stage_fields[] = {
	{"source", read_source},
	{"join", runfile_read_bool, IN_STAGE(join)},
	{"datastore", runfile_read_borrow, offsetof(struct stage_map, datastore)},
	{"to", runfile_read_text, IN_STAGE(to)},
	{"sha256", read_sha256, IN_STAGE(sha256)},
	{"include", runfile_read_texts, IN_STAGE(include)},
	{"exclude", runfile_read_texts, IN_STAGE(exclude)},
	{"strip_components", runfile_read_count, IN_STAGE(strip_components)},
	{"zip_names", runfile_read_text, IN_STAGE(zip_names)},
	{"extract", runfile_read_bool, offsetof(struct stage_map, extract)},
	{"replace", runfile_read_bool, IN_STAGE(replace)},
	{"shard", read_shard},
};

static bool is_given(const char *text)
{
	return text != NULL && *text != '\0';
}

/* Checks the keys that exclude or need each other. */
static int check_keys(
	const struct runfile_reader *p, const struct yaml_node *node, const struct stage_map *m)
{
	if ((is_given(m->source) || m->stage.sources.n > 0) == is_given(m->datastore))
		return runfile_refuse(p, node, "%s needs one of source and datastore", p->key_path);
	if (!is_given(m->stage.to))
		return runfile_refuse(
			p, node, "%s needs to, the directory to stage into", p->key_path);
	if (m->shard_node != NULL && !is_given(m->datastore))
		return runfile_refuse(
			p, m->shard_node, "%s: shard needs a datastore, not a source", p->key_path);
	if (m->stage.sha256 != NULL && is_given(m->datastore))
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
	const struct strings *parts = &m->stage.sources;

	if (parts->n > 0 && !m->stage.join)
		return runfile_refuse(p, node,
			"%s: source is one, not a list; with join: true, a list of the parts of a split file, in their order",
			p->key_path);
	if (m->stage.join && parts->n == 0)
		return runfile_refuse(p, node,
			"%s: join needs source to be a list, of the parts of a split file in their order",
			p->key_path);
	for (size_t i = 0; i < parts->n; i++) {
		if (parts->v[i][0] == '\0' || strchr(parts->v[i], '\n') != NULL)
			return runfile_refuse(
				p, node, "%s: a part of source is no URL or path", p->key_path);
	}
	return 0;
}

/* into: struct action *, which becomes an ACTION_STAGE. */
static int read_stage(struct runfile_reader *p, const struct yaml_node *node, void *into)
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
		stage_done(&m.stage);
		return code;
	}
	if (is_given(m.datastore)) {
		_free_ char *source = datastore_ref_source(m.datastore, NULL);

		text_strings_add(&m.stage.sources, source);
	} else if (m.stage.sources.n == 0) {
		text_strings_add(&m.stage.sources, m.source);
	}
	m.stage.no_extract = !m.extract;
	m.stage.origin = text_format("%s:%u", p->r->path, node->line);
	a->kind = ACTION_STAGE;
	a->stage = m.stage;
	return 0;
}

/* The items of a lifecycle point: shell text, or a map with run or stage. An unknown key in these
 * maps is an error, not a warning, because a misspelt digest or retry must not be ignored. */

static void action_done(struct action *a)
{
	free(a->script);
	stage_done(&a->stage);
}

static void actions_done(struct actions *actions)
{
	for (size_t i = 0; i < actions->n; i++)
		action_done(&actions->v[i]);
	free(actions->v);
	*actions = (struct actions){0};
}

/* Offsets in struct action. */
static const struct runfile_field item_fields[] = {
	{"run", runfile_read_text, offsetof(struct action, script)},
	{"timeout", runfile_read_duration, offsetof(struct action, timeout_ms)},
	{"retries", runfile_read_count, offsetof(struct action, retries)},
	{"stage", read_stage},
};

static int read_item_map(struct runfile_reader *p, const struct yaml_node *node, struct action *a)
{
	bool is_stage;
	int code;

	/* YAML parses "- echo note: done" as a map. */
	if (node->n > 0 && strchr(node->pairs[0].key->text, ' ') != NULL)
		return runfile_refuse(p, node,
			"%s: a shell command that holds ': ' must be quoted or a '|' block",
			p->key_path);
	code = runfile_read_fields(p, node, item_fields, ARRAY_LEN(item_fields), UNKNOWN_FAILS, a);
	if (code < 0)
		return code;
	is_stage = a->kind != ACTION_RUN;
	if (is_stage == (a->script != NULL))
		return runfile_refuse(p, node, "%s needs one of run and stage", p->key_path);
	if (is_stage && (a->timeout_ms > 0 || a->retries > 0))
		return runfile_refuse(
			p, node, "%s: timeout and retries are for run, not for stage", p->key_path);
	return 0;
}

static int read_action(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct actions *actions = into;
	struct action a = {.kind = ACTION_RUN, .line = node->line};
	int code;

	if (node->kind == YAML_LIST)
		return runfile_refuse_kind(p, node, "a shell command, or a map with run or stage");
	if (node->kind == YAML_SCALAR)
		code = runfile_read_text(p, node, &a.script);
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

static int read_actions(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct actions *actions = into;
	size_t point = (size_t)(actions - p->r->actions);
	const char *name = runfile_point_name((enum lifecycle_point)point);

	if (yaml_is_null(node))
		return 0;
	if (node->kind == YAML_MAP)
		return runfile_refuse_kind(p, node, "a list");
	if (p->point_line[point] > 0)
		return runfile_refuse(p, p->key,
			"%s is also on line %u, under its other name; keep %s alone", p->key_path,
			p->point_line[point], name);
	p->point_line[point] = p->key->line;
	return runfile_read_items(p, node, read_action, actions);
}

#define NOT_RUN "its actions are not run"

static const struct runfile_field point_fields[] = {
#define X(id, name, older, build) \
	{name, read_actions, AT(actions[id]), NOT_RUN}, \
		{older, read_actions, AT(actions[id]), NOT_RUN},
	LIFECYCLE_POINTS(X)
#undef X
};

static int read_action_points(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, point_fields);
}

/* hyper_params. */

static int read_params(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct strings *words = into;

	if (yaml_is_null(node))
		return 0;
	if (node->kind != YAML_MAP)
		return runfile_refuse_kind(
			p, node, "a map of words for the command, such as --foo: 1");
	p->r->params_line = node->line;
	for (size_t i = 0; i < node->n; i++) {
		const struct yaml_pair *pair = &node->pairs[i];

		if (pair->value->kind != YAML_SCALAR)
			return runfile_refuse(p, pair->value,
				"%s.%s must be a single value; a sweep over several is several runs",
				p->key_path, pair->key->text);
		text_strings_add(words, pair->key->text);
		if (!yaml_is_null(pair->value))
			text_strings_add(words, pair->value->text);
	}
	return 0;
}

#define NOT_ADDED "its words are not added to the command"

static const struct runfile_field hyper_fields[] = {
	{"settings"},
	{"params", read_params, AT(params), .lost = NOT_ADDED},
};

static int read_hyper_params(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, hyper_fields);
}

/* The outer maps, and config.yml as a whole. */

/* Actions in the wrong place are not run. The warning reports that, as silence would be worse. */
static int read_misplaced(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)node;
	(void)into;
	if (p->strict)
		return runfile_refuse(
			p, p->key, "%s: actions belong under compute.train", p->key_path);
	runfile_warn(p, p->key, "%s is ignored, so " NOT_RUN "; actions belong under compute.train",
		p->key_path);
	return 0;
}

#define NOT_ATTACHED "no datastore is attached for it"

static const struct runfile_field train_fields[] = {
	{"environment", read_environment, .lost = "its variables are not set"},
	{"dependency_file_info", read_dependency_info, .lost = "nothing is installed for it"},
	{"datastore_name", runfile_read_datastore_name, .lost = NOT_ATTACHED},
	{"datastore_version", runfile_read_datastore_version, .lost = "the newest is taken"},
	{"datastore_mount_dir", runfile_read_datastore_mount_dir,
		.lost = "the datastore goes to its default directory"},
	{"datastores", runfile_read_datastores, .lost = NOT_ATTACHED},
	{"actions", read_action_points, .lost = NOT_RUN},
	{"scratch", read_scratch, .lost = "its directories are not made"},
	/* Known and ignored: they are for the machine, the image and the scheduler. */
	{"framework"},
	{"instance"},
	{"instance_type"},
	{"use_spot"},
	{"storage_gb"},
	{"disk_size"},
	{"localdir"},
	{"dockerfile"},
	{"auto_resume"},
	{"memory"},
	{"nodes"},
	{"max_nodes"},
	{"scale_down_seconds"},
	{"gpus"},
	{"cpus"},
	{"name"},
};

static int read_train(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, train_fields);
}

#define NOTHING_DONE "nothing under it is staged, set or run"

static const struct runfile_field compute_fields[] = {
	{"provider"},
	{"train", read_train, .lost = NOTHING_DONE},
	{"actions", read_misplaced},
};

static int read_compute(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, compute_fields);
}

static const struct runfile_field root_fields[] = {
	{"compute", read_compute, .lost = NOTHING_DONE},
	{"hyper_params", read_hyper_params, .lost = NOT_ADDED},
	{"actions", read_misplaced},
};

static int read_tree(struct runfile_reader *p, const struct yaml_node *root)
{
	int code = READ(p, root, root_fields);

	if (code == 0)
		runfile_finish_attached(p);
	datastore_ref_done(&p->attached);
	return code;
}

/* p has strict and err. */
static int parse(struct runfile_reader *p, const char *name, const char *bytes, size_t len,
	struct runfile **ret)
{
	struct yaml_tree tree = {0};
	int code = yaml_tree_load(name, bytes, len, &tree, p->err);

	if (code < 0)
		return code;
	p->r = zalloc(sizeof(*p->r));
	p->r->path = text_copy(name);
	code = read_tree(p, tree.root);
	yaml_tree_done(&tree);
	if (code < 0)
		runfile_free(p->r);
	else
		*ret = p->r;
	return code;
}

int runfile_parse(
	const char *name, const char *bytes, size_t len, struct runfile **ret, struct error *err)
{
	return parse(&(struct runfile_reader){.err = err}, name, bytes, len, ret);
}

static int read_file(int fd, const char *path, struct text *ret, struct error *err)
{
	char buf[16384];
	ssize_t n;

	do {
		n = read(fd, buf, sizeof(buf));
		if (n > 0)
			text_add_bytes(ret, buf, (size_t)n);
		if (ret->len > MAX_BYTES)
			return error_set(err, -ERR_CONFIG, "%s: larger than 1 MiB", path);
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n < 0 ? error_set(err, -errno, "read '%s': %m", path) : 0;
}

int runfile_read(const char *path, bool strict, struct runfile **ret, struct error *err)
{
	struct runfile_reader p = {.strict = strict, .err = err};
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct text bytes = {0};
	int code;

	if (fd < 0)
		return error_set(err, -errno, "read '%s': %m", path);
	code = read_file(fd, path, &bytes, err);
	if (code == 0)
		code = parse(&p, path, bytes.s != NULL ? bytes.s : "", bytes.len, ret);
	text_done(&bytes);
	return code;
}

void runfile_free(struct runfile *r)
{
	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n_datastores; i++)
		datastore_ref_done(&r->datastores[i]);
	for (size_t i = 0; i < r->n_scratch; i++)
		free(r->scratch[i].mount_path);
	for (size_t i = 0; i < POINT_COUNT; i++)
		actions_done(&r->actions[i]);
	text_strings_done(&r->environment);
	free(r->environment_lines);
	text_strings_done(&r->params);
	free(r->datastores);
	free(r->scratch);
	free(r->dependency_file);
	free(r->package_manager);
	free(r->path);
	free(r);
}
