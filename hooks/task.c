/* SPDX-License-Identifier: MIT */
/* Runs one program with the variables of the contract, and reads the variables that it left in
 * $STAGERUN_ENV, a private file. The values are never printed, because they may be secrets. The
 * caller decides what a failure means. Loop thread. */
#include "defer.h"
#include "hooks_private.h"
#include "log.h"
#include "process.h"
#include "temporary.h"
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { MAX_BYTES = 1024 * 1024 };

/* The file that $STAGERUN_ENV names. */
struct environment_file {
	char *path; /* NULL: there is no file */
	int fd;     /* -1, or of a file in memory, to which path leads through /proc */
};

static void environment_file_remove(struct environment_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	else if (file->path != NULL)
		unlink(file->path);
	free(file->path);
	*file = (struct environment_file){.fd = -1};
}

/* Creates a file in memory. Items open it through /proc/<pid of this process>/fd, which works
 * because they run as the same user; append_fd is opened only to check this. */
static int create_in_memory(struct environment_file *ret)
{
	_close_ int fd = memfd_create("stagerun-env", MFD_CLOEXEC);
	_free_ char *path = text_format("/proc/%ld/fd/%d", (long)getpid(), fd);
	_close_ int append_fd = fd < 0 ? -1 : open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

	if (append_fd < 0)
		return -errno;
	*ret = (struct environment_file){.path = take_ptr(&path), .fd = take_fd(&fd)};
	return 0;
}

/* Creates an empty file that only this user can read: in the directory for temporary files, which
 * the variables in env determine, or in memory if there is no such directory. ret_why may be
 * NULL; see temporary_directory(). */
static int environment_file_create(
	const struct strings *env, struct environment_file *ret, char **ret_why, struct error *err)
{
	const struct temporary_request wish = {
		.tmpdir = environment_get(env, "TMPDIR"), .home = environment_get(env, "HOME")};
	_free_ char *dir = NULL;
	int code = temporary_directory(&wish, &dir, ret_why, err);

	if (code == 0) {
		_free_ char *path = text_format("%s/stagerun-env-XXXXXX", dir);
		_close_ int fd = mkostemp(path, O_CLOEXEC); /* mode 0600 */

		if (fd >= 0) {
			*ret = (struct environment_file){.path = take_ptr(&path), .fd = -1};
			return 0;
		}
		error_set(err, -errno, "make a file in '%s': %m", dir);
	}
	return create_in_memory(ret) == 0 ? 0 : error_prefix(err, "$STAGERUN_ENV");
}

int task_environment_check(const struct strings *env, struct error *err)
{
	struct environment_file file = {.fd = -1};
	_free_ char *why = NULL;
	int code = environment_file_create(env, &file, &why, err);

	if (code == 0 && file.fd >= 0)
		log_warn("files for $STAGERUN_ENV are kept in memory: %s",
			err != NULL ? err->msg : "there is no directory for temporary files");
	else if (code == 0 && why != NULL && file.path != NULL)
		log_warn("temporary files go to %.*s (%s)",
			(int)(strlen(file.path) - strlen("/stagerun-env-XXXXXX")), file.path, why);
	environment_file_remove(&file);
	return code;
}

static bool is_variable_name(const char *s, size_t len)
{
	if (len == 0 || isdigit((unsigned char)*s))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '_')
			return false;
	return true;
}

/* Sets the variable of one line, which is len bytes and a NUL. Returns NULL, or the fault of the
 * line. A blank line is ignored. */
static const char *set_variable(struct strings *env, char *line, size_t len)
{
	char *equals = strchr(line, '=');

	if (strspn(line, " \t\r") == len)
		return NULL;
	if (strlen(line) != len)
		return "a variable cannot hold a NUL byte";
	if (equals == NULL)
		return "expected NAME=VALUE";
	if (!is_variable_name(line, (size_t)(equals - line)))
		return "what is before '=' is not a variable's name (no 'export', no spaces)";
	*equals = '\0';
	environment_set(env, line, equals + 1);
	return NULL;
}

