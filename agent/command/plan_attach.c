/* SPDX-License-Identifier: MIT */
/* Datastores by name: from options, config.yml and the command's arguments into the plan. */
#include "defer.h"
#include "plan.h"
#include "process.h"
#include <limits.h>
#include <string.h>

static int attach_option(struct plan *p, const char *text, const char *cwd, struct error *err)
{
	struct datastore_ref ref = {0};
	int code = datastore_ref_parse(text, &ref, err);

	if (code < 0)
		return error_prefix(err, "--datastore");
	code = attach_add(&p->attached, &ref, ATTACH_OPTION, "--datastore", cwd, err);
	datastore_ref_done(&ref);
	return code;
}

/* Grid's three options are one datastore. */
static int attach_grid_option(
	struct plan *p, const struct request *r, const char *cwd, struct error *err)
{
	struct datastore_ref ref = {.name = (char *)r->datastore_name,
		.version = (char *)r->datastore_version,
		.mount_dir = (char *)r->datastore_mount_dir};

	if (ref.name != NULL)
		return attach_add(&p->attached, &ref, ATTACH_OPTION, "--datastore_name", cwd, err);
	if (ref.version != NULL || ref.mount_dir != NULL)
		return error_set(err, -ERR_USAGE, "%s needs --datastore_name",
			ref.version != NULL ? "--datastore_version" : "--datastore_mount_dir");
	return 0;
}

static int expand(struct plan *p, const char *text, char **ret, struct error *err)
{
	return text == NULL ? 0 : plan_expand(p, text, ret, err);
}

static int attach_written(
	struct plan *p, const struct datastore_ref *written, const char *cwd, struct error *err)
{
	_free_ char *origin = format_text("%s:%u", p->runfile->path, written->line);
	struct datastore_ref ref = {0};
	int code = expand(p, written->name, &ref.name, err);

	if (code == 0)
		code = expand(p, written->version, &ref.version, err);
	if (code == 0)
		code = expand(p, written->mount_dir, &ref.mount_dir, err);
	if (code < 0)
		error_prefix(err, "%s", origin);
	else
		code = attach_add(&p->attached, &ref, ATTACH_CONFIG, origin, cwd, err);
	datastore_ref_done(&ref);
	return code;
}

/* A directory that was staged whole by an agent is described beside it; see publish.h. */
static bool is_staged(const char *dir)
{
	const char *slash = strrchr(dir, '/');
	_free_ char *record =
		format_text("%.*s/.stagerun/%s/whole.json", (int)(slash - dir), dir, slash + 1);

	return access(record, F_OK) == 0;
}

static bool is_taken(const char *path, const char *dir)
{
	return access(path, F_OK) == 0 && !is_staged(dir);
}

int plan_attach(
	struct plan *p, const struct request *r, const struct settings *s, struct error *err)
{
	const struct attach_paths paths = {.wanted = s->store[0] != '\0', .is_taken = is_taken};
	const struct runfile *f = p->runfile;
	char cwd[PATH_MAX];
	int code;

	if (getcwd(cwd, sizeof(cwd)) == NULL)
		snprintf(cwd, sizeof(cwd), "."); /* what is relative fails where it is staged */
	code = attach_grid_option(p, r, cwd, err);
	for (size_t i = 0; i < r->datastores.n && code == 0; i++)
		code = attach_option(p, r->datastores.v[i], cwd, err);
	for (size_t i = 0; f != NULL && i < f->n_datastores && code == 0; i++)
		code = attach_written(p, &f->datastores[i], cwd, err);
	if (code == 0)
		code = attach_arguments(&p->attached, &p->command, &paths, err);
	if (code < 0)
		return code;
	environment_unset(&p->environment, "STAGERUN_DATASTORES"); /* another agent's */
	attach_set_directories(&p->attached, &p->environment);
	return 0;
}
