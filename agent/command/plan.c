/* SPDX-License-Identifier: MIT */
/* From config.yml, options and environment to a plan. No I/O but reading config.yml and lists. */
#include "plan.h"
#include "contract.h"
#include "datastore.h"
#include "defer.h"
#include "log.h"
#include "process.h"
#include "source.h"
#include <string.h>

static void set_assignment(struct strings *environment, const char *assignment)
{
	const char *equals = strchr(assignment, '=');
	_free_ char *name = format_text("%.*s", (int)(equals - assignment), assignment);

	environment_set(environment, name, equals + 1);
}

static void make_environment(struct plan *p, const struct settings *s)
{
	environment_copy(&p->environment, environ);
	for (size_t i = 0; p->runfile != NULL && i < p->runfile->environment.n; i++)
		set_assignment(&p->environment, p->runfile->environment.v[i]);
	contract_set_twins(&p->environment);
	settings_hide_secrets(s, p->environment.v);
}

static const char *lookup(void *environment, const char *name)
{
	return environment_get(environment, name);
}

int plan_expand(struct plan *p, const char *text, char **ret, struct error *err)
{
	return runfile_expand(text, lookup, &p->environment, ret, err);
}

static void copy_strings(struct strings *to, const struct strings *from)
{
	for (size_t i = 0; i < from->n; i++)
		strings_add(to, from->v[i]);
}

/* From --stage. */
static void copy_spec(struct stage_spec *to, const struct stage_spec *from)
{
	*to = (struct stage_spec){.to = copy_text(from->to), .origin = copy_text(from->origin)};
	for (size_t i = 0; i < from->n_sources; i++)
		stage_spec_add_source(to, from->sources[i].url, from->sources[i].sha256);
}

static int check_source(char **url, struct error *err)
{
	_free_ char *name = NULL;
	int code = datastore_source(url, err);

	if (code == 0 && strncmp(*url, "datastore:", 10) == 0) {
		name = format_text("%.*s", (int)strcspn(*url + 10, ":"), *url + 10);
		code = datastore_name_check(name, err);
	}
	return code < 0 ? code : source_check(*url, err);
}

/* The last of the head. */
static int finish_spec(struct plan *p, struct error *err)
{
	struct stage_spec *spec = &p->head[p->n_head - 1];
	int code = 0;

	for (size_t i = 0; i < spec->n_sources && code == 0; i++)
		code = check_source(&spec->sources[i].url, err);
	if (code < 0)
		return error_prefix(err, "%s", spec->origin);
	if (p->runfile != NULL)
		runfile_limit_stage(p->runfile, spec);
	return 0;
}

static int add_item(struct plan *p, const struct action *a, struct error *err)
{
	struct stage_spec *spec = &p->head[p->n_head];
	int code = runfile_stage(a, lookup, &p->environment, spec, err);

	if (code < 0)
		return error_prefix(err, "%s", a->stage.origin);
	p->n_head++;
	return finish_spec(p, err);
}

static int add_option(struct plan *p, const struct stage_spec *from, struct error *err)
{
	copy_spec(&p->head[p->n_head++], from);
	return finish_spec(p, err);
}

static void add_destination(struct strings *destinations, const char *to)
{
	for (size_t i = 0; i < destinations->n; i++) {
		if (strcmp(destinations->v[i], to) == 0)
			return;
	}
	strings_add(destinations, to);
}

/* Attached datastores, options and the stage items before the first shell action: they run together. */
static int make_head(
	struct plan *p, const struct request *r, enum lifecycle_point point, struct error *err)
{
	const struct actions *start = plan_actions(p, point);
	int code = 0;

	p->head = zalloc((p->attached.n + r->n_stages + p->n_listed + start->n) * sizeof(*p->head));
	for (size_t i = 0; i < p->attached.n && code == 0; i++) {
		attach_spec(&p->attached.v[i], &p->head[p->n_head++]);
		code = finish_spec(p, err);
	}
	for (size_t i = 0; i < r->n_stages && code == 0; i++)
		code = add_option(p, &r->stages[i], err);
	for (size_t i = 0; i < p->n_listed && code == 0; i++)
		code = add_option(p, &p->listed[i], err);
	for (; p->first_action < start->n && code == 0; p->first_action++) {
		const struct action *a = &start->v[p->first_action];

		if (a->kind != ACTION_STAGE)
			break;
		code = add_item(p, a, err);
	}
	for (size_t i = 0; i < p->n_head; i++)
		add_destination(&p->destinations, p->head[i].to);
	return code;
}

