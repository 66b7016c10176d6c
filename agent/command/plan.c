/* SPDX-License-Identifier: MIT */
/* From config.yml, options, --list files and the environment to a plan. Loop thread, before any
 * other thread starts. The only I/O is reading config.yml and the lists, and looking for
 * directories that the command's arguments name. */
#include "plan.h"
#include "agent.h"
#include "contract.h"
#include "datastore.h"
#include "datastore_ref.h"
#include "defer.h"
#include "log.h"
#include "process.h"
#include "source.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Expands "${VAR}" from the run's environment. */
static int plan_expand(struct plan *p, const char *text, char **ret, struct error *err)
{
	return agent_expand(text, &p->environment, ret, err);
}

/* The --list files: one source or datastore in each line. */

/* The file that is read. */
struct stage_list {
	struct plan *plan;
	const char *name; /* for messages */
	unsigned line;
	const char *cwd;
};

static char *trim(char *s)
{
	size_t len;

	s += strspn(s, " \t");
	for (len = strlen(s); len > 0 && strchr(" \t\r\n", s[len - 1]) != NULL; len--)
		s[len - 1] = '\0';
	return s;
}

static int add_datastore(
	struct stage_list *l, const char *text, const char *origin, struct error *err)
{
	struct datastore_ref ref = {0};
	int code = datastore_ref_parse(text, &ref, err);

	if (code < 0)
		return error_prefix(err, "%s", origin);
	code = attach_add(&l->plan->attached, &ref, ATTACH_OPTION, origin, l->cwd, err);
	datastore_ref_done(&ref);
	return code;
}

/* A word without '/' and '=' is most likely the name of a datastore. */
static const char *advise_datastore(const char *text)
{
	return strpbrk(text, "/=") == NULL ? "; a datastore is written datastore:NAME[:V][=DIR]"
					   : "";
}

static int add_source(struct stage_list *l, const char *text, const char *origin, struct error *err)
{
	struct plan *p = l->plan;
	struct stage_spec spec;
	int code = stage_spec_parse(text, &spec, err);

	if (code < 0) {
		struct error why = *err;

		return error_set(err, code, "%s: %s%s", origin, why.msg, advise_datastore(text));
	}
	spec.origin = text_copy(origin);
	p->listed = reallocarray(p->listed, p->n_listed + 1, sizeof(*p->listed));
	if (p->listed == NULL)
		abort();
	p->listed[p->n_listed++] = spec;
	return 0;
}

static int add_list_line(struct stage_list *l, const char *written, struct error *err)
{
	_free_ char *origin = text_format("%s:%u", l->name, l->line);
	_free_ char *text = NULL;
	int code = plan_expand(l->plan, written, &text, err);

	if (code < 0)
		return error_prefix(err, "%s", origin);
	if (datastore_ref_is_written_source(text))
		return add_datastore(l, strchr(text, ':') + 1, origin, err);
	return add_source(l, text, origin, err);
}

static int read_lines(struct stage_list *l, FILE *file, struct error *err)
{
	_free_ char *buf = NULL;
	size_t cap = 0;
	ssize_t len;
	int code = 0;

	while (code == 0 && (len = getline(&buf, &cap, file)) >= 0) {
		bool cut = strlen(buf) != (size_t)len;
		char *text = trim(buf);

		l->line++;
		if (cut)
			return error_set(err, -ERR_CONFIG,
				"%s:%u: there is a zero byte in it; is this a list?", l->name,
				l->line);
		if (*text != '\0' && *text != '#')
			code = add_list_line(l, text, err);
	}
	if (code == 0 && ferror(file))
		code = error_set(err, -errno, "cannot read %s: %m", l->name);
	return code;
}

static int read_list(struct plan *p, const char *path, const char *cwd, struct error *err)
{
	bool is_stdin = strcmp(path, "-") == 0;
	struct stage_list l = {.plan = p, .name = is_stdin ? "standard input" : path, .cwd = cwd};
	FILE *file = is_stdin ? stdin : fopen(path, "re");
	int code;

	if (file == NULL)
		return error_set(err, -errno, "--list: cannot open %s: %m", path);
	code = read_lines(&l, file, err);
	if (!is_stdin)
		fclose(file);
	return code;
}

int plan_lists(struct plan *p, const struct request *r, struct error *err)
{
	char cwd[PATH_MAX];
	int code = 0;

	if (getcwd(cwd, sizeof(cwd)) == NULL)
		snprintf(
			cwd, sizeof(cwd), "."); /* relative directories fail when they are staged */
	for (size_t i = 0; i < r->lists.n && code == 0; i++)
		code = read_list(p, r->lists.v[i], cwd, err);
	return code;
}

