/* SPDX-License-Identifier: MIT */
/* Datastores that the command's arguments name. */
#include "attach.h"
#include "defer.h"
#include <string.h>

#define ROOT "/datastores/"

/* One word, or the value within it. */
struct place {
	struct attachments *all;
	const struct attach_paths *paths;
	const char *value;
	char *origin;
};

static bool begins_with(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool is_version(const char *s, size_t len)
{
	return len > 0 && s[0] != '0' && strspn(s, "0123456789") >= len;
}

/* "grid://host" and the like are the command's own. */
static bool is_reference(const char *value)
{
	const char *name = strchr(value, ':');
	const char *last = strrchr(value, ':');

	if (begins_with(value, "datastore:"))
		return name[1] != '\0' && strpbrk(value, "/= ") == NULL;
	return begins_with(value, "grid:") && last != name &&
	       is_version(last + 1, strlen(last + 1));
}

static bool serves(const struct attachment *a, const struct datastore_ref *ref)
{
	if (strcmp(a->name, datastore_ref_plain_name(ref->name)) != 0)
		return false;
	return ref->version == NULL ||
	       (a->version != NULL && strcmp(a->version, ref->version) == 0);
}

static const struct attachment *find(const struct attachments *all, const struct datastore_ref *ref)
{
	for (size_t i = 0; i < all->n; i++) {
		if (serves(&all->v[i], ref))
			return &all->v[i];
	}
	return NULL;
}

/* *ret: the directory, borrowed. */
static int resolve_reference(struct place *p, const char **ret, struct error *err)
{
	struct datastore_ref ref = {0};
	const struct attachment *a;
	int code = datastore_ref_parse(strchr(p->value, ':') + 1, &ref, err);

	if (code < 0)
		return error_prefix(err, "%s", p->origin);
	a = find(p->all, &ref);
	if (a == NULL) {
		code = attach_add(p->all, &ref, ATTACH_ARGUMENT, p->origin, "/", err);
		a = code == 0 ? find(p->all, &ref) : NULL;
	}
	*ret = a != NULL ? a->to : NULL;
	datastore_ref_done(&ref);
	return code;
}

static bool lies_in(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

static bool is_attached(const struct attachments *all, const char *path)
{
	for (size_t i = 0; i < all->n; i++) {
		if (lies_in(path, all->v[i].to))
			return true;
	}
	return false;
}

/* "/datastores/NAME[/V][/...]" */
static int resolve_path(struct place *p, struct error *err)
{
	struct datastore_ref ref = {0};
	const char *name = p->value + strlen(ROOT), *next;
	size_t name_len = strcspn(name, "/"), len;
	int code = 0;

	if (name_len == 0 || is_attached(p->all, p->value))
		return 0;
	ref.name = format_text("%.*s", (int)name_len, name);
	next = name + name_len + strspn(name + name_len, "/");
	len = strcspn(next, "/");
	if (is_version(next, len)) {
		ref.version = format_text("%.*s", (int)len, next);
		ref.mount_dir = format_text(ROOT "%s/%s", ref.name, ref.version);
	} else {
		ref.mount_dir = format_text(ROOT "%s", ref.name);
	}
	if (!p->paths->is_taken(p->value, ref.mount_dir))
		code = attach_add(p->all, &ref, ATTACH_ARGUMENT, p->origin, "/", err);
	datastore_ref_done(&ref);
	return code;
}

/* *ret: what takes the value's place, borrowed; NULL: it stays. */
static int resolve(struct place *p, const char **ret, struct error *err)
{
	*ret = NULL;
	if (is_reference(p->value))
		return resolve_reference(p, ret, err);
	if (p->paths->wanted && begins_with(p->value, ROOT))
		return resolve_path(p, err);
	return 0;
}

int attach_arguments(struct attachments *all, struct strings *command,
	const struct attach_paths *paths, struct error *err)
{
	int code = 0;

	for (size_t i = 1; i < command->n && code == 0; i++) {
		char *word = command->v[i];
		const char *equals = begins_with(word, "--") ? strchr(word, '=') : NULL;
		struct place p = {.all = all,
			.paths = paths,
			.value = equals != NULL ? equals + 1 : word,
			.origin = format_text("argument %zu", i)};
		const char *directory;

		code = resolve(&p, &directory, err);
		if (code == 0 && directory != NULL) {
			command->v[i] =
				format_text("%.*s%s", (int)(p.value - word), word, directory);
			free(word);
		}
		free(p.origin);
	}
	return code;
}
