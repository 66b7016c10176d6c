/* SPDX-License-Identifier: MIT */
/* The list of what is attached, and what the run is told about it. */
#include "attach.h"
#include "datastore.h"
#include "defer.h"
#include "log.h"
#include "process.h"
#include <ctype.h>
#include <jansson.h>
#include <string.h>

#define LIST_VARIABLE "STAGERUN_DATASTORES"

static void attachment_done(struct attachment *a)
{
	free(a->name);
	free(a->version);
	free(a->to);
	free(a->origin);
}

void attachments_done(struct attachments *all)
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

/* Two want one directory. */
static int merge(struct attachment *had, struct attachment *more, struct error *err)
{
	bool same = strcmp(had->name, more->name) == 0 && same_version(had, more);

	if (!same && had->rank == more->rank)
		return error_set(err, -ERR_USAGE,
			"%s (datastore %s, %s) and %s (datastore %s, %s) both want %s; give one of "
			"them another directory: --datastore NAME:VERSION=DIR",
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

static void append(struct attachments *all, const struct attachment *a)
{
	all->v = reallocarray(all->v, all->n + 1, sizeof(*all->v));
	if (all->v == NULL)
		abort();
	all->v[all->n++] = *a;
}

static int insert(struct attachments *all, struct attachment *a, struct error *err)
{
	for (size_t i = 0; i < all->n; i++) {
		if (strcmp(all->v[i].to, a->to) == 0) {
			int code = merge(&all->v[i], a, err);

			attachment_done(a);
			return code;
		}
	}
	append(all, a);
	return 0;
}

static char *without_last_slashes(const char *dir)
{
	size_t len = strlen(dir);

	while (len > 1 && dir[len - 1] == '/')
		len--;
	return format_text("%.*s", (int)len, dir);
}

static char *directory(const char *dir, const char *name, const char *cwd)
{
	_free_ char *joined = NULL;

	if (dir == NULL)
		return format_text("/datastores/%s", name);
	if (dir[0] == '/')
		return without_last_slashes(dir);
	joined = format_text("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, dir);
	return without_last_slashes(joined);
}

int attach_add(struct attachments *all, const struct datastore_ref *ref, enum attach_rank rank,
	const char *origin, const char *cwd, struct error *err)
{
	const char *name = datastore_ref_plain_name(ref->name);
	struct attachment a;
	uint64_t version;

	if (datastore_name_check(name, err) < 0 ||
		(ref->version != NULL && parse_uint(ref->version, INT32_MAX, &version, err) < 0)) {
		error_prefix(err, "%s", origin);
		return err != NULL ? (err->code = -ERR_USAGE) : -ERR_USAGE;
	}
	if (name != ref->name)
		log_info("%s: datastore '%s': one store has one owner, so that the user is "
			 "ignored",
			origin, ref->name);
	a = (struct attachment){.name = copy_text(name),
		.version = copy_text(ref->version),
		.to = directory(ref->mount_dir, name, cwd),
		.origin = copy_text(origin),
		.rank = rank};
	return insert(all, &a, err);
}

void attach_spec(const struct attachment *a, struct stage_spec *ret)
{
	_free_ char *url = format_text("datastore:%s%s%s", a->name, a->version != NULL ? ":" : "",
		a->version != NULL ? a->version : "");

	*ret = (struct stage_spec){.to = copy_text(a->to),
		.origin = copy_text(a->origin),
		.read_only = true,
		.renew = true};
	stage_spec_add_source(ret, url, NULL);
}

static char *variable_name(const char *name)
{
	char *variable = format_text("STAGERUN_DATASTORE_%s", name);

	for (char *c = variable; *c != '\0'; c++)
		*c = isalnum((unsigned char)*c) ? (char)toupper((unsigned char)*c) : '_';
	return variable;
}

/* Backwards, so that the first has the last word. */
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
	json_t *o = json_pack("{s:s, s:I, s:s, s:s}", "name", d->name, "version",
		(json_int_t)d->version, "manifest_sha256", d->manifest_sha256, "directory", d->to);
	_free_ char *line = json_dumps(o, JSON_COMPACT);
	_free_ char *lines = NULL;

	json_decref(o);
	if (line == NULL)
		return; /* a directory's name that is not UTF-8 */
	lines = format_text(
		"%s%s%s", before != NULL ? before : "", before != NULL ? "\n" : "", line);
	environment_set(environment, LIST_VARIABLE, lines);
}