/* Datastores by name. */

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

/* The three options of Grid describe one datastore. */
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

static int expand_optional(struct plan *p, const char *text, char **ret, struct error *err)
{
	return text == NULL ? 0 : plan_expand(p, text, ret, err);
}

static int attach_config_ref(
	struct plan *p, const struct datastore_ref *written, const char *cwd, struct error *err)
{
	_free_ char *origin = text_format("%s:%u", p->runfile->path, written->line);
	struct datastore_ref ref = {0};
	int code = expand_optional(p, written->name, &ref.name, err);

	if (code == 0)
		code = expand_optional(p, written->version, &ref.version, err);
	if (code == 0)
		code = expand_optional(p, written->mount_dir, &ref.mount_dir, err);
	if (code < 0)
		error_prefix(err, "%s", origin);
	else
		code = attach_add(&p->attached, &ref, ATTACH_CONFIG, origin, cwd, err);
	datastore_ref_done(&ref);
	return code;
}

/* A directory that an agent has staged as a whole has a record beside it; see destination.h. */
static bool is_staged(const char *dir)
{
	const char *slash = strrchr(dir, '/');
	_free_ char *record =
		text_format("%.*s/.stagerun/%s/whole.json", (int)(slash - dir), dir, slash + 1);

	return access(record, F_OK) == 0;
}

static bool is_version(const char *name)
{
	return datastore_ref_is_number(name, strlen(name));
}

/* Whether the directory has an entry; unless version is NULL, one for which version() is true. */
static bool has_entry(const char *dir, bool (*version)(const char *name))
{
	_closedir_ DIR *d = opendir(dir);
	const struct dirent *e;
	bool found = false;

	/* NOLINTNEXTLINE(concurrency-mt-unsafe): a DIR of our own */
	while (d != NULL && !found && (e = readdir(d)) != NULL)
		found = version != NULL
				? version(e->d_name)
				: strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	return found;
}

/* An empty directory, which a failed stage or an image may have left, does not count. A directory
 * that cannot be read does. */
static bool is_there(const char *path)
{
	_closedir_ DIR *d = opendir(path);

	return d != NULL ? has_entry(path, NULL) : access(path, F_OK) == 0;
}

/* Whether versions of the datastore were staged there, as /datastores/NAME/V. */
static bool holds_versions(const char *dir)
{
	_free_ char *state = text_format("%s/.stagerun", dir);

	return has_entry(state, is_version);
}

/* A directory that holds staged versions counts as free, although nothing can be staged around
 * them: then the stage fails with a message, rather than that the datastore is silently not
 * attached. */
static bool is_taken(const char *path, const char *dir)
{
	if (strcmp(path, dir) == 0 && holds_versions(dir))
		return false;
	return is_there(path) && !is_staged(dir);
}

/* Fills p->attached, sets its variables in p->environment, and replaces references in p->command by
 * directories. */
static int plan_attach(
	struct plan *p, const struct request *r, const struct settings *s, struct error *err)
{
	const struct attach_paths paths = {
		.wanted = agent_has_store(s), .is_taken = is_taken, .is_there = is_there};
	const struct runfile *f = p->runfile;
	char cwd[PATH_MAX];
	int code;

	if (getcwd(cwd, sizeof(cwd)) == NULL)
		snprintf(
			cwd, sizeof(cwd), "."); /* relative directories fail when they are staged */
	code = attach_grid_option(p, r, cwd, err);
	for (size_t i = 0; i < r->datastores.n && code == 0; i++)
		code = attach_option(p, r->datastores.v[i], cwd, err);
	for (size_t i = 0; f != NULL && i < f->n_datastores && code == 0; i++)
		code = attach_config_ref(p, &f->datastores[i], cwd, err);
	if (code == 0)
		code = attach_arguments(&p->attached, &p->command, &paths, err);
	if (code < 0)
		return code;
	environment_unset(&p->environment, "STAGERUN_DATASTORES"); /* set by another agent */
	attach_set_directories(&p->attached, &p->environment);
	return 0;
}

/* The plan. */

static void set_assignment(struct strings *environment, const char *assignment)
{
	const char *equals = strchr(assignment, '=');
	_free_ char *name = text_format("%.*s", (int)(equals - assignment), assignment);

	environment_set(environment, name, equals + 1);
}

static void build_environment(struct plan *p, const struct settings *s)
{
	environment_copy(&p->environment, environ);
	for (size_t i = 0; p->runfile != NULL && i < p->runfile->environment.n; i++)
		set_assignment(&p->environment, p->runfile->environment.v[i]);
	contract_set_aliases(&p->environment);
	settings_hide_secrets(s, p->environment.v);
}

