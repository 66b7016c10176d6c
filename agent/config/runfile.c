/* SPDX-License-Identifier: MIT */
/* config.yml as a whole: the file, its outer maps, and the keys we know. Those that name a machine
 * to rent are known and nothing we act on. */
#include "runfile.h"
#include "defer.h"
#include "runfile_reader.h"
#include <fcntl.h>
#include <string.h>

enum { MAX_BYTES = 1 << 20 };

#define AT(field) offsetof(struct runfile, field)

static const struct point_name {
	const char *name, *older;
} point_names[] = {
#define X(id, name, older, build) {name, older},
	LIFECYCLE_POINTS(X)
#undef X
};

const char *lifecycle_point_name(enum lifecycle_point p)
{
	return point_names[p].name;
}

int lifecycle_point_parse(const char *name, enum lifecycle_point *ret, struct error *err)
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
		nearest != NULL ? "did you mean "
				: "the points are on_build_start, on_build, "
				  "on_build_end, on_experiment_start and ",
		nearest != NULL ? nearest : "on_experiment_end");
}

static int read_dependency_info(struct runfile_reader *p, const struct yaml_node *node, void *into);
static int read_package_manager(struct runfile_reader *p, const struct yaml_node *node, void *into);
static int read_dependency_file(struct runfile_reader *p, const struct yaml_node *node, void *into);
static int read_action_points(struct runfile_reader *p, const struct yaml_node *node, void *into);
static int read_compute(struct runfile_reader *p, const struct yaml_node *node, void *into);
static int read_train(struct runfile_reader *p, const struct yaml_node *node, void *into);
static int read_hyper_params(struct runfile_reader *p, const struct yaml_node *node, void *into);
static int read_misplaced(struct runfile_reader *p, const struct yaml_node *node, void *into);

static const struct runfile_field root_fields[] = {
	{"compute", read_compute},
	{"hyper_params", read_hyper_params},
	{"actions", read_misplaced},
};

static const struct runfile_field compute_fields[] = {
	{"provider"},
	{"train", read_train},
	{"actions", read_misplaced},
};

static const struct runfile_field train_fields[] = {
	{"environment", read_environment},
	{"dependency_file_info", read_dependency_info},
	{"datastore_name", read_datastore_name},
	{"datastore_version", read_datastore_version},
	{"datastore_mount_dir", read_datastore_mount_dir},
	{"datastores", read_datastores},
	{"actions", read_action_points},
	{"scratch", read_scratch},
	/* The machine's, the image's and the scheduler's. */
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

static const struct runfile_field dependency_fields[] = {
	{"path", read_dependency_file, AT(dependency_file)},
	{"package_manager", read_package_manager, AT(package_manager)},
};

static const struct runfile_field point_fields[] = {
#define X(id, name, older, build) \
	{name, read_actions, AT(actions[id])}, {older, read_actions, AT(actions[id])},
	LIFECYCLE_POINTS(X)
#undef X
};

static const struct runfile_field hyper_fields[] = {
	{"settings"},
	{"params", read_params, AT(params)},
};

#define READ(p, node, fields) read_fields(p, node, fields, ARRAY_LEN(fields), UNKNOWN_WARNS, (p)->r)

static int read_compute(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, compute_fields);
}

static int read_train(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, train_fields);
}

static int read_dependency_info(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, dependency_fields);
}

static int read_action_points(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, point_fields);
}

static int read_hyper_params(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)into;
	return READ(p, node, hyper_fields);
}

/* Actions that silently do not run are worse than a warning. */
static int read_misplaced(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	(void)node;
	(void)into;
	warn_node(p, p->key, "%s is ignored; actions belong under compute.train", p->what);
	return 0;
}

static int read_dependency_file(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	p->r->dependency_line = node->line;
	return read_text(p, node, into);
}

static int read_package_manager(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *name = NULL;
	int code = read_borrow(p, node, &name);

	if (code < 0 || name == NULL)
		return code;
	if (strcmp(name, "pip") != 0 && strcmp(name, "conda") != 0)
		return refuse_kind(p, node, "pip or conda");
	return read_text(p, node, into);
}

static int read_tree(struct runfile_reader *p, const struct yaml_node *root)
{
	int code = READ(p, root, root_fields);

	if (code == 0)
		finish_attached(p);
	datastore_ref_done(&p->attached);
	return code;
}

int runfile_parse(
	const char *name, const char *bytes, size_t len, struct runfile **ret, struct error *err)
{
	struct runfile_reader p = {.err = err};
	struct yaml_tree tree = {0};
	int code = yaml_tree_load(name, bytes, len, &tree, err);

	if (code < 0)
		return code;
	p.r = zalloc(sizeof(*p.r));
	p.r->path = copy_text(name);
	code = read_tree(&p, tree.root);
	yaml_tree_done(&tree);
	if (code < 0)
		runfile_free(p.r);
	else
		*ret = p.r;
	return code;
}

static int read_all(int fd, const char *path, struct text *ret, struct error *err)
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

int runfile_read(const char *path, struct runfile **ret, struct error *err)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct text bytes = {0};
	int code;

	if (fd < 0)
		return error_set(err, -errno, "read '%s': %m", path);
	code = read_all(fd, path, &bytes, err);
	if (code == 0)
		code = runfile_parse(path, bytes.s != NULL ? bytes.s : "", bytes.len, ret, err);
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
	strings_done(&r->environment);
	free(r->environment_lines);
	strings_done(&r->params);
	free(r->datastores);
	free(r->scratch);
	free(r->dependency_file);
	free(r->package_manager);
	free(r->path);
	free(r);
}
