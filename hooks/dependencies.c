/* SPDX-License-Identifier: MIT */
/* Chooses the package manager for a dependency file and the environment to install into, from the
 * file's name, PATH and $CONDA_PREFIX alone. Loop thread; runs no program. */
#include "dependencies.h"
#include "defer.h"
#include <string.h>
#include <sys/stat.h>

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

/* The package manager for a file with this name, or NULL if the name does not determine it. */
static const char *manager_by_name(const char *file)
{
	if (ends_with(file, ".txt"))
		return "pip";
	return ends_with(file, ".yml") || ends_with(file, ".yaml") ? "conda" : NULL;
}

static int choose_manager(struct dependencies *d, const char *requested, struct error *err)
{
	const char *by_name = manager_by_name(d->file);

	if (requested == NULL && by_name == NULL)
		return error_set(err, -ERR_CONFIG,
			"cannot tell from its name whether pip or conda installs it: call it .txt for pip, .yml for conda (or say package_manager in config.yml)");
	if (requested != NULL && by_name != NULL && strcmp(requested, by_name) != 0)
		return error_set(err, -ERR_CONFIG,
			"package_manager is %s, but a file of this name is for %s: change one of the two",
			requested, by_name);
	d->manager = strcmp(requested != NULL ? requested : by_name, "pip") == 0 ? "pip" : "conda";
	return 0;
}

static int check_file(const char *file, struct error *err)
{
	_free_ char *here = getcwd(NULL, 0);
	struct stat st;

	if (stat(file, &st) < 0 || access(file, R_OK) < 0)
		return error_set(err, -ERR_CONFIG, "cannot read it: %m%s%s%s",
			*file == '/' ? "" : " (relative to the working directory, ",
			*file == '/'   ? ""
			: here != NULL ? here
				       : "?",
			*file == '/' ? "" : ")");
	if (S_ISDIR(st.st_mode))
		return error_set(err, -ERR_CONFIG, "it is a directory");
	return 0;
}

static void add_words(struct strings *to, const char *const *words)
{
	for (; *words != NULL; words++)
		text_strings_add(to, *words);
}

/* The path of the python3 that the command will use; heap, or NULL. Some images have only
 * "python". */
static char *find_python(const struct strings *env)
{
	char *python = process_find("python3", env->v);

	return python != NULL ? python : process_find("python", env->v);
}

static int plan_pip(struct dependencies *d, const struct strings *env, struct error *err)
{
	_free_ char *python = find_python(env);
	const char *path = environment_get(env, "PATH");

	if (python == NULL)
		return error_set(err, -ERR_CONFIG,
			"pip needs python3, which is not in PATH (%s): install it in the image",
			path != NULL ? path : "unset");
	add_words(&d->argv,
		(const char *[]){python, "-m", "pip", "install", "--requirement", d->file, NULL});
	/* find_spec() takes a tenth of the time of an import of pip. */
	add_words(&d->check,
		(const char *[]){python, "-c",
			"import importlib.util as u, sys; sys.exit(not u.find_spec('pip'))", NULL});
	return 0;
}

static bool is_conda_prefix(const char *prefix)
{
	_free_ char *meta = text_format("%s/conda-meta", prefix);
	struct stat st;

	return stat(meta, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The conda environment that the command will use; heap, or NULL. It is the one that contains the
 * command's python, or else an activated one, which may have no python yet. The name in the
 * environment file is ignored, because the command does not use that environment. */
static char *find_prefix(const struct strings *env)
{
	const char *active = environment_get(env, "CONDA_PREFIX");
	char *python = find_python(env);
	char *name = python != NULL ? strrchr(python, '/') : NULL;

	if (name != NULL && name - python > 4 && strncmp(name - 4, "/bin", 4) == 0) {
		name[-4] = '\0';
		if (is_conda_prefix(python))
			return python;
	}
	free(python);
	return active != NULL && is_conda_prefix(active) ? text_copy(active) : NULL;
}

static char *find_conda(const struct strings *env, const char **ret_name)
{
	static const char *const names[] = {"conda", "mamba", "micromamba"};
	char *program = NULL;

	for (size_t i = 0; i < ARRAY_LEN(names) && program == NULL; i++) {
		program = process_find(names[i], env->v);
		*ret_name = names[i];
	}
	return program;
}

static int plan_conda(struct dependencies *d, const struct strings *env, struct error *err)
{
	_free_ char *program = find_conda(env, &d->manager);
	_free_ char *prefix = find_prefix(env);
	const char *path = environment_get(env, "PATH");

	if (program == NULL)
		return error_set(err, -ERR_CONFIG,
			"neither conda nor mamba nor micromamba is in PATH (%s): install one in the image, or give pip a requirements.txt",
			path != NULL ? path : "unset");
	if (prefix == NULL)
		return error_set(err, -ERR_CONFIG,
			"the command would not use a conda environment: neither is the python3 of PATH in one, nor is $CONDA_PREFIX one; in the image: ENV PATH=/opt/conda/bin:$PATH");
	text_strings_add(&d->argv, program);
	if (strcmp(d->manager, "micromamba") == 0)
		add_words(&d->argv, (const char *[]){"install", "--yes", NULL});
	else
		add_words(&d->argv, (const char *[]){"env", "update", NULL});
	add_words(&d->argv, (const char *[]){"--prefix", prefix, "--file", d->file, NULL});
	return 0;
}

int dependencies_find(const char *file, const char *manager, const char *origin,
	const struct strings *environment, struct dependencies **ret, struct error *err)
{
	struct dependencies *d = zalloc(sizeof(*d));
	int code;

	d->file = text_copy(file);
	d->origin = text_copy(origin);
	code = choose_manager(d, manager, err);
	if (code == 0)
		code = check_file(file, err);
	if (code == 0)
		code = strcmp(d->manager, "pip") == 0 ? plan_pip(d, environment, err)
						      : plan_conda(d, environment, err);
	if (code < 0) {
		dependencies_free(d);
		error_item(err, "%s", file);
		error_prefix(err, "dependencies: %s (%s)", file, origin);
		return code;
	}
	*ret = d;
	return 0;
}

int dependencies_refresh(
	struct dependencies **d, const struct strings *environment, struct error *err)
{
	const struct dependencies *old = *d;
	const char *manager = strcmp(old->manager, "pip") == 0 ? "pip" : "conda";
	struct dependencies *found;
	int code = dependencies_find(old->file, manager, old->origin, environment, &found, err);

	if (code < 0)
		return code;
	dependencies_free(*d);
	*d = found;
	return 0;
}

void dependencies_free(struct dependencies *d)
{
	if (d == NULL)
		return;
	free(d->file);
	free(d->origin);
	text_strings_done(&d->argv);
	text_strings_done(&d->check);
	free(d);
}

char *dependencies_command(const struct dependencies *d)
{
	struct text t = {0};

	for (size_t i = 0; i < d->argv.n; i++)
		text_addf(&t, "%s%s", i > 0 ? " " : "", d->argv.v[i]);
	return text_take(&t);
}