const struct actions *plan_actions(const struct plan *p, enum lifecycle_point point)
{
	static const struct actions none;

	return p->runfile != NULL ? &p->runfile->actions[point] : &none;
}

static void mention_build_points(const struct plan *p)
{
	for (int point = POINT_BUILD_START; point <= POINT_BUILD_END; point++) {
		const struct actions *a = plan_actions(p, point);

		if (a->n > 0)
			log_info("%s:%u: %s actions belong to the image build and are not run here",
				p->runfile->path, a->v[0].line, lifecycle_point_name(point));
	}
}

static void make_command(struct plan *p, char *const *words)
{
	for (; *words != NULL; words++)
		strings_add(&p->command, *words);
	if (p->command.n > 0 && p->runfile != NULL)
		copy_strings(&p->command, &p->runfile->params);
}

static int read_config(const struct request *r, struct plan *ret, struct error *err)
{
	const char *config = r->config != NULL ? r->config : getenv("STAGERUN_CONFIG");

	*ret = (struct plan){0};
	if (config == NULL || config[0] == '\0')
		return 0;
	return runfile_read(config, &ret->runfile, err);
}

/* The option's file, or else config.yml's. Prewarm leaves it to the run, whose environment it is for. */
static int find_dependencies(struct plan *p, const struct request *r, struct error *err)
{
	const struct runfile *f = p->runfile;
	bool is_option = r->dependency_file != NULL;
	const char *file = is_option ? r->dependency_file : f != NULL ? f->dependency_file : NULL;
	_free_ char *origin = is_option || f == NULL
				      ? copy_text("--dependency_file")
				      : format_text("%s:%u", f->path, f->dependency_line);

	if (file == NULL)
		return 0;
	if (p->command.n == 0) {
		log_info("prewarm installs no dependencies: %s (%s) is left to the run", file,
			origin);
		return 0;
	}
	return dependencies_find(file, is_option ? NULL : f->package_manager, origin,
		&p->environment, &p->dependencies, err);
}

int plan_make(const struct request *r, const struct settings *s, char *const *words,
	struct plan *ret, struct error *err)
{
	int code = read_config(r, ret, err);

	if (code < 0)
		return code;
	make_environment(ret, s);
	make_command(ret, words);
	mention_build_points(ret);
	code = plan_lists(ret, r, err);
	if (code == 0)
		code = plan_attach(ret, r, s, err);
	if (code == 0)
		code = find_dependencies(ret, r, err);
	if (code == 0)
		code = make_head(ret, r, POINT_EXPERIMENT_START, err);
	return code < 0 ? code : stage_specs_check(ret->head, ret->n_head, err);
}

int plan_make_point(const struct request *r, const struct settings *s, enum lifecycle_point point,
	struct plan *ret, struct error *err)
{
	int code = read_config(r, ret, err);

	if (code < 0)
		return code;
	if (ret->runfile == NULL)
		return error_set(err, -ERR_USAGE,
			"no config.yml, so there are no actions: name it with --config or "
			"$STAGERUN_CONFIG");
	make_environment(ret, s);
	code = make_head(ret, r, point, err);
	return code < 0 ? code : stage_specs_check(ret->head, ret->n_head, err);
}

void plan_done(struct plan *p)
{
	for (size_t i = 0; i < p->n_head; i++)
		stage_spec_done(&p->head[i]);
	free(p->head);
	for (size_t i = 0; i < p->n_listed; i++)
		stage_spec_done(&p->listed[i]);
	free(p->listed);
	attachments_done(&p->attached);
	dependencies_free(p->dependencies);
	strings_done(&p->destinations);
	strings_done(&p->command);
	strings_done(&p->environment);
	runfile_free(p->runfile);
}
