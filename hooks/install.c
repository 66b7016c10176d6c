/* SPDX-License-Identifier: MIT */
/* Runs the package manager, and finds the cause of a failure in its output. Loop thread. */
#include "defer.h"
#include "dependencies.h"
#include "hooks_private.h"
#include "log.h"
#include "redact.h"
#include "temporary.h"
#include "text.h"
#include "tree.h"
#include <fcntl.h>
#include <string.h>
#include <strings.h>

/* The cause of a failure of pip, conda, mamba or micromamba: the last error in the output. The
 * errors before it led to it, and the lines after it are advice. */

enum { LONGEST = 400 }; /* bytes of a line that are stored */

static void set_text(char **into, const char *s)
{
	free(*into);
	*into = text_format("%.*s", LONGEST, s);
}

static bool contains(const char *word, size_t len, const char *part)
{
	size_t n = strlen(part);

	for (size_t i = 0; i + n <= len; i++)
		if (strncasecmp(word + i, part, n) == 0)
			return true;
	return false;
}

/* Matches "ERROR: ...", "PackagesNotFoundError: ...", "ResolvePackageNotFound:" and
 * "critical libmamba ...". */
static bool is_error_line(const char *line)
{
	size_t len = strcspn(line, " :");

	if (strncmp(line, "critical ", 9) == 0 || strncmp(line, "error ", 6) == 0)
		return true;
	return line[len] == ':' &&
	       (contains(line, len, "error") || contains(line, len, "exception") ||
		       contains(line, len, "notfound"));
}

/* Removes the label "ERROR: ", which is redundant in a message about a failure. A label that is a
 * name, such as CondaHTTPError, stays. */
static const char *skip_label(const char *line)
{
	if (strncasecmp(line, "error:", 6) != 0)
		return line;
	return line + 6 + strspn(line + 6, " ");
}

static void store_package(struct complaint *c, const char *error)
{
	static const char label[] = "No matching distribution found for ";
	const char *name = error + strlen(label);

	if (strncmp(error, label, strlen(label)) != 0)
		return;
	free(c->package);
	c->package = text_format("%.*s", (int)strcspn(name, " "), name);
}

static void store_error(struct complaint *c, const char *error)
{
	set_text(&c->error, error);
	c->continues = *error != '\0' && error[strlen(error) - 1] == ':';
	c->is_managed = c->is_managed || strcmp(error, "externally-managed-environment") == 0;
	store_package(c, error);
}

/* pip retries each request to an index, with a warning; then it says that there is no such package.
 * "... Retry(total=4, ...)) after connection broken by 'NewConnectionError('<object>: Failed to
 * establish a new connection: [Errno -2] Name or service not known')': /simple/numpy/" */
static void store_network(struct complaint *c, const char *line)
{
	static const char label[] = "after connection broken by '";
	const char *why = strstr(line, label), *object;
	size_t len;

	if (why == NULL)
		return;
	c->gave_up = c->gave_up || strstr(line, "Retry(total=0,") != NULL;
	why += strlen(label);
	object = strstr(why, ">: ");
	why = object != NULL ? object + 3 : why;
	for (len = strcspn(why, "\n"); len > 0 && strncmp(why + len - 1, "': /", 4) != 0; len--)
		;
	len = len > 0 ? len - 1 : strlen(why);
	if (len > 0 && why[len - 1] == ')')
		len--;
	if (len > 0 && strchr("'\"", why[len - 1]) != NULL)
		len--;
	if (c->network == NULL)
		c->network = text_format("%.*s", (int)len, why);
}

void install_complaint_add(struct complaint *c, const char *line, size_t len)
{
	_free_ char *s = text_format("%.*s", (int)len, line);
	char *text = s + strspn(s, " \t");

	for (size_t n = strlen(text); n > 0 && strchr(" \t\r", text[n - 1]) != NULL; n--)
		text[n - 1] = '\0';
	if (*text == '\0')
		return;
	set_text(&c->last, text);
	store_network(c, text);
	if (is_error_line(text)) {
		store_error(c, skip_label(text));
	} else if (c->continues) {
		_free_ char *joined = text_format("%s %s", c->error, text);

		set_text(&c->error, joined);
		c->continues = false;
	}
}

