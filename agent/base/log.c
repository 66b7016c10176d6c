/* SPDX-License-Identifier: MIT */
/* The agent's log, the only process-wide state besides the secrets: level, format, stream, and the
 * display that shares the terminal with it. Each line is built first and written with one write(2).
 * Any thread. */
#include "log.h"
#include "defer.h"
#include "json_bytes.h"
#include "redact.h"
#include "text.h"
#include <jansson.h>
#include <poll.h>
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

enum log_level log_level(void)
{
	return logger.level;
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

/* Another process may have made the stream non-blocking: the line must not be lost for that. */
static void wait_for_room(void)
{
	poll(&(struct pollfd){.fd = logger.fd, .events = POLLOUT}, 1, -1);
}

static void write_line(const char *s, size_t len)
{
	pthread_mutex_lock(&logger.mutex);
	if (logger.hide != NULL)
		logger.hide(logger.ctx);
	while (len > 0) {
		ssize_t n = write(logger.fd, s, len);

		if (n < 0 && errno == EAGAIN)
			wait_for_room();
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			break; /* nobody can read it */
		s += n;
		len -= (size_t)n;
	}
	if (logger.show != NULL)
		logger.show(logger.ctx);
	pthread_mutex_unlock(&logger.mutex);
}

static const char *const level_names[] = {
	[LOG_ERROR] = "error", [LOG_WARN] = "warning", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"};

static void write_text(enum log_level level, const char *message)
{
	struct text t = {0};

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
	struct tm tm;
	char buf[64];
	size_t n;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf + n, sizeof(buf) - n, ".%03ldZ", now.tv_nsec / 1000000);
	return json_string(buf);
}

static void write_json(
	enum log_level level, const struct log_field *fields, unsigned n, const char *message)
{
	json_t *line = json_object();
	struct text t = {0};
	char *s;

	json_object_set_new(line, "time", json_time());
	json_object_set_new(line, "level", json_string(level_names[level]));
	json_object_set_new(line, "message", json_from_text(message, JSON_ODD_HEX));
	for (unsigned i = 0; i < n; i++) {
		if (fields[i].type == LOG_NUMBER)
			json_object_set_new(line, fields[i].key, json_real(fields[i].number));
		else if (fields[i].string != NULL && fields[i].type == LOG_WORD)
			json_object_set_new(line, fields[i].key, json_string(fields[i].string));
		else if (fields[i].string != NULL)
			json_object_set_new(line, fields[i].key, field_text(fields[i].string));
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

static void write_message(
	enum log_level level, const struct log_field *fields, unsigned n, const char *message)
{
	if (level == LOG_WARN && logger.on_warning != NULL)
		logger.on_warning(logger.observer, message);
	if (logger.format == LOG_JSON)
		write_json(level, fields, n, message);
	else
		write_text(level, message);
}

static char *format_message(const char *fmt, va_list ap)
{
	char *s = NULL;

	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	return redact_own(s);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	_free_ char *message = NULL;
	va_list ap;

	if (level > logger.level)
		return;
	va_start(ap, fmt);
	message = format_message(fmt, ap);
	va_end(ap);
	write_message(level, NULL, 0, message);
}

void log_fields(
	enum log_level level, const struct log_field *fields, unsigned n, const char *fmt, ...)
{
	_free_ char *message = NULL;
	va_list ap;

	if (level > logger.level)
		return;
	va_start(ap, fmt);
	message = format_message(fmt, ap);
	va_end(ap);
	write_message(level, fields, n, message);
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
