/* SPDX-License-Identifier: MIT */
/* The termination message: how a run ended, in the file where a cluster looks for it
 * (terminationMessagePath). Loop thread, once, right before the agent exits. An error in here must
 * not hide the failure that is reported. */
#include "defer.h"
#include "log.h"
#include "redact.h"
#include "report.h"
#include "umask.h"
#include "utf8.h"
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_BYTES = 4096, MAX_NAME_BYTES = 512 };

const char *report_reason_name(enum end_reason reason)
{
	static const char *const names[] = {
#define X(id, name) [id] = (name),
		END_REASONS(X)
#undef X
	};

	return names[reason];
}

/* Adds a member without secrets. A text that is too long is cut, and ends in "...". */
static void set_text(json_t *object, const char *key, const char *s, size_t max_bytes)
{
	_free_ char *hidden = NULL;
	struct text clean = {0};
	size_t cut = max_bytes - 3;

	if (s == NULL)
		return;
	hidden = redact(s, strlen(s), NULL);
	utf8_add_clean(&clean, hidden != NULL ? hidden : s);
	if (clean.len > max_bytes) {
		while (cut > 0 && ((unsigned char)clean.s[cut] & 0xc0) == 0x80)
			cut--; /* not inside of a character */
		memcpy(clean.s + cut, "...", 4);
	}
	json_object_set_new(object, key, json_string(clean.len > 0 ? clean.s : ""));
	text_done(&clean);
}

/* Adds one of our own words. It is not redacted, since that could only make it unrecognisable. */
static void set_word(json_t *object, const char *key, const char *word)
{
	if (word != NULL)
		json_object_set_new(object, key, json_string(word));
}

static json_t *describe_source(const struct termination_source *s)
{
	json_t *object = json_object();

	set_text(object, "source", s->name, MAX_NAME_BYTES);
	set_text(object, "version", s->version, MAX_NAME_BYTES);
	json_object_set_new(object, "bytes", json_integer((json_int_t)s->bytes));
	json_object_set_new(object, "seconds", json_real(round((double)s->ns / 1e6) / 1e3));
	return object;
}

static void set_staged(json_t *object, const struct termination *t, size_t n)
{
	json_t *staged = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(staged, describe_source(&t->staged[i]));
	json_object_set_new(object, "staged", staged);
}

static char *print_json(const struct termination *t, size_t message_bytes, size_t n_staged)
{
	json_t *object = json_object();
	char *line;

	set_word(object, "phase", t->phase);
	set_text(object, "item", t->item, MAX_NAME_BYTES);
	json_object_set_new(object, "exit_code", json_integer(t->exit_code));
	if (t->signal != 0)
		json_object_set_new(object, "signal", json_integer(t->signal));
	set_word(object, "reason", report_reason_name(t->reason));
	set_text(object, "message", t->message, message_bytes);
	if (n_staged > 0)
		set_staged(object, t, n_staged);
	line = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(12));
	json_decref(object);
	return line;
}

static bool is_too_long(const char *line)
{
	return line != NULL && strlen(line) + 1 > MAX_BYTES;
}

/* Escaping can make a string longer, so the message is shortened until the line fits; before that,
 * sources are left out. */
static char *print_line(const struct termination *t)
{
	size_t message_bytes = MAX_BYTES;
	size_t n = t->n_staged < TERMINATION_SOURCES_MAX ? t->n_staged : TERMINATION_SOURCES_MAX;
	char *line = print_json(t, message_bytes, n);

	while (is_too_long(line) && (n > 0 || message_bytes > MAX_BYTES / 16)) {
		if (n > 0)
			n--;
		else
			message_bytes -= MAX_BYTES / 16;
		free(line);
		line = print_json(t, message_bytes, n);
	}
	if (line != NULL)
		line[strlen(line)] = '\n'; /* written without its NUL */
	return line;
}

static int write_line(int fd, const char *line)
{
	size_t len = strcspn(line, "\n") + 1;
	ssize_t n = write(fd, line, len);

	if (n >= 0 && (size_t)n < len)
		errno = ENOSPC;
	return n == (ssize_t)len ? 0 : -1;
}

void termination_message(const char *path, bool create, const struct termination *t)
{
	/* O_NONBLOCK: does not wait for a reader, should the file be a pipe. */
	int flags = O_WRONLY | O_TRUNC | O_CLOEXEC | O_NONBLOCK | (create ? O_CREAT : 0);
	_close_ int fd = -1;
	_free_ char *line = NULL;

	if (path == NULL || *path == '\0')
		return;
	fd = open(path, flags, umask_apply(0644));
	if (fd < 0 && errno == ENOENT)
		return;
	line = print_line(t);
	if (fd < 0 || line == NULL || write_line(fd, line) < 0)
		log_warn(
			"cannot write the reason to '%s': %m (termination_log in agent.ini names it)",
			path);
}

void termination_remember(const char *path, struct termination_mark *ret)
{
	*ret = (struct termination_mark){0};
	ret->exists = path != NULL && stat(path, &ret->st) == 0;
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

bool termination_was_written(const char *path, const struct termination_mark *since)
{
	struct stat now;

	if (path == NULL || stat(path, &now) < 0 || !S_ISREG(now.st_mode) || now.st_size == 0)
		return false;
	return !since->exists || !is_same_file(&since->st, &now);
}