const char *install_complaint_text(const struct complaint *c)
{
	return c->error != NULL ? c->error : c->last;
}

const char *install_complaint_network(const struct complaint *c)
{
	return c->gave_up && c->package != NULL ? c->network : NULL;
}

void install_complaint_done(struct complaint *c)
{
	free(c->network);
	free(c->error);
	free(c->last);
	free(c->package);
	*c = (struct complaint){0};
}

/* The package manager is a child process with its own directory for temporary files, because it
 * does not remove them if a signal ends it. */

struct install {
	/* Set at creation. */
	struct install_env env;
	const struct dependencies *d;
	bool is_check;
	char *tmp; /* the directory for temporary files; NULL: none was created */

	uint64_t began_ns;
	bool cancelled;
	struct child *child;
	struct complaint complaint;
};

static void remove_tmp_dir(struct install *i)
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
	remove_tmp_dir(i);
	install_complaint_done(&i->complaint);
	child_free(i->child);
	free(i);
}

/* A progress bar redraws its line after carriage returns: only the text after the last one
 * counts. */
static void on_line(void *ctx, const char *line, size_t len)
{
	struct install *i = ctx;
	_free_ char *redacted = NULL;
	const char *last_return;

	while (len > 0 && line[len - 1] == '\r')
		len--;
	last_return = memrchr(line, '\r', len);
	if (last_return != NULL) {
		len -= (size_t)(last_return + 1 - line);
		line = last_return + 1;
	}
	redacted = redact(line, len, &len); /* before install_complaint_add() cuts it */
	if (redacted != NULL)
		line = redacted;
	install_complaint_add(&i->complaint, line, len);
	if (!i->is_check)
		log_output("[dependencies] ", line, len);
}

/* The end. */

static int explain_check(const struct install *i, const struct child_end *end, struct error *err)
{
	const struct dependencies *d = i->d;
	const char *reason = install_complaint_text(&i->complaint);
	_free_ char *status = process_describe_status(end->wait_status);

	if (reason != NULL)
		return error_set(err, -ERR_CONFIG, "%s (%s): %s does not work: %s: %s", d->file,
			d->origin, d->check.v[0], status, reason);
	return error_set(err, -ERR_CONFIG,
		"%s (%s): %s has no pip; install it in the image (apt-get install python3-pip, or %s -m ensurepip)",
		d->file, d->origin, d->check.v[0], d->check.v[0]);
}

static int explain_install(const struct install *i, const struct child_end *end, struct error *err)
{
	const struct dependencies *d = i->d;
	const struct complaint *c = &i->complaint;
	const char *reason = install_complaint_text(c);
	_free_ char *status = process_describe_status(end->wait_status);
	_free_ char *subject = c->package != NULL ? text_format("'%s' (%s)", c->package, d->file)
						  : text_copy(d->file);

	if (c->is_managed)
		return error_set(err, -ERR_COMMAND,
			"pip may not install %s for %s, which belongs to the system (PEP 668); make a virtual environment in the image and put it first in PATH: RUN python3 -m venv /opt/venv, ENV PATH=/opt/venv/bin:$PATH",
			d->file, d->argv.v[0]);
	if (install_complaint_network(c) != NULL)
		return error_set(err, -ERR_COMMAND,
			"%s could not install %s: it reaches no package index: %s; is there a network? A proxy goes into https_proxy, a mirror into PIP_INDEX_URL",
			d->manager, subject, install_complaint_network(c));
	return error_set(err, -ERR_COMMAND, "%s could not install %s: %s%s%s", d->manager, subject,
		status, reason != NULL ? ": " : "", reason != NULL ? reason : "");
}

static void log_end(const struct install *i, int wait_status)
{
	_free_ char *status = process_describe_status(wait_status);
	const struct log_field fields[] = {log_field_text("item", i->d->file),
		log_field_integer("exit", (uint64_t)process_status_code(wait_status)),
		log_field_known("signal", WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0),
		log_field_ns("seconds", now_ns() - i->began_ns)};

	log_event(log_level_of_detail(), EVENT_DEPENDENCIES_DONE, fields, ARRAY_LEN(fields),
		"dependencies: %s: %s", i->d->file, status);
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
	if (!i->is_check)
		log_end(i, end->wait_status);
	remove_tmp_dir(i);
	i->env.on_done(i->env.on_done_ctx, code, &err);
}