static void read_lines(FILE *f, const char *label, struct strings *env)
{
	_free_ char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	for (unsigned number = 1; (len = getline(&line, &cap, f)) >= 0; number++) {
		const char *fault;

		if (len > 0 && line[len - 1] == '\n')
			line[--len] = '\0';
		fault = set_variable(env, line, (size_t)len);
		if (fault != NULL)
			log_warn("%s: line %u of $STAGERUN_ENV is ignored: %s", label, number,
				fault);
	}
}

/* The item may have replaced the file: O_NONBLOCK avoids waiting for the writer of a FIFO, and
 * O_NOFOLLOW rejects a link. */
static int open_regular(const struct environment_file *file, struct error *err)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (file->fd < 0 ? O_NOFOLLOW : 0);
	_close_ int fd = open(file->path, flags);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "read $STAGERUN_ENV: %m");
	if (!S_ISREG(st.st_mode))
		return error_set(err, -ERR_COMMAND, "$STAGERUN_ENV is not a regular file any more");
	if (st.st_size > MAX_BYTES)
		return error_set(err, -ERR_LIMIT,
			"$STAGERUN_ENV holds %lld bytes, and 1 MiB is the most (is something else written to it?)",
			(long long)st.st_size);
	return take_fd(&fd);
}

/* Sets the variables of the file in env. Logs a warning, which starts with label, for each line
 * that is not an assignment. A file that the item has removed counts as empty. */
static int environment_file_read(const struct environment_file *file, const char *label,
	struct strings *env, struct error *err)
{
	struct error opening = {0};
	int fd = file->path != NULL ? open_regular(file, &opening) : -ENOENT;
	_fclose_ FILE *f = NULL;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return error_set(err, fd, "%s", opening.msg);
	f = fdopen(fd, "r");
	if (f == NULL) {
		close(fd);
		return error_set(err, -errno, "read $STAGERUN_ENV: %m");
	}
	read_lines(f, label, env);
	return ferror(f) != 0 ? error_set(err, -EIO, "read $STAGERUN_ENV: %m") : 0;
}

/* The task: a child process, and its file of variables. */

struct task {
	struct task_options opts;
	struct environment_file variables;
	struct child *child;
	unsigned span;
	uint64_t began_ns;
	bool killed; /* by task_kill() */
};

/* The span of the task. */

static void begin_span(struct task *t)
{
	const struct run_recorder *r = &t->opts.recorder;

	t->span = timeline_begin(r->timeline, r->parent, t->opts.span_kind, t->opts.label);
	timeline_set_number(r->timeline, t->span, "attempt", t->opts.attempt);
}

/* The program finds its own span in TRACEPARENT. */
static void pass_trace(const struct task *t, struct strings *env)
{
	char parent[TRACE_PARENT_SIZE];

	if (t->opts.recorder.trace != NULL)
		environment_set(env, "TRACEPARENT",
			trace_context_child(t->opts.recorder.trace, t->span, parent));
}

static void record_status(const struct task *t, int wait_status)
{
	struct timeline *timeline = t->opts.recorder.timeline;

	timeline_set_number(
		timeline, t->span, "exit_code", (uint64_t)process_status_code(wait_status));
	if (WIFSIGNALED(wait_status))
		timeline_set_number(timeline, t->span, "signal", (uint64_t)WTERMSIG(wait_status));
}

static void end_span(const struct task *t, int code, const struct error *err)
{
	enum span_end failed = t->killed ? SPAN_CANCELLED : SPAN_FAILED;

	timeline_end(t->opts.recorder.timeline, t->span, code == 0 ? SPAN_OK : failed,
		code == 0 ? NULL : err->msg);
}

static bool has_succeeded(const struct child_end *end)
{
	return !end->timed_out && end->wait_status == 0;
}

