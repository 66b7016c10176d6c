/* SPDX-License-Identifier: MIT */
/* Which datastores a run attaches: Grid's three keys for one, the list for several, and the text
 * that both the list and --datastore take. Nothing is looked up here. */
#include "defer.h"
#include "runfile_reader.h"
#include <string.h>

void datastore_ref_done(struct datastore_ref *d)
{
	free(d->name);
	free(d->version);
	free(d->mount_dir);
	*d = (struct datastore_ref){0};
}

/* A number, or something that will be one when its variable is known. */
static bool looks_like_version(const char *s)
{
	return strstr(s, "${") != NULL || (*s != '\0' && s[strspn(s, "0123456789")] == '\0');
}

static bool is_version(const char *s)
{
	return looks_like_version(s) && *s != '0';
}

static char *without_last_slashes(const char *dir)
{
	size_t len = strlen(dir);

	while (len > 1 && dir[len - 1] == '/')
		len--;
	return format_text("%.*s", (int)len, dir);
}

static unsigned count_colons(const char *s)
{
	unsigned n = 0;

	for (; *s != '\0'; s++)
		n += *s == ':';
	return n;
}

static bool is_name(const char *s)
{
	size_t user = strcspn(s, ":");

	return count_colons(s) <= 1 && user > 0 && s[strlen(s) - 1] != ':';
}

/* Cuts the version off a "NAME[:VERSION]". The one ':' of "a:b" may belong to "user:name". */
static const char *cut_version(char *name)
{
	char *last = strrchr(name, ':');

	if (last == NULL || (count_colons(name) == 1 && !looks_like_version(last + 1)))
		return NULL;
	*last = '\0';
	return last + 1;
}

int datastore_ref_parse(const char *arg, struct datastore_ref *ret, struct error *err)
{
	size_t len = strcspn(arg, "=");
	const char *dir = arg[len] == '=' ? arg + len + 1 : NULL;
	_free_ char *name = format_text("%.*s", (int)len, arg);
	const char *version = cut_version(name);

	if (!is_name(name) || (version != NULL && !is_version(version)) ||
		(dir != NULL && *dir == '\0'))
		return error_set(err, -ERR_USAGE,
			"'%s' is not NAME[:VERSION][=DIR], with a version from 1", arg);
	*ret = (struct datastore_ref){.name = copy_text(name),
		.version = copy_text(version),
		.mount_dir = dir != NULL ? without_last_slashes(dir) : NULL};
	return 0;
}

const char *datastore_ref_plain_name(const char *name)
{
	const char *colon = name != NULL ? strchr(name, ':') : NULL;

	return colon != NULL ? colon + 1 : name;
}

int datastore_source(char **url, struct error *err)
{
	struct datastore_ref ref = {0};
	size_t scheme = strcspn(*url, ":");
	int code;

	if (strncmp(*url, "datastore:", 10) != 0 && strncmp(*url, "grid:", 5) != 0)
		return 0;
	code = datastore_ref_parse(*url + scheme + 1, &ref, err);
	if (code == 0 && ref.mount_dir != NULL)
		code = error_set(err, -ERR_USAGE, "'%s' is not datastore:NAME[:VERSION]", *url);
	if (code == 0) {
		free(*url);
		*url = format_text("datastore:%s%s%s", datastore_ref_plain_name(ref.name),
			ref.version != NULL ? ":" : "", ref.version != NULL ? ref.version : "");
	}
	datastore_ref_done(&ref);
	return code;
}

static int check_name(struct runfile_reader *p, const struct yaml_node *node, const char *name)
{
	return is_name(name) ? 0 : refuse_kind(p, node, "name or user:name");
}

static int check_version(
	struct runfile_reader *p, const struct yaml_node *node, const char *version)
{
	return is_version(version) ? 0 : refuse_kind(p, node, "a whole number from 1, or null");
}

static int check_dir(struct runfile_reader *p, const struct yaml_node *node, const char *dir)
{
	return *dir != '\0' ? 0 : refuse_kind(p, node, "a directory");
}

