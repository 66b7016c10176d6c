/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_LOG_H
#define STAGERUN_LOG_H

#include "log_events.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The agent's messages, on stderr: one line for each call, human text ("stagerun: ...") or one JSON
 * object ({"time","level","event","message",...}). Any thread; a line is one write(2), so lines
 * never mix. Secrets (redact.h) are hidden. Control bytes in messages (names from archives) are
 * printed as \xNN, so that an archive cannot send escape sequences to a terminal. Modules below the
 * stage return errors and do not log them; they may warn. */

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };
/* Whether lines of text begin with the time; JSON lines always have it. */
enum log_time {
	LOG_TIME_AUTO, /* unless they are read on a terminal */
	LOG_TIME_YES,
	LOG_TIME_NO,
};

/* Called once, before any thread is started. fd: where lines are written (2); borrowed. */
void log_setup(enum log_level level, enum log_format format, int fd);

/* Called after log_setup(), before any thread is started. "2026-11-30T14:00:00.123Z stagerun: ...";
 * without a call, there are no times. */
void log_set_times(enum log_time when);

enum log_level log_level(void);
enum log_format log_format(void);

void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/* One typed member of a JSON line; ignored in text, where the message contains it. All pointers are
 * borrowed. */
struct log_field {
	const char *key;
	enum { LOG_NONE, LOG_STRING, LOG_WORD, LOG_INTEGER, LOG_REAL } type;
	/* For LOG_STRING, and for LOG_WORD, which is a word of the agent's own without secrets.
	 * NULL: the member is left out. */
	const char *string;
	uint64_t integer;
	double real;
};

static inline struct log_field log_field_text(const char *key, const char *value)
{
	return (struct log_field){.key = key, .type = LOG_STRING, .string = value};
}

static inline struct log_field log_field_word(const char *key, const char *word)
{
	return (struct log_field){.key = key, .type = LOG_WORD, .string = word};
}

static inline struct log_field log_field_integer(const char *key, uint64_t value)
{
	return (struct log_field){.key = key, .type = LOG_INTEGER, .integer = value};
}

/* Left out if it is 0, which stands for "not known" or "none". */
static inline struct log_field log_field_known(const char *key, uint64_t value)
{
	return (struct log_field){
		.key = key, .type = value != 0 ? LOG_INTEGER : LOG_NONE, .integer = value};
}

/* Left out if it is negative, which stands for "not known". */
static inline struct log_field log_field_seconds(const char *key, double seconds)
{
	return (struct log_field){
		.key = key, .type = seconds >= 0 ? LOG_REAL : LOG_NONE, .real = seconds};
}

static inline struct log_field log_field_ns(const char *key, uint64_t ns)
{
	return log_field_seconds(key, (double)ns / 1e9);
}

struct error;

/* "errno", as a name ("ENOSPC"), and "http_status" of the cause; left out if there is none. */
struct log_field log_field_errno(const struct error *err);
struct log_field log_field_http_status(const struct error *err);

/* The level of an event that is nothing new to people, unless they ask for more with --verbose. */
enum log_level log_level_of_detail(void);

/* As log_line(), about this event, with n fields for programs. */
void log_event(enum log_level level, enum log_event event, const struct log_field *fields,
	unsigned n, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The same, always as a JSON object, whatever the format of the log is. */
void log_event_json(enum log_level level, enum log_event event, const struct log_field *fields,
	unsigned n, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Writes a line that a child printed, len bytes without its newline: unchanged except for secrets,
 * in both formats, after prefix. */
void log_output(const char *prefix, const char *line, size_t len);

/* hide and show are called around every line with the stream locked, so that a live progress
 * display can remove itself from the terminal and come back. Either may be NULL. */
void log_set_display(void (*hide)(void *ctx), void (*show)(void *ctx), void *ctx);

/* on_warning gets the message of each warning that is logged, without secrets, on the thread that
 * logs it. NULL: nobody does. At most one at a time; set while no other thread logs. */
void log_set_observer(void (*on_warning)(void *ctx, const char *message), void *ctx);

#endif
