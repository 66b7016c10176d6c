/* SPDX-License-Identifier: MIT */
/* Datastores by name: those that the command's arguments name, the list of attached ones, and the
 * variables that describe them to the run. */
#include "datastore.h"
#include "datastore_ref.h"
#include "defer.h"
#include "log.h"
#include "options.h"
#include "plan.h"
#include "process.h"
#include <ctype.h>
#include <string.h>

#define ROOT "/datastores/"

/* An argument that may name a datastore. */
struct attach_target {
	struct attachments *all;
	const struct attach_paths *paths;
	const char *value; /* the whole word, or what follows "--x=" */
	char *origin;
};

/* "grid://host" and the like are not references. */
static bool is_reference(const char *value)
{
	const char *name = strchr(value, ':');
	const char *last = strrchr(value, ':');

	if (datastore_ref_is_source(value))
		return name[1] != '\0' && strpbrk(value, "/= ") == NULL;
	return datastore_ref_is_written_source(value) && last != name &&
	       datastore_ref_is_number(last + 1, strlen(last + 1));
}

static bool satisfies(const struct attachment *a, const struct datastore_ref *ref)
{
	if (strcmp(a->name, datastore_ref_plain_name(ref->name)) != 0)
		return false;
	return ref->version == NULL ||
	       (a->version != NULL && strcmp(a->version, ref->version) == 0);
}

static const struct attachment *find_attachment(
	const struct attachments *all, const struct datastore_ref *ref)
{
	for (size_t i = 0; i < all->n; i++) {
		if (satisfies(&all->v[i], ref))
			return &all->v[i];
	}
	return NULL;
}