static int explain_failure(const struct task *t, const struct child_end *end, struct error *err)
{
	_free_ char *status = process_describe_status(end->wait_status);
	char limit[32];

	if (end->timed_out)
		return error_set(err, -ERR_COMMAND,
			"it took longer than its timeout of %s and was ended",
			units_print_duration(t->opts.timeout_ms * 1000000, limit));
	return error_set(err, -ERR_COMMAND, "%s", status);
}

/* The new variables may hold secrets, which must be hidden like those of the old ones. */
static int read_variables(const struct task *t, struct error *err)
{
	int code = environment_file_read(&t->variables, t->opts.label, t->opts.environment, err);

	settings_hide_secrets(t->opts.settings, t->opts.environment->v);
	return code;
}

static void log_end(const struct task *t, int wait_status)
{
	_free_ char *status = process_describe_status(wait_status);
	const struct task_options *o = &t->opts;
	const struct log_field fields[] = {log_field_word("point", o->point),
		log_field_text("item", o->label), log_field_integer("attempt", o->attempt),
		log_field_integer("exit", (uint64_t)process_status_code(wait_status)),
		log_field_known("signal", WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0),
		log_field_ns("seconds", now_ns() - t->began_ns)};

	log_event(log_level_of_detail(),
		o->span_kind == SPAN_HOOK ? EVENT_HOOK_DONE : EVENT_ACTION_DONE, fields,
		ARRAY_LEN(fields), "%s: %s", o->label, status);
}

static void on_exit_of_task(void *ctx, const struct child_end *end)
{
	struct task *t = ctx;
	struct error err = {0};
	int code;

	if (has_succeeded(end))
		code = read_variables(t, &err);
	else
		code = explain_failure(t, end, &err);
	record_status(t, end->wait_status);
	log_end(t, end->wait_status);
	end_span(t, code, &err);
	if (end->left_processes && code == 0)
		log_warn(
			"%s left processes in the background, which were ended with it (to keep one: setsid COMMAND &)",
			t->opts.label);
	t->opts.on_done(t->opts.ctx, code, &err);
}

static void on_line(void *ctx, const char *line, size_t len)
{
	const struct task *t = ctx;

	log_output(t->opts.prefix, line, len);
}

static int start_child(struct task *t, struct error *err)
{
	struct strings env = {0};
	struct child_options child = {.argv = t->opts.argv,
		.inherited = t->opts.inherited,
		.timeout_ms = t->opts.timeout_ms,
		.on_line = t->opts.prefix != NULL ? on_line : NULL,
		.on_exit = on_exit_of_task,
		.ctx = t};
	int code;

	if (t->opts.environment->n > 0)
		environment_copy(&env, t->opts.environment->v);
	contract_apply(t->opts.facts, t->opts.point,
		t->variables.path != NULL ? t->variables.path : "/dev/null", &env);
	pass_trace(t, &env);
	child.env = env.v;
	code = child_start(t->opts.loop, &child, &t->child, err);
	text_strings_done(&env);
	return code;
}

int task_start(const struct task_options *opts, struct task **ret, struct error *err)
{
	struct task *t = zalloc(sizeof(*t));
	struct error why;
	int code;

	t->opts = *opts;
	t->variables.fd = -1;
	t->began_ns = now_ns();
	begin_span(t);
	code = environment_file_create(opts->environment, &t->variables, NULL, &why);
	if (code < 0 && opts->variables_optional) {
		log_warn("%s: what it adds to $STAGERUN_ENV is lost: %s", opts->label, why.msg);
		code = 0;
	} else if (code < 0) {
		error_set(err, code, "%s", why.msg);
	}
	if (code == 0)
		code = start_child(t, err);
	if (code < 0) {
		end_span(t, code, err);
		task_free(t);
		return code;
	}
	*ret = t;
	return 0;
}

void task_kill(struct task *t, int signal)
{
	t->killed = true;
	child_kill(t->child, signal);
}

void task_free(struct task *t)
{
	if (t == NULL)
		return;
	environment_file_remove(&t->variables);
	child_free(t->child);
	free(t);
}
