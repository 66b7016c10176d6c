/* SPDX-License-Identifier: MIT */
#ifndef STAGERUN_LOG_H
#define STAGERUN_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The agent's messages, on stderr: one line for each call, human text ("stagerun: ...") or one JSON
 * object ({"time","level","message",...}). Any thread; a line is one write(2), so lines never mix.
 * Secrets (redact.h) are hidden. Control bytes in messages (names from archives) are printed as
 * \xNN, so that an archive cannot send escape sequences to a terminal. Modules below the stage
 * return errors and do not log them; they may warn. */

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

/* Called once, before any thread is started. fd: where lines are written (2); borrowed. */
void log_setup(enum log_level level, enum log_format format, int fd);

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
	enum { LOG_STRING, LOG_WORD, LOG_NUMBER } type;
	/* For LOG_STRING, and for LOG_WORD, which is a word of the agent's own without secrets.
	 * NULL: the member is left out. */
	const char *string;
	double number; /* for LOG_NUMBER */
};

/* As log_line(), with n fields for programs. */
void log_fields(enum log_level level, const struct log_field *fields, unsigned n, const char *fmt,
	...) __attribute__((format(printf, 4, 5)));

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
