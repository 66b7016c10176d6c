/* SPDX-License-Identifier: MIT */
/* Which versions there are. A listing alone decides: a version exists when its manifest does and its
 * tombstone does not. Worker threads. */
#include "versions.h"
#include "backend.h"
#include "defer.h"
#include "text.h"
#include <ctype.h>
#include <limits.h>
#include <string.h>

#define ROOT "datastores/"

enum { NAME_BYTES = 128 };

int datastore_name_check(const char *name, struct error *err)
{
	size_t len = strlen(name);

	if (len == 0 || len > NAME_BYTES)
		return error_set(err, -ERR_USAGE,
			"the datastore's name '%.200s' must have 1 to %d characters", name,
			NAME_BYTES);
	for (size_t i = 0; i < len; i++) {
		char c = name[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (!letter && (i == 0 || strchr("._-", c) == NULL))
			return error_set(err, -ERR_USAGE,
				"the datastore's name '%s' must begin with a-z or 0-9 and go on "
				"with "
				"those, '.', '_' or '-': give another with --name",
				name);
	}
	return 0;
}

char *version_key(const char *name, unsigned number, const char *file)
{
	return format_text(ROOT "%s/%u/%s", name, number, file);
}

/* "datastores/NAME/V/FILE" in its pieces; false for what is not of this form. */
static bool parse_key(const char *key, char name[static NAME_BYTES + 1], unsigned *ret_number,
	const char **ret_file)
{
	const char *at = key + strlen(ROOT), *slash = strchr(at, '/');
	unsigned long number;
	char *end;

	if (slash == NULL || slash - at > NAME_BYTES || !isdigit((unsigned char)slash[1]) ||
		slash[1] == '0')
		return false;
	memcpy(name, at, (size_t)(slash - at));
	name[slash - at] = '\0';
	errno = 0;
	number = strtoul(slash + 1, &end, 10);
	if (*end != '/' || errno != 0 || number > UINT_MAX)
		return false;
	*ret_number = (unsigned)number;
	*ret_file = end + 1;
	return datastore_name_check(name, NULL) == 0;
}

static struct version *add_version(struct versions *all, const char *name, unsigned number)
{
	/* A listing is in order: what is known of one version comes together. */
	if (all->n > 0 && all->v[all->n - 1].number == number &&
		strcmp(all->v[all->n - 1].name, name) == 0)
		return &all->v[all->n - 1];
	if (all->n == all->cap) {
		all->cap += all->cap / 2 + 64;
		all->v = realloc(all->v, all->cap * sizeof(*all->v));
		if (all->v == NULL)
			abort();
	}
	all->v[all->n] = (struct version){.name = copy_text(name), .number = number};
	return &all->v[all->n++];
}

static int on_key(void *ctx, const char *key, uint64_t size, time_t modified, struct error *err)
{
	char name[NAME_BYTES + 1];
	const char *file;
	unsigned number;
	struct version *v;

	(void)size;
	(void)err;
	if (!parse_key(key, name, &number, &file))
		return 0;
	v = add_version(ctx, name, number);
	if (strcmp(file, "collected.json") == 0) {
		v->collected = true;
	} else if (strcmp(file, "deleted.json") == 0) {
		v->deleted = true;
		v->deleted_at = modified;
	} else if (strcmp(file, "manifest.json") == 0) {
		v->exists = !v->deleted; /* the tombstone is listed first */
		v->created = modified;
	}
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct version *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	if (order != 0)
		return order;
	return x->number < y->number ? -1 : x->number > y->number;
}

int versions_list(struct store_hand *h, const char *name, struct versions *ret, struct error *err)
{
	_free_ char *prefix = name != NULL ? format_text(ROOT "%s/", name) : copy_text(ROOT);
	int code = store_list(h, prefix, on_key, ret, err);

	if (code < 0) {
		versions_done(ret);
		return code;
	}
	if (ret->n > 0)
		qsort(ret->v, ret->n, sizeof(*ret->v), compare);
	return 0;
}

void versions_done(struct versions *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->v[i].name);
	free(v->v);
	*v = (struct versions){0};
}

static bool has_version(const struct versions *all, unsigned number)
{
	for (size_t i = 0; i < all->n; i++) {
		if (all->v[i].exists && (number == 0 || all->v[i].number == number))
			return true;
	}
	return false;
}

int version_manifest(struct store_hand *h, const char *name, unsigned number, struct manifest **ret,
	struct error *err)
{
	_free_ char *key = version_key(name, number, "manifest.json");
	_free_ char *json = NULL;
	struct manifest *m = NULL;
	size_t len = 0;
	int code = store_get_all(h, key, MANIFEST_MAX_BYTES, &json, &len, err);

	if (code == 0)
		code = manifest_parse(json, len, &m, err);
	if (code == 0 && (strcmp(m->name, name) != 0 || m->version != number))
		code = error_set(
			err, -ERR_FORMAT, "the manifest is that of %s:%u", m->name, m->version);
	if (code < 0) {
		manifest_free(m);
		error_prefix(err, "datastore %s:%u", name, number);
		return code;
	}
	*ret = m;
	return 0;
}

static int newest_of(struct store_hand *h, const char *name, unsigned version,
	unsigned *ret_version, struct error *err)
{
	struct versions all = {0};
	int code = datastore_name_check(name, err);

	if (code == 0)
		code = versions_list(h, name, &all, err);
	if (code < 0)
		return code;
	if (!has_version(&all, version))
		code = versions_missing(h, &all, name, version, err);
	for (size_t i = 0; i < all.n; i++) {
		if (version == 0 && all.v[i].exists)
			*ret_version = all.v[i].number;
	}
	versions_done(&all);
	return code;
}

int datastore_newest(
	struct store_hand *h, const char *name, unsigned *ret_version, struct error *err)
{
	return newest_of(h, name, 0, ret_version, err);
}

int datastore_find(struct store_hand *h, const char *name, unsigned version, struct manifest **ret,
	struct error *err)
{
	unsigned number = version;
	int code = newest_of(h, name, version, &number, err);

	return code < 0 ? code : version_manifest(h, name, number, ret, err);
}
