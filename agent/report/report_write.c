/* SPDX-License-Identifier: MIT */
/* Writes the report of a run to a file, in the format that the file's name says. Loop thread. An
 * error in here must not become the run's. */
#include "defer.h"
#include "files.h"
#include "log.h"
#include "report_private.h"
#include "umask.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READER_WAIT_MS = 2000 }; /* for the reader of a pipe, whenever it is full */

/* In this order: the first ending that matches counts. */
static const struct report_format {
	const char *ending;
	void (*print)(struct timeline *t, struct text *ret);
} report_formats[] = {
	{".trace.json", report_trace},
	{".json", report_json},
	{".html", report_html},
};

static const struct report_format *find_format(const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < ARRAY_LEN(report_formats); i++) {
		size_t ending = strlen(report_formats[i].ending);

		if (len > ending && strcmp(path + len - ending, report_formats[i].ending) == 0)
			return &report_formats[i];
	}
	return strncmp(path, "/dev/", 5) == 0 ? &report_formats[1] : NULL;
}

int report_check_path(const char *path, struct error *err)
{
	if (find_format(path) != NULL)
		return 0;
	return error_set(err, -ERR_USAGE,
		"the report '%s' has no known ending: .html for people, .json for programs, .trace.json for Perfetto",
		path);
}

/* The descriptor that "/dev/stdout", "/dev/stderr" or "/dev/fd/N" names; -1 for any other name.
 * Opened by name, a file would be written to from its beginning. */
static int standard_stream(const char *path)
{
	uint64_t n;

	if (strcmp(path, "/dev/stdout") == 0)
		return STDOUT_FILENO;
	if (strcmp(path, "/dev/stderr") == 0)
		return STDERR_FILENO;
	if (strncmp(path, "/dev/fd/", 8) != 0 || units_parse_uint(path + 8, INT_MAX, &n, NULL) < 0)
		return -1;
	return (int)n;
}

static int write_report(int fd, const struct text *report)
{
	return files_write_stream(fd, report->s, report->len, READER_WAIT_MS);
}

static int write_directly(const char *path, const struct text *report)
{
	/* O_NONBLOCK: does not wait for the reader of a pipe. */
	_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? -1 : write_report(fd, report);
}

/* A hidden name beside path, so that the rename stays within one file system. Heap. */
static char *temporary_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	int dir_len = slash != NULL ? (int)(slash - path) + 1 : 0;

	return text_format("%.*s.%.200s.%ld", dir_len, path, path + dir_len, (long)getpid());
}

static int write_whole(const char *path, const struct text *report)
{
	_free_ char *temporary = temporary_name(path);
	_close_ int fd = -1;
	int saved;

	unlink(temporary); /* of a process with this id that was killed */
	fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, umask_apply(0644));
	if (fd < 0)
		return -1;
	if (write_report(fd, report) == 0 && rename(temporary, path) == 0)
		return 0;
	saved = errno;
	unlink(temporary);
	errno = saved;
	return -1;
}

/* A link stays, and the file that it leads to is replaced. */
static int write_file(const char *path, const struct text *report)
{
	_free_ char *real = realpath(path, NULL);
	struct stat st;

	if (real != NULL && stat(real, &st) == 0 && !S_ISREG(st.st_mode))
		return write_directly(path, report);
	return write_whole(real != NULL ? real : path, report);
}

void report_write(const char *path, struct timeline *t)
{
	const struct report_format *format = find_format(path);
	int stream = standard_stream(path);
	struct text report = {0};
	int result;

	if (t == NULL || format == NULL)
		return;
	format->print(t, &report);
	result = stream >= 0 ? write_report(stream, &report) : write_file(path, &report);
	if (result < 0)
		log_warn("cannot write the report '%s': %m", path);
	text_done(&report);
}
