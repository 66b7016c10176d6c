/* SPDX-License-Identifier: MIT */
/* What a call gets: status, headers and body, as curl hands them over. */
#include "calling.h"
#include "defer.h"
#include "progress.h"
#include "throttle.h"
#include <ctype.h>
#include <string.h>

enum { BODY_MAX = 16 * 1024 * 1024 };

static void forget(struct reply *r)
{
	strings_done(&r->headers);
	text_done(&r->body);
	*r = (struct reply){0};
}

/* "HTTP/1.1 200 OK": an answer begins, perhaps after another (100, or a proxy's). */
static bool take_status(struct reply *r, const char *line, size_t len)
{
	const char *space = memchr(line, ' ', len);

	if (len < 5 || strncasecmp(line, "HTTP/", 5) != 0 || space == NULL)
		return false;
	forget(r);
	r->status = strtol(space, NULL, 10);
	return true;
}

/* "Name:  value\r\n" -> "name: value" */
static void take_header(struct reply *r, const char *line, size_t len)
{
	const char *colon = memchr(line, ':', len);
	const char *value, *end = line + len;
	_free_ char *kept = NULL;

	if (colon == NULL)
		return;
	for (value = colon + 1; value < end && strchr(" \t", *value) != NULL;)
		value++;
	while (end > value && strchr(" \t\r\n", end[-1]) != NULL)
		end--;
	kept = format_text("%.*s: %.*s", (int)(colon - line), line, (int)(end - value), value);
	for (char *c = kept; *c != ':'; c++)
		*c = (char)tolower((unsigned char)*c);
	strings_add(&r->headers, kept);
}

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
	struct calling *c = ctx;
	size_t len = one * n;

	c->moved += len;
	if (!take_status(c->reply, line, len))
		take_header(c->reply, line, len);
	return len;
}

static bool wants_in_place(const struct calling *c)
{
	return c->what->into != NULL && c->reply->status >= 200 && c->reply->status < 300;
}

static size_t take_in_place(struct calling *c, const char *bytes, size_t len)
{
	struct reply *r = c->reply;

	if (len > c->what->into_len - r->into_len) {
		c->code = error_set(c->err, -ERR_HTTP,
			"the server sent more than the %zu bytes that were asked for; it or a "
			"proxy "
			"before it does not honour ranges",
			c->what->into_len);
		return 0;
	}
	memcpy((char *)c->what->into + r->into_len, bytes, len);
	r->into_len += len;
	return len;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *ctx)
{
	struct calling *c = ctx;
	struct throttle *throttle = c->caller->network->throttle;
	size_t len = one * n;

	c->held = throttle_due_ns(throttle, now_ns()) != 0;
	if (c->held)
		return CURL_WRITEFUNC_PAUSE;
	throttle_count(throttle, len, now_ns());
	c->moved += len;
	if (wants_in_place(c))
		return take_in_place(c, bytes, len);
	if (len > BODY_MAX - c->reply->body.len) {
		c->code = error_set(c->err, -ERR_LIMIT,
			"the server's answer is longer than 16 MiB, and none that is asked for so "
			"is");
		return 0;
	}
	text_add_bytes(&c->reply->body, bytes, len);
	return len;
}

void calling_expect_reply(struct calling *c)
{
	CURL *easy = c->caller->easy;

	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, c);
}

const char *reply_header(const struct reply *r, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < r->headers.n; i++)
		if (strncasecmp(r->headers.v[i], name, len) == 0 && r->headers.v[i][len] == ':')
			return r->headers.v[i] + len + 2;
	return NULL;
}

void reply_done(struct reply *r)
{
	forget(r);
}
