/* SPDX-License-Identifier: MIT */
/* Variables from an item's shell to whoever comes later, by way of a private file. Loop thread. The
 * values are never printed: they may be secrets. */
#include "environment_file.h"
#include "defer.h"
#include "log.h"
#include "process.h"
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_BYTES = 1024 * 1024 };

int environment_file_create(const char *dir, char **ret_path, struct error *err)
{
	_free_ char *path = format_text("%s/stagerun-env-XXXXXX", dir);
	_close_ int fd = mkostemp(path, O_CLOEXEC); /* mode 0600 */

	if (fd < 0)
		return error_set(err, -errno,
			"make a file for $STAGERUN_ENV in '%s': %m (is TMPDIR a directory that can "
			"be "
			"written to?)",
			dir);
	*ret_path = take_ptr(&path);
	return 0;
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

/* What is wrong with the line, or NULL when it was set or is blank. line is len bytes and a NUL. */
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

static void read_lines(FILE *f, const char *who, struct strings *env)
{
	_free_ char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	for (unsigned number = 1; (len = getline(&line, &cap, f)) >= 0; number++) {
		const char *wrong;

		if (len > 0 && line[len - 1] == '\n')
			line[--len] = '\0';
		wrong = set_variable(env, line, (size_t)len);
		if (wrong != NULL)
			log_warn("%s: line %u of $STAGERUN_ENV is ignored: %s", who, number, wrong);
	}
}

/* The item can have put anything there: never wait for a pipe, never follow a link. */
static int open_regular(const char *path, struct error *err)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set(err, -errno, "read $STAGERUN_ENV: %m");
	if (!S_ISREG(st.st_mode))
		return error_set(err, -ERR_COMMAND, "$STAGERUN_ENV is not a regular file any more");
	if (st.st_size > MAX_BYTES)
		return error_set(err, -ERR_LIMIT,
			"$STAGERUN_ENV holds %lld bytes, and 1 MiB is the most (is something else "
			"written "
			"to it?)",
			(long long)st.st_size);
	return take_fd(&fd);
}

int environment_file_read(const char *path, const char *who, struct strings *env, struct error *err)
{
	struct error opening = {0};
	int fd = open_regular(path, &opening);
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
	read_lines(f, who, env);
	return ferror(f) != 0 ? error_set(err, -EIO, "read $STAGERUN_ENV: %m") : 0;
}
