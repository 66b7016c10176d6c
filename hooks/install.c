/* SPDX-License-Identifier: MIT */
/* The package manager at work: a child on the loop with a directory of its own for temporary files,
 * since one that a signal ends does not clean up after itself. Loop thread. */
#include "complaint.h"
#include "defer.h"
#include "dependencies.h"
#include "log.h"
#include "redact.h"
#include "tree.h"
#include <fcntl.h>
#include <string.h>

struct install {
	/* Set at creation. */
	struct install_env env;
	const struct dependencies *d;
	bool is_check;
	char *tmp; /* NULL: none was made */

	bool cancelled;
	struct child *child;
	struct complaint complaint;
};

static void remove_tmp(struct install *i)
{
	_free_ char *above = take_ptr(&i->tmp);
	char *name = above != NULL ? strrchr(above, '/') : NULL;
	_close_ int fd = -1;
	struct error err;

	if (name == NULL)
		return;
	*name++ = '\0';
	fd = open(*above != '\0' ? above : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && remove_tree(fd, name, NULL, &err) < 0)
		log_warn("dependencies: %s", err.msg);
}

void install_free(struct install *i)
{
	if (i == NULL)
		return;
	remove_tmp(i);
	complaint_done(&i->complaint);
	child_free(i->child);
	free(i);
}

/* Its progress is drawn over itself with carriage returns: the last state is the line. */
static void on_line(void *ctx, const char *line, size_t len)
{
	struct install *i = ctx;
	_free_ char *hidden = NULL;
	const char *again;

	while (len > 0 && line[len - 1] == '\r')
		len--;
	again = memrchr(line, '\r', len);
	if (again != NULL) {
		len -= (size_t)(again + 1 - line);
		line = again + 1;
	}
	hidden = redact(line, len, &len); /* before it is cut */
	if (hidden != NULL)
		line = hidden;
	complaint_add(&i->complaint, line, len);
	if (!i->is_check)
		log_output("[dependencies] ", line, len);
}

/* The end. */

static int explain_check(const struct install *i, const struct child_end *end, struct error *err)
{
	const struct dependencies *d = i->d;
	const char *said = complaint_text(&i->complaint);
	_free_ char *status = describe_wait_status(end->wait_status);

	if (said != NULL)
		return error_set(err, -ERR_CONFIG, "%s (%s): %s does not work: %s: %s", d->file,
			d->origin, d->check.v[0], status, said);
	return error_set(err, -ERR_CONFIG,
		"%s (%s): %s has no pip; install it in the image (apt-get install python3-pip, or "
		"%s -m ensurepip)",
		d->file, d->origin, d->check.v[0], d->check.v[0]);
}

static int explain_install(const struct install *i, const struct child_end *end, struct error *err)
{
	const struct dependencies *d = i->d;
	const struct complaint *c = &i->complaint;
	const char *said = complaint_text(c);
	_free_ char *status = describe_wait_status(end->wait_status);
	_free_ char *what = c->package != NULL ? format_text("'%s' (%s)", c->package, d->file)
					       : copy_text(d->file);

	if (c->is_managed)
		return error_set(err, -ERR_COMMAND,
			"pip may not install %s for %s, which belongs to the system (PEP 668); "
			"make "
			"a virtual environment in the image and put it first in PATH: RUN python3 "
			"-m venv /opt/venv, ENV PATH=/opt/venv/bin:$PATH",
			d->file, d->argv.v[0]);
	return error_set(err, -ERR_COMMAND, "%s could not install %s: %s%s%s", d->manager, what,
		status, said != NULL ? ": " : "", said != NULL ? said : "");
}

static void on_exit_of_child(void *ctx, const struct child_end *end)
{
	struct install *i = ctx;
	struct error err = {0};
	int code = 0;

	if (i->cancelled)
		code = error_set(&err, -ECANCELED, "cancelled");
	else if (end->wait_status != 0)
		code = i->is_check ? explain_check(i, end, &err) : explain_install(i, end, &err);
	if (code < 0) {
		error_item(&err, "%s", i->d->file);
		error_prefix(&err, "dependencies");
	}
	remove_tmp(i);
	i->env.on_done(i->env.on_done_ctx, code, &err);
}

/* The start. */

/* So that it asks nothing, draws nothing and says what it does when it does it. */
static const char *const manners[][2] = {
	{"PIP_NO_INPUT", "1"},
	{"PIP_PROGRESS_BAR", "off"},
	{"PIP_DISABLE_PIP_VERSION_CHECK", "1"},
	{"PIP_ROOT_USER_ACTION", "ignore"}, /* in a container one is root */
	{"PYTHONUNBUFFERED", "1"},
	{"CONDA_ALWAYS_YES", "true"},
	{"MAMBA_ALWAYS_YES", "true"},
};

static int make_tmp(struct install *i, struct strings *env, struct error *err)
{
	const char *dir = environment_get(env, "TMPDIR");
	_free_ char *path = format_text(
		"%s/stagerun-dependencies-XXXXXX", dir != NULL && *dir != '\0' ? dir : "/tmp");

	if (mkdtemp(path) == NULL)
		return error_set(err, -errno,
			"make a directory for temporary files, '%s': %m (is TMPDIR a directory "
			"that can be written to?)",
			path);
	i->tmp = take_ptr(&path);
	environment_set(env, "TMPDIR", i->tmp);
	return 0;
}

static int launch(struct install *i, struct error *err)
{
	struct strings env = {0};
	struct child_options child = {.argv = i->is_check ? i->d->check.v : i->d->argv.v,
		.inherited = i->env.inherited,
		.on_line = on_line,
		.on_exit = on_exit_of_child,
		.ctx = i};
	int r = 0;

	if (i->env.environment->n > 0)
		environment_copy(&env, i->env.environment->v);
	for (size_t k = 0; k < ARRAY_LEN(manners); k++)
		if (environment_get(&env, manners[k][0]) == NULL)
			environment_set(&env, manners[k][0], manners[k][1]);
	if (!i->is_check)
		r = make_tmp(i, &env, err);
	child.env = env.v;
	if (r == 0)
		r = child_start(i->env.loop, &child, &i->child, err);
	strings_done(&env);
	return r;
}

static int start(const struct install_env *env, const struct dependencies *d, bool is_check,
	struct install **ret, struct error *err)
{
	struct install *i = zalloc(sizeof(*i));
	int r;

	i->env = *env;
	i->d = d;
	i->is_check = is_check;
	r = launch(i, err);
	if (r < 0) {
		install_free(i);
		error_item(err, "%s", d->file);
		return error_prefix(err, "dependencies");
	}
	*ret = i;
	return 0;
}

int dependencies_check(const struct install_env *env, const struct dependencies *d,
	struct install **ret, struct error *err)
{
	*ret = NULL;
	return d->check.n == 0 ? 0 : start(env, d, true, ret, err);
}

int dependencies_install(const struct install_env *env, const struct dependencies *d,
	struct install **ret, struct error *err)
{
	_free_ char *command = dependencies_command(d);

	log_info("dependencies: %s", command);
	return start(env, d, false, ret, err);
}

void install_cancel(struct install *i, bool hard)
{
	i->cancelled = true;
	child_kill(i->child, hard ? SIGKILL : SIGTERM);
}
