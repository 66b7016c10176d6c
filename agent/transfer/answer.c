/* SPDX-License-Identifier: MIT */
/* Reads response headers, and judges what a response means. Pure: no curl handle, no lock, no
 * thread of its own, so that every lie a server can tell is a test of a few lines. */
#include "answer.h"
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { RETRY_AFTER_MAX_MS = 60000 };

void answer_reset(struct answer *a)
{
	*a = (struct answer){.version.size = SIZE_UNKNOWN, .content_length = SIZE_UNKNOWN};
}

static void copy_value(char *to, size_t size, const char *value, size_t len)
{
	/* A validator that does not fit is no validator: half of one could match the wrong one. */
	if (len >= size)
		len = 0;
	memcpy(to, value, len);
	to[len] = '\0';
}

/* "HTTP/1.1 404 Not Found" */
static void read_status(struct answer *a, const char *line)
{
	const char *space = strchr(line, ' ');
	char *end;

	answer_reset(a);
	if (space == NULL)
		return;
	a->status = (int)strtol(space, &end, 10);
	while (*end == ' ')
		end++;
	snprintf(a->reason, sizeof(a->reason), "%.*s", (int)strcspn(end, "\r\n"), end);
}

static bool read_number(const char **at, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)**at))
		return false;
	errno = 0;
	*ret = strtoull(*at, &end, 10);
	*at = end;
	return errno == 0;
}

/* "bytes 0-99/1000". Either side of the slash can be an asterisk: not known, or (416) no range. */
static void read_content_range(struct answer *a, const char *value)
{
	uint64_t first, last, total = SIZE_UNKNOWN;
	bool range;

	if (strncasecmp(value, "bytes ", 6) != 0)
		return;
	value += 6;
	range = read_number(&value, &first) && *value++ == '-' && read_number(&value, &last);
	if (!range && *value++ != '*')
		return;
	if (*value++ != '/' || (*value != '*' && !read_number(&value, &total)))
		return;
	a->version.size = total;
	if (range && first <= last && last < total) {
		a->first = first;
		a->last = last;
		a->has_range = true;
	}
}

static uint64_t read_retry_after(const char *value)
{
	uint64_t seconds;
	time_t then;

	if (!read_number(&value, &seconds)) {
		time_t now = time(NULL);

		then = curl_getdate(value, NULL);
		seconds = then > now ? (uint64_t)(then - now) : 0;
	}
	return seconds < RETRY_AFTER_MAX_MS / 1000 ? seconds * 1000 : RETRY_AFTER_MAX_MS;
}

/* What S3 adds. */
static void read_service_field(struct answer *a, const char *name, const char *value, size_t len)
{
	if (strcasecmp(name, "x-amz-request-id") == 0)
		copy_value(a->request_id, sizeof(a->request_id), value, len);
	else if (strcasecmp(name, "x-amz-bucket-region") == 0)
		copy_value(a->region, sizeof(a->region), value, len);
	else if (strcasecmp(name, "Date") == 0)
		copy_value(a->date, sizeof(a->date), value, len);
}

static void read_field(struct answer *a, const char *name, const char *value, size_t len)
{
	const char *number = value;

	if (strcasecmp(name, "ETag") == 0)
		copy_value(a->version.etag, sizeof(a->version.etag), value, len);
	else if (strcasecmp(name, "Last-Modified") == 0)
		copy_value(a->version.last_modified, sizeof(a->version.last_modified), value, len);
	else if (strcasecmp(name, "Content-Range") == 0)
		read_content_range(a, value);
	else if (strcasecmp(name, "Content-Length") == 0)
		read_number(&number, &a->content_length);
	else if (strcasecmp(name, "Content-Encoding") == 0)
		snprintf(a->content_encoding, sizeof(a->content_encoding), "%.31s", value);
	else if (strcasecmp(name, "Retry-After") == 0)
		a->retry_after_ms = read_retry_after(value);
	else
		read_service_field(a, name, value, len);
}

void answer_header(struct answer *a, const char *line, size_t len)
{
	char field[4096];
	char *value;
	size_t end = len < sizeof(field) - 1 ? len : sizeof(field) - 1;

	memcpy(field, line, end);
	while (end > 0 && isspace((unsigned char)field[end - 1]))
		end--;
	field[end] = '\0';
	if (strncmp(field, "HTTP/", 5) == 0) {
		read_status(a, field);
		return;
	}
	value = strchr(field, ':');
	if (value == NULL)
		return;
	*value++ = '\0';
	value += strspn(value, " \t");
	read_field(a, field, value, strlen(value));
}

void answer_text(struct answer *a, const char *bytes, size_t len)
{
	size_t room = sizeof(a->text) - 1 - a->text_len;

	if (len > room)
		len = room;
	memcpy(a->text + a->text_len, bytes, len);
	a->text_len += len;
	a->text[a->text_len] = '\0';
}

bool etag_is_strong(const char *etag)
{
	return etag[0] == '"';
}
