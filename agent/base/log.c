/* SPDX-License-Identifier: MIT */
/* The agent's log, the only process-wide state besides the secrets: level, format, stream, and the
 * display that shares the terminal with it. Each line is built first and written with one write(2).
 * Any thread. */
#include "log.h"
#include "defer.h"
#include "error.h"
#include "files.h"
#include "json_bytes.h"
#include "redact.h"
#include "text.h"
#include <jansson.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
	/* Set before any thread starts. */
	enum log_level level;
	enum log_format format;
	bool times; /* in lines of text */
	int fd;
	void (*on_warning)(void *ctx, const char *message); /* NULL: nobody observes */
	void *observer;

	/* Under lock. */
	pthread_mutex_t mutex;
	void (*hide)(void *ctx);
	void (*show)(void *ctx);
	void *ctx;
} logger = {.level = LOG_INFO, .fd = STDERR_FILENO, .mutex = PTHREAD_MUTEX_INITIALIZER};

void log_setup(enum log_level level, enum log_format format, int fd)
{
	logger.level = level;
	logger.format = format;
	logger.fd = fd;
}

void log_set_times(enum log_time when)
{
	logger.times = when == LOG_TIME_YES || (when == LOG_TIME_AUTO && isatty(logger.fd) == 0);
}

enum log_level log_level(void)
{
	return logger.level;
}

enum log_level log_level_of_detail(void)
{
	return logger.format == LOG_JSON ? LOG_INFO : LOG_DEBUG;
}

enum log_format log_format(void)
{
	return logger.format;
}

void log_set_display(void (*hide)(void *ctx), void (*show)(void *ctx), void *ctx)
{
	pthread_mutex_lock(&logger.mutex);
	logger.hide = hide;
	logger.show = show;
	logger.ctx = ctx;
	pthread_mutex_unlock(&logger.mutex);
}

void log_set_observer(void (*on_warning)(void *ctx, const char *message), void *ctx)
{
	logger.on_warning = on_warning;
	logger.observer = ctx;
}

static void write_line(const char *s, size_t len)
{
	pthread_mutex_lock(&logger.mutex);
	if (logger.hide != NULL)
		logger.hide(logger.ctx);
	/* When it fails, nobody can read it. */
	(void)files_write_stream(logger.fd, s, len, -1);
	if (logger.show != NULL)
		logger.show(logger.ctx);
	pthread_mutex_unlock(&logger.mutex);
}

/* "2026-11-30T14:00:00". Returns its length. */
enum { TIME_PART_SIZE = 32, TIME_SIZE = 2 * TIME_PART_SIZE };

static size_t print_seconds(const struct timespec *at, char buf[static TIME_PART_SIZE])
{
	struct tm tm;

	gmtime_r(&at->tv_sec, &tm);
	return strftime(buf, TIME_PART_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
}

static const char *const event_names[] = {
#define X(id, name) [EVENT_##id] = (name),
	LOG_EVENTS(X)
#undef X
};

struct log_field log_field_errno(const struct error *err)
{
	return log_field_word("errno", err->errnum != 0 ? strerrorname_np(err->errnum) : NULL);
}

struct log_field log_field_http_status(const struct error *err)
{
	return log_field_known("http_status", (uint64_t)err->http_status);
}

static const char *const level_names[] = {
	[LOG_ERROR] = "error", [LOG_WARN] = "warning", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

static void add_time(struct text *t)
{
	struct timespec now;
	char buf[TIME_PART_SIZE];

	clock_gettime(CLOCK_REALTIME, &now);
	print_seconds(&now, buf);
	text_addf(t, "%s.%03ldZ ", buf, now.tv_nsec / 1000000);
}

static void write_text(enum log_level level, const char *message)
{
	struct text t = {0};

	if (logger.times)
		add_time(&t);
	text_add(&t, "stagerun: ");
	if (level != LOG_INFO)
		text_addf(&t, "%s: ", level_names[level]);
	text_add_shown(&t, message);
	text_add(&t, "\n");
	write_line(t.s, t.len);
	text_done(&t);
}

static json_t *field_text(const char *s)
{
	_free_ char *shown = redact_own(text_copy(s));

	return json_from_text(shown, JSON_ODD_HEX);
}

static json_t *json_time(void)
{
	struct timespec now;
	char buf[TIME_SIZE];

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(buf + print_seconds(&now, buf), TIME_PART_SIZE, ".%09ldZ", now.tv_nsec);
	return json_string(buf);
}

static json_t *field_value(const struct log_field *f)
{
	switch (f->type) {
	case LOG_STRING:
		return f->string != NULL ? field_text(f->string) : NULL;
	case LOG_WORD:
		return f->string != NULL ? json_string(f->string) : NULL;
	case LOG_INTEGER:
		return json_integer(f->integer < INT64_MAX ? (json_int_t)f->integer : INT64_MAX);
	case LOG_REAL:
		return json_real(f->real);
	default:
		return NULL;
	}
}

/* A line, as log_event() gets it, with the message formatted. */
struct line {
	enum log_level level;
	enum log_event event;
	enum log_format format;
	const struct log_field *fields;
	unsigned n;
};

static void write_json(const struct line *l, const char *message)
{
	json_t *line = json_object();
	struct text t = {0};
	char *s;

	json_object_set_new(line, "time", json_time());
	json_object_set_new(line, "level", json_string(level_names[l->level]));
	json_object_set_new(line, "event", json_string(event_names[l->event]));
	json_object_set_new(line, "message", json_from_text(message, JSON_ODD_HEX));
	for (unsigned i = 0; i < l->n; i++) {
		json_t *value = field_value(&l->fields[i]);

		if (value != NULL)
			json_object_set_new(line, l->fields[i].key, value);
	}
	s = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(15));
	if (s != NULL) {
		text_addf(&t, "%s\n", s);
		write_line(t.s, t.len);
	}
	text_done(&t);
	free(s);
	json_decref(line);
}

static char *format_message(const char *fmt, va_list ap)
{
	char *s = NULL;

	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	return redact_own(s);
}

static void write_message(const struct line *l, const char *fmt, va_list ap)
{
	_free_ char *message = NULL;

	if (l->level > logger.level)
		return;
	message = format_message(fmt, ap);
	if (l->level == LOG_WARN && logger.on_warning != NULL)
		logger.on_warning(logger.observer, message);
	if (l->format == LOG_JSON)
		write_json(l, message);
	else
		write_text(l->level, message);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	const struct line l = {.level = level, .event = EVENT_MESSAGE, .format = logger.format};
	va_list ap;

	va_start(ap, fmt);
	write_message(&l, fmt, ap);
	va_end(ap);
}

void log_event(enum log_level level, enum log_event event, const struct log_field *fields,
	unsigned n, const char *fmt, ...)
{
	const struct line l = {level, event, logger.format, fields, n};
	va_list ap;

	va_start(ap, fmt);
	write_message(&l, fmt, ap);
	va_end(ap);
}

void log_event_json(enum log_level level, enum log_event event, const struct log_field *fields,
	unsigned n, const char *fmt, ...)
{
	const struct line l = {level, event, LOG_JSON, fields, n};
	va_list ap;

	va_start(ap, fmt);
	write_message(&l, fmt, ap);
	va_end(ap);
}

void log_output(const char *prefix, const char *line, size_t len)
{
	_free_ char *hidden = redact(line, len, &len);
	struct text t = {0};

	text_add(&t, prefix);
	text_add_bytes(&t, hidden != NULL ? hidden : line, len);
	text_add(&t, "\n");
	write_line(t.s, t.len);
	text_done(&t);
}