/* *ret: the directory (borrowed). */
static int resolve_reference(struct attach_target *p, const char **ret, struct error *err)
{
	struct datastore_ref ref = {0};
	const struct attachment *a;
	int code = datastore_ref_parse(strchr(p->value, ':') + 1, &ref, err);

	if (code < 0)
		return error_prefix(err, "%s", p->origin);
	a = find_attachment(p->all, &ref);
	if (a == NULL) {
		code = attach_add(p->all, &ref, ATTACH_ARGUMENT, p->origin, "/", err);
		a = code == 0 ? find_attachment(p->all, &ref) : NULL;
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

/* Whether an earlier argument attached a directory that contains dir, and so another version.
 * Staging reports that one directory lies in the other. */
static bool is_other_version(const struct attachment *a, const char *dir)
{
	return a->rank == ATTACH_ARGUMENT && strcmp(a->to, dir) != 0 && lies_in(dir, a->to);
}

static bool is_attached(const struct attachments *all, const char *path, const char *dir)
{
	for (size_t i = 0; i < all->n; i++) {
		if (lies_in(path, all->v[i].to) && !is_other_version(&all->v[i], dir))
			return true;
	}
	return false;
}

static void warn_missing(const struct attach_target *p)
{
	if (!p->paths->is_there(p->value))
		log_warn(
			"%s: %s is not there, and no store is configured that a datastore could come from: it is left as it is",
			p->origin, p->value);
}

/* "/datastores/NAME[/V][/...]" */
static int resolve_path(struct attach_target *p, struct error *err)
{
	struct datastore_ref ref = {0};
	const char *name = p->value + strlen(ROOT), *next;
	size_t name_len = strcspn(name, "/"), len;
	int code = 0;

	if (name_len == 0)
		return 0;
	ref.name = text_format("%.*s", (int)name_len, name);
	next = name + name_len + strspn(name + name_len, "/");
	len = strcspn(next, "/");
	if (datastore_ref_is_number(next, len)) {
		ref.version = text_format("%.*s", (int)len, next);
		ref.mount_dir = text_format(ROOT "%s/%s", ref.name, ref.version);
	} else {
		ref.mount_dir = text_format(ROOT "%s", ref.name);
	}
	if (!is_attached(p->all, p->value, ref.mount_dir) &&
		!p->paths->is_taken(p->value, ref.mount_dir))
		code = attach_add(p->all, &ref, ATTACH_ARGUMENT, p->origin, "/", err);
	datastore_ref_done(&ref);
	return code;
}

/* *ret: the replacement for the value (borrowed); NULL: it is not changed. */
static int resolve_argument(struct attach_target *p, const char **ret, struct error *err)
{
	*ret = NULL;
	if (is_reference(p->value))
		return resolve_reference(p, ret, err);
	if (!text_begins(p->value, ROOT))
		return 0;
	if (p->paths->wanted)
		return resolve_path(p, err);
	warn_missing(p);
	return 0;
}

int attach_arguments(struct attachments *all, struct strings *command,
	const struct attach_paths *paths, struct error *err)
{
	int code = 0;

	for (size_t i = 1; i < command->n && code == 0; i++) {
		char *word = command->v[i];
		const char *equals = text_begins(word, "--") ? strchr(word, '=') : NULL;
		struct attach_target p = {.all = all,
			.paths = paths,
			.value = equals != NULL ? equals + 1 : word,
			.origin = text_format("argument %zu", i)};
		const char *directory;

		code = resolve_argument(&p, &directory, err);
		if (code == 0 && directory != NULL) {
			command->v[i] =
				text_format("%.*s%s", (int)(p.value - word), word, directory);
			free(word);
		}
		free(p.origin);
	}
	return code;
}

/* The attached datastores. */

#define LIST_VARIABLE "STAGERUN_DATASTORES"

static void attachment_done(struct attachment *a)
{
	free(a->name);
	free(a->version);
	free(a->to);
	free(a->origin);
}

void attach_done(struct attachments *all)
{
	for (size_t i = 0; i < all->n; i++)
		attachment_done(&all->v[i]);
	free(all->v);
	*all = (struct attachments){0};
}

static bool same_version(const struct attachment *a, const struct attachment *b)
{
	if (a->version == NULL || b->version == NULL)
		return a->version == b->version;
	return strcmp(a->version, b->version) == 0;
}

static const char *shown_version(const struct attachment *a)
{
	return a->version != NULL ? a->version : "the newest version";
}

/* Merges two attachments to one directory: the higher rank wins. */
static int merge_attachment(struct attachment *had, struct attachment *more, struct error *err)
{
	bool same = strcmp(had->name, more->name) == 0 && same_version(had, more);

	if (!same && had->rank == more->rank)
		return error_set(err, -ERR_USAGE,
			"%s (datastore %s, %s) and %s (datastore %s, %s) both want %s; give one of them another directory: --datastore NAME:VERSION=DIR",
			had->origin, had->name, shown_version(had), more->origin, more->name,
			shown_version(more), had->to);
	if (more->rank > had->rank) {
		struct attachment loser = *had;

		*had = *more;
		*more = loser;
	}
	if (!same)
		log_info("%s wins over %s for %s", had->origin, more->origin, had->to);
	return 0;
}

static void append_attachment(struct attachments *all, const struct attachment *a)
{
	all->v = reallocarray(all->v, all->n + 1, sizeof(*all->v));
	if (all->v == NULL)
		abort();
	all->v[all->n++] = *a;
}

static int insert_attachment(struct attachments *all, struct attachment *a, struct error *err)
{
	for (size_t i = 0; i < all->n; i++) {
		if (strcmp(all->v[i].to, a->to) == 0) {
			int code = merge_attachment(&all->v[i], a, err);

			attachment_done(a);
			return code;
		}
	}
	append_attachment(all, a);
	return 0;
}

static char *absolute_directory(const char *dir, const char *name, const char *cwd)
{
	_free_ char *joined = NULL;

	if (dir == NULL)
		return text_format("/datastores/%s", name);
	if (dir[0] == '/')
		return text_without_slashes(dir);
	joined = text_format("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, dir);
	return text_without_slashes(joined);
}

int attach_add(struct attachments *all, const struct datastore_ref *ref, enum attach_rank rank,
	const char *origin, const char *cwd, struct error *err)
{
	const char *name = datastore_ref_plain_name(ref->name);
	struct attachment a;
	uint64_t version;

	if (datastore_name_check(name, err) < 0 ||
		(ref->version != NULL &&
			units_parse_uint(ref->version, INT32_MAX, &version, err) < 0)) {
		error_prefix(err, "%s", origin);
		return err != NULL ? (err->code = -ERR_USAGE) : -ERR_USAGE;
	}
	if (name != ref->name)
		log_info("%s: datastore '%s': one store has one owner, so that the user is ignored",
			origin, ref->name);
	a = (struct attachment){.name = text_copy(name),
		.version = text_copy(ref->version),
		.to = absolute_directory(ref->mount_dir, name, cwd),
		.origin = text_copy(origin),
		.rank = rank};
	return insert_attachment(all, &a, err);
}

void attach_spec(const struct attachment *a, struct stage_spec *ret)
{
	_free_ char *url = datastore_ref_source(a->name, a->version);

	*ret = (struct stage_spec){.to = text_copy(a->to),
		.origin = text_copy(a->origin),
		.read_only = true,
		.renew = true};
	stage_spec_add_source(ret, url, NULL);
}

static char *variable_name(const char *name)
{
	char *variable = text_format("STAGERUN_DATASTORE_%s", name);

	for (char *c = variable; *c != '\0'; c++)
		*c = isalnum((unsigned char)*c) ? (char)toupper((unsigned char)*c) : '_';
	return variable;
}

/* Backwards, so that the first of those with the same variable wins. */
void attach_set_directories(const struct attachments *all, struct strings *environment)
{
	for (size_t i = all->n; i-- > 0;) {
		_free_ char *variable = variable_name(all->v[i].name);

		environment_set(environment, variable, all->v[i].to);
	}
}

void attach_add_provenance(const struct stage_datastore *d, struct strings *environment)
{
	const char *before = environment_get(environment, LIST_VARIABLE);
	struct text line = {0};
	_free_ char *lines = NULL;

	text_add(&line, "{");
	output_json_text(&line, "name", d->name);
	output_json_number(&line, "version", d->version);
	output_json_text(&line, "manifest_sha256", d->manifest_sha256);
	output_json_text(&line, "directory", d->to);
	text_add(&line, "}");
	lines = text_format(
		"%s%s%s", before != NULL ? before : "", before != NULL ? "\n" : "", line.s);
	environment_set(environment, LIST_VARIABLE, lines);
	text_done(&line);
}