/* Borrows the value's text once check() likes it. */
static int read_checked(struct runfile_reader *p, const struct yaml_node *node,
	int (*check)(struct runfile_reader *, const struct yaml_node *, const char *),
	const char **ret)
{
	const char *text = NULL;
	int code = read_borrow(p, node, &text);

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

int read_datastore_name(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *name = NULL;
	int code = read_name(p, node, &name);

	(void)into;
	p->attached.name = copy_text(name);
	p->attached.line = p->key->line;
	return code;
}

int read_datastore_version(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *version = NULL;
	int code = read_version(p, node, &version);

	(void)into;
	p->attached.version = copy_text(version);
	return code;
}

int read_datastore_mount_dir(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	const char *dir = NULL;
	int code = read_dir(p, node, &dir);

	(void)into;
	if (dir != NULL)
		p->attached.mount_dir = without_last_slashes(dir);
	return code;
}

/* Takes what ref owns. */
static void add_datastore(struct runfile *r, struct datastore_ref *ref)
{
	r->datastores = realloc(r->datastores, (r->n_datastores + 1) * sizeof(*ref));
	if (r->datastores == NULL)
		abort();
	r->datastores[r->n_datastores++] = *ref;
	*ref = (struct datastore_ref){0};
}

void finish_attached(struct runfile_reader *p)
{
	/* A template's keys without a name attach nothing, as in Grid. */
	if (p->attached.name != NULL)
		add_datastore(p->r, &p->attached);
}

/* One item of datastores: as a map. All borrowed from the tree. */
struct item {
	const char *name, *datastore, *version, *mount_dir, *to;
};

static const struct runfile_field item_fields[] = {
	{"name", read_name, offsetof(struct item, name)},
	{"datastore", read_borrow, offsetof(struct item, datastore)},
	{"version", read_version, offsetof(struct item, version)},
	{"mount_dir", read_dir, offsetof(struct item, mount_dir)},
	{"to", read_dir, offsetof(struct item, to)},
};

static int read_ref(struct runfile_reader *p, const struct yaml_node *node, const char *text,
	struct datastore_ref *ret)
{
	struct error why;

	if (datastore_ref_parse(text, ret, &why) < 0)
		return refuse_node(p, node, "%s: %s", p->what, why.msg);
	ret->line = node->line;
	return 0;
}

static int read_item_map(
	struct runfile_reader *p, const struct yaml_node *node, struct datastore_ref *ret)
{
	struct item item = {0};
	const char *dir;
	int code = read_fields(p, node, item_fields, ARRAY_LEN(item_fields), UNKNOWN_FAILS, &item);

	if (code < 0)
		return code;
	if ((item.name == NULL) == (item.datastore == NULL))
		return refuse_node(p, node, "%s needs a name", p->what);
	if (item.mount_dir != NULL && item.to != NULL)
		return refuse_node(p, node, "%s: mount_dir and to are the same; keep one", p->what);
	if (item.name != NULL)
		*ret = (struct datastore_ref){.name = copy_text(item.name), .line = node->line};
	else if (read_ref(p, node, item.datastore, ret) < 0)
		return -ERR_CONFIG;
	if (ret->mount_dir != NULL || (ret->version != NULL && item.version != NULL))
		return refuse_node(
			p, node, "%s: '%s' and another key say the same", p->what, item.datastore);
	if (item.version != NULL)
		ret->version = copy_text(item.version);
	dir = item.mount_dir != NULL ? item.mount_dir : item.to;
	if (dir != NULL)
		ret->mount_dir = without_last_slashes(dir);
	return 0;
}

static int read_one_datastore(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	struct datastore_ref ref = {0};
	int code;

	(void)into;
	if (node->kind == YAML_LIST)
		return refuse_kind(p, node, "NAME[:VERSION][=DIR] or a map");
	if (node->kind == YAML_SCALAR)
		code = read_ref(p, node, node->text, &ref);
	else
		code = read_item_map(p, node, &ref);
	if (code == 0)
		add_datastore(p->r, &ref);
	datastore_ref_done(&ref);
	return code;
}

int read_datastores(struct runfile_reader *p, const struct yaml_node *node, void *into)
{
	return read_items(p, node, read_one_datastore, into);
}