static void copy_strings(struct strings *to, const struct strings *from)
{
	for (size_t i = 0; i < from->n; i++)
		text_strings_add(to, from->v[i]);
}

/* Copies what --stage or a list can set. */
static void copy_spec(struct stage_spec *to, const struct stage_spec *from)
{
	*to = (struct stage_spec){.to = text_copy(from->to), .origin = text_copy(from->origin)};
	for (size_t i = 0; i < from->n_sources; i++)
		stage_spec_add_source(to, from->sources[i].url, from->sources[i].sha256);
}

static int check_source(char **url, struct error *err)
{
	_free_ char *name = NULL;
	int code = datastore_ref_normalize(url, err);

	if (code == 0 && datastore_ref_is_source(*url)) {
		name = datastore_ref_source_name(*url);
		code = datastore_name_check(name, err);
	}
	return code < 0 ? code : source_check(*url, err);
}

/* Checks and completes the last spec of the head. */
static int finish_spec(struct plan *p, struct error *err)
{
	struct stage_spec *spec = &p->head[p->n_head - 1];
	int code = 0;

	for (size_t i = 0; i < spec->n_sources && code == 0; i++)
		code = check_source(&spec->sources[i].url, err);
	if (code < 0)
		return error_prefix(err, "%s", spec->origin);
	if (p->runfile != NULL)
		agent_limit_stage(p->runfile, spec);
	return 0;
}

static int add_item(struct plan *p, const struct action *a, struct error *err)
{
	struct stage_spec *spec = &p->head[p->n_head];
	int code = agent_stage_spec(&a->stage, &p->environment, spec, err);

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
	text_strings_add(destinations, to);
}

static int build_head(
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
	for (size_t i = 0; r->replace && i < p->n_head; i++)
		p->head[i].replace = true;
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
				p->runfile->path, a->v[0].line, runfile_point_name(point));
	}
}

static void build_command(struct plan *p, char *const *words)
{
	for (; *words != NULL; words++)
		text_strings_add(&p->command, *words);
	if (p->command.n > 0 && p->runfile != NULL)
		copy_strings(&p->command, &p->runfile->params);
}

static int read_config(
	const struct request *r, const struct settings *s, struct plan *ret, struct error *err)
{
	_free_ char *variable = NULL;
	const char *config = r->config;
	int code = 0;

	*ret = (struct plan){0};
	if (config == NULL) {
		code = settings_variable_read("STAGERUN_CONFIG", "", &variable, err);
		config = variable;
	}
	if (code < 0 || config == NULL || config[0] == '\0')
		return code;
	return runfile_read(config, s->strict, &ret->runfile, err);
}

/* The option's file, or else config.yml's. Prewarm leaves the install to the run, since it is made
 * in the environment of the run. */
static int find_dependencies(struct plan *p, const struct request *r, struct error *err)
{
	const struct runfile *f = p->runfile;
	bool is_option = r->dependency_file != NULL;
	const char *file = is_option ? r->dependency_file : f != NULL ? f->dependency_file : NULL;
	_free_ char *origin = is_option || f == NULL
				      ? text_copy("--dependency_file")
				      : text_format("%s:%u", f->path, f->dependency_line);

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
	int code = read_config(r, s, ret, err);

	if (code < 0)
		return code;
	build_environment(ret, s);
	build_command(ret, words);
	mention_build_points(ret);
	code = plan_lists(ret, r, err);
	if (code == 0)
		code = plan_attach(ret, r, s, err);
	if (code == 0)
		code = find_dependencies(ret, r, err);
	if (code == 0)
		code = build_head(ret, r, POINT_EXPERIMENT_START, err);
	return code < 0 ? code : stage_specs_check(ret->head, ret->n_head, err);
}

int plan_make_point(const struct request *r, const struct settings *s, enum lifecycle_point point,
	struct plan *ret, struct error *err)
{
	int code = read_config(r, s, ret, err);

	if (code < 0)
		return code;
	if (ret->runfile == NULL)
		return error_set(err, -ERR_USAGE,
			"no config.yml, so there are no actions: name it with --config or $STAGERUN_CONFIG");
	build_environment(ret, s);
	code = build_head(ret, r, point, err);
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
	attach_done(&p->attached);
	dependencies_free(p->dependencies);
	text_strings_done(&p->destinations);
	text_strings_done(&p->command);
	text_strings_done(&p->environment);
	runfile_free(p->runfile);
}