/* The start. */

/* These variables disable prompts, progress bars and the buffering of output. */
static const char *const quiet_variables[][2] = {
	{"PIP_NO_INPUT", "1"},
	{"PIP_PROGRESS_BAR", "off"},
	{"PIP_DISABLE_PIP_VERSION_CHECK", "1"},
	{"PIP_ROOT_USER_ACTION", "ignore"}, /* root is the usual user in a container */
	{"PYTHONUNBUFFERED", "1"},
	{"CONDA_ALWAYS_YES", "true"},
	{"MAMBA_ALWAYS_YES", "true"},
};

static int find_tmp_dir(const struct strings *env, char **ret, char **ret_why, struct error *err)
{
	const struct temporary_request wish = {.tmpdir = environment_get(env, "TMPDIR"),
		.home = environment_get(env, "HOME"),
		.executes = true};

	return temporary_directory(&wish, ret, ret_why, err);
}

static int create_tmp_dir(struct install *i, struct strings *env, struct error *err)
{
	_free_ char *dir = NULL, *why = NULL, *path = NULL;
	int code = find_tmp_dir(env, &dir, &why, err);

	if (code < 0)
		return code;
	if (why != NULL)
		log_warn("temporary files of the dependencies go to %s (%s)", dir, why);
	path = text_format("%s/stagerun-dependencies-XXXXXX", dir);
	if (mkdtemp(path) == NULL)
		return error_set(
			err, -errno, "make a directory for temporary files, '%s': %m", path);
	i->tmp = take_ptr(&path);
	environment_set(env, "TMPDIR", i->tmp);
	return 0;
}

static int start_child(struct install *i, struct error *err)
{
	struct strings env = {0};
	struct child_options child = {.argv = i->is_check ? i->d->check.v : i->d->argv.v,
		.inherited = i->env.inherited,
		.on_line = on_line,
		.on_exit = on_exit_of_child,
		.ctx = i};
	int code = 0;

	if (i->env.environment->n > 0)
		environment_copy(&env, i->env.environment->v);
	for (size_t k = 0; k < ARRAY_LEN(quiet_variables); k++)
		if (environment_get(&env, quiet_variables[k][0]) == NULL)
			environment_set(&env, quiet_variables[k][0], quiet_variables[k][1]);
	if (!i->is_check)
		code = create_tmp_dir(i, &env, err);
	child.env = env.v;
	if (code == 0)
		code = child_start(i->env.loop, &child, &i->child, err);
	text_strings_done(&env);
	return code;
}

static int start_install(const struct install_env *env, const struct dependencies *d, bool is_check,
	struct install **ret, struct error *err)
{
	struct install *i = zalloc(sizeof(*i));
	int code;

	i->env = *env;
	i->d = d;
	i->is_check = is_check;
	i->began_ns = now_ns();
	code = start_child(i, err);
	if (code < 0) {
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
	_free_ char *tmp = NULL;

	*ret = NULL;
	if (find_tmp_dir(env->environment, &tmp, NULL, err) < 0) {
		error_item(err, "%s", d->file);
		return error_prefix(err, "dependencies");
	}
	return d->check.n == 0 ? 0 : start_install(env, d, true, ret, err);
}

int dependencies_install(const struct install_env *env, const struct dependencies *d,
	struct install **ret, struct error *err)
{
	_free_ char *command = dependencies_command(d);
	const struct log_field fields[] = {
		log_field_text("item", d->file), log_field_text("command", command)};

	log_event(LOG_INFO, EVENT_DEPENDENCIES_STARTED, fields, ARRAY_LEN(fields),
		"dependencies: %s", command);
	return start_install(env, d, false, ret, err);
}

void install_cancel(struct install *i, bool hard)
{
	i->cancelled = true;
	child_kill(i->child, hard ? SIGKILL : SIGTERM);
}
