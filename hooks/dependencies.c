/* SPDX-License-Identifier: MIT */
/* Who installs a dependency file, and into which environment: decided from names and PATH alone. Loop
 * thread; runs nothing. */
#include "dependencies.h"
#include "defer.h"
#include <string.h>
#include <sys/stat.h>

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && strcmp(s + n - m, end) == 0;
}

/* The package manager that a file of this name is for; NULL: any. */
static const char *manager_by_name(const char *file)
{
	if (ends_with(file, ".txt"))
		return "pip";
	return ends_with(file, ".yml") || ends_with(file, ".yaml") ? "conda" : NULL;
}

static int choose_manager(struct dependencies *d, const char *wanted, struct error *err)
{
	const char *usual = manager_by_name(d->file);

	if (wanted == NULL && usual == NULL)
		return error_set(err, -ERR_CONFIG,
			"cannot tell from its name whether pip or conda installs it: call it .txt "
			"for pip, .yml for conda (or say package_manager in config.yml)");
	if (wanted != NULL && usual != NULL && strcmp(wanted, usual) != 0)
		return error_set(err, -ERR_CONFIG,
			"package_manager is %s, but a file of this name is for %s: change one of "
			"the two",
			wanted, usual);
	d->manager = strcmp(wanted != NULL ? wanted : usual, "pip") == 0 ? "pip" : "conda";
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
		strings_add(to, *words);
}

/* What the command's "python3" will be; some images have it as "python" only. */
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
	/* A tenth of the time that importing pip takes. */
	add_words(&d->check,
		(const char *[]){python, "-c",
			"import importlib.util as u, sys; sys.exit(not u.find_spec('pip'))", NULL});
	return 0;
}

static bool is_conda_prefix(const char *prefix)
{
	_free_ char *meta = format_text("%s/conda-meta", prefix);
	struct stat st;

	return stat(meta, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The conda environment that the command will use, on the heap: the one whose python it finds, or an
 * activated one that has no python yet. Never the one that the file names: it is not the command's. */
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
	return active != NULL && is_conda_prefix(active) ? copy_text(active) : NULL;
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
			"neither conda nor mamba nor micromamba is in PATH (%s): install one in "
			"the image, or give pip a requirements.txt",
			path != NULL ? path : "unset");
	if (prefix == NULL)
		return error_set(err, -ERR_CONFIG,
			"the command would not use a conda environment: neither is the python3 of "
			"PATH in one, nor is $CONDA_PREFIX one; in the image: ENV "
			"PATH=/opt/conda/bin:$PATH");
	strings_add(&d->argv, program);
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
	int r;

	d->file = copy_text(file);
	d->origin = copy_text(origin);
	r = choose_manager(d, manager, err);
	if (r == 0)
		r = check_file(file, err);
	if (r == 0)
		r = strcmp(d->manager, "pip") == 0 ? plan_pip(d, environment, err)
						   : plan_conda(d, environment, err);
	if (r < 0) {
		dependencies_free(d);
		error_item(err, "%s", file);
		error_prefix(err, "dependencies: %s (%s)", file, origin);
		return r;
	}
	*ret = d;
	return 0;
}

int dependencies_find_again(
	struct dependencies **d, const struct strings *environment, struct error *err)
{
	const struct dependencies *old = *d;
	const char *manager = strcmp(old->manager, "pip") == 0 ? "pip" : "conda";
	struct dependencies *found;
	int r = dependencies_find(old->file, manager, old->origin, environment, &found, err);

	if (r < 0)
		return r;
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
	strings_done(&d->argv);
	strings_done(&d->check);
	free(d);
}

char *dependencies_command(const struct dependencies *d)
{
	struct text t = {0};

	for (size_t i = 0; i < d->argv.n; i++)
		text_addf(&t, "%s%s", i > 0 ? " " : "", d->argv.v[i]);
	return text_take(&t);
}
