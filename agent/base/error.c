/* SPDX-License-Identifier: MIT */
/* Errors as values: one code, one sentence. Any thread. */
#include "error.h"
#include "defer.h"
#include "redact.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Secrets are hidden before the text is truncated, since half of a secret would not be recognized.
 * Returns the length of the whole text. */
static size_t format_redacted(char *to, size_t size, const char *fmt, va_list ap)
{
	_free_ char *s = NULL;

	if (vasprintf(&s, fmt, ap) < 0)
		abort();
	s = redact_own(s);
	return (size_t)snprintf(to, size, "%s", s);
}

/* EAGAIN and ECANCELED are used for what may be repeated, and for what was stopped. */
static int errno_of(int code)
{
	return code < 0 && code > -ERR_FORMAT && code != -EAGAIN && code != -ECANCELED ? -code : 0;
}

int error_set(struct error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL)
		return code;
	err->code = code;
	err->item[0] = '\0';
	err->errnum = errno_of(code);
	err->http_status = 0;
	va_start(ap, fmt);
	format_redacted(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	return code;
}

void error_cause(struct error *err, int errnum, long http_status)
{
	if (err == NULL)
		return;
	err->errnum = errnum;
	err->http_status = (int)http_status;
}

void error_item(struct error *err, const char *fmt, ...)
{
	va_list ap;

	if (err == NULL || err->item[0] != '\0')
		return;
	va_start(ap, fmt);
	format_redacted(err->item, sizeof(err->item), fmt, ap);
	va_end(ap);
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	va_list ap;
	size_t n;

	if (err == NULL)
		return -EIO;
	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	n = format_redacted(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	if (n < sizeof(err->msg))
		snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", old);
	return err->code;
}
