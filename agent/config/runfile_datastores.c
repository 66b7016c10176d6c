/* SPDX-License-Identifier: MIT */
/* Reads the datastores that a run attaches: Grid's three keys for one datastore, the list
 * datastores: for several. No store is accessed. Loop thread. */
#include "defer.h"
#include "runfile_reader.h"
#include <string.h>

static int check_name(struct runfile_reader *p, const struct yaml_node *node, const char *name)
{
	return datastore_ref_is_name(name) ? 0 : runfile_refuse_kind(p, node, "name or user:name");
}

static int check_version(
	struct runfile_reader *p, const struct yaml_node *node, const char *version)
{
	return datastore_ref_is_version(version)
		       ? 0
		       : runfile_refuse_kind(p, node, "a whole number from 1, or null");
}

static int check_dir(struct runfile_reader *p, const struct yaml_node *node, const char *dir)
{
	return *dir != '\0' ? 0 : runfile_refuse_kind(p, node, "a directory");
}

/* Stores the value's text, which belongs to the tree, in *ret if check() accepts it. */
static int read_checked(struct runfile_reader *p, const struct yaml_node *node,
	int (*check)(struct runfile_reader *, const struct yaml_node *, const char *),
	const char **ret)
{
	const char *text = NULL;
	int code = runfile_read_borrow(p, node, &text);

	if (code == 0 && text != NULL)
		code = check(p, node, text);
	if (code == 0 && text != NULL)
		*ret = text;
	return code;
}

static int read_name(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	return read_checked(p, node, check_name, into);
}

static int read_version(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	return read_checked(p, node, check_version, into);
}

static int read_dir(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	return read_checked(p, node, check_dir, into);
}

int runfile_read_datastore_name(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *name = NULL;
	int code = read_name(p, node, &name);

	(void)into;
	p->attached.name = text_copy(name);
	p->attached.line = p->key->line;
	return code;
}

int runfile_read_datastore_version(
	struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *version = NULL;
	int code = read_version(p, node, &version);

	(void)into;
	p->attached.version = text_copy(version);
	return code;
}

int runfile_read_datastore_mount_dir(
	struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *dir = NULL;
	int code = read_dir(p, node, &dir);

	(void)into;
	if (dir != NULL)
		p->attached.mount_dir = text_without_slashes(dir);
	return code;
}

/* Moves the strings of ref into r. */
static void add_datastore(struct runfile *r, struct datastore_ref *ref)
{
	r->datastores = realloc(r->datastores, (r->n_datastores + 1) * sizeof(*ref));
	if (r->datastores == NULL)
		abort();
	r->datastores[r->n_datastores++] = *ref;
	*ref = (struct datastore_ref){0};
}

void runfile_finish_attached(struct runfile_reader *p)
{
	/* Without datastore_name, the other keys of a template attach nothing, as in Grid. */
	if (p->attached.name != NULL)
		add_datastore(p->r, &p->attached);
}

/* An item of the list datastores: that is a map. The strings belong to the tree. */
struct attached_item {
	const char *name, *datastore, *version, *mount_dir, *to;
};

static const struct runfile_field item_fields[] = {
	{"name", read_name, offsetof(struct attached_item, name)},
	{"datastore", runfile_read_borrow, offsetof(struct attached_item, datastore)},
	{"version", read_version, offsetof(struct attached_item, version)},
	{"mount_dir", read_dir, offsetof(struct attached_item, mount_dir)},
	{"to", read_dir, offsetof(struct attached_item, to)},
};

static int read_ref(struct runfile_reader *p, const struct yaml_node *node, const char *text,
	struct datastore_ref *ret)
{
	struct error why;

	if (datastore_ref_parse(text, ret, &why) < 0)
		return runfile_refuse(p, node, "%s: %s", p->key_path, why.msg);
	ret->line = node->line;
	return 0;
}

static int read_item_map(
	struct runfile_reader *p, const struct yaml_node *node, struct datastore_ref *ret)
{
	struct attached_item item = {0};
	const char *dir;
	int code = runfile_read_fields(
		p, node, item_fields, ARRAY_LEN(item_fields), UNKNOWN_FAILS, &item);

	if (code < 0)
		return code;
	if ((item.name == NULL) == (item.datastore == NULL))
		return runfile_refuse(p, node, "%s needs a name", p->key_path);
	if (item.mount_dir != NULL && item.to != NULL)
		return runfile_refuse(
			p, node, "%s: mount_dir and to are the same; keep one", p->key_path);
	if (item.name != NULL)
		*ret = (struct datastore_ref){.name = text_copy(item.name), .line = node->line};
	else if (read_ref(p, node, item.datastore, ret) < 0)
		return -ERR_CONFIG;
	if (ret->mount_dir != NULL || (ret->version != NULL && item.version != NULL))
		return runfile_refuse(p, node, "%s: '%s' and another key say the same", p->key_path,
			item.datastore);
	if (item.version != NULL)
		ret->version = text_copy(item.version);
	dir = item.mount_dir != NULL ? item.mount_dir : item.to;
	if (dir != NULL)
		ret->mount_dir = text_without_slashes(dir);
	return 0;
}

static int read_one_datastore(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct datastore_ref ref = {0};
	int code;

	(void)into;
	if (node->kind == YAML_LIST)
		return runfile_refuse_kind(p, node, "NAME[:VERSION][=DIR] or a map");
	if (node->kind == YAML_SCALAR)
		code = read_ref(p, node, node->text, &ref);
	else
		code = read_item_map(p, node, &ref);
	if (code == 0)
		add_datastore(p->r, &ref);
	datastore_ref_done(&ref);
	return code;
}

int runfile_read_datastores(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	return runfile_read_items(p, node, read_one_datastore, into);
}
