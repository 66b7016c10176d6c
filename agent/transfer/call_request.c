/* SPDX-License-Identifier: MIT */
/* What a call sends: method, headers, body, signature. */
#include "calling.h"
#include "defer.h"
#include "engine.h"
#include <string.h>

/* Memory to send from in one go: a part of an upload has megabytes. */
enum { SEND_BYTES = 512 * 1024 };

static void add_header(struct calling *c, const char *line)
{
	struct curl_slist *longer = curl_slist_append(c->headers, line);

	if (longer == NULL)
		abort();
	c->headers = longer;
}

/* Whether the caller gave a header of this name. */
static bool gives(const struct call *what, const char *name)
{
	size_t len = strlen(name);

	for (const char *const *h = what->headers; h != NULL && *h != NULL; h++)
		if (strncasecmp(*h, name, len) == 0 && ((*h)[len] == ':' || (*h)[len] == ';'))
			return true;
	return false;
}

/* curl 7.88 signs headers that it was told to leave out, which then no server finds: so nothing is ever
 * left out here, and what curl would add is said beforehand. */
static const char *content_type(const struct call *what)
{
	bool form = strcmp(what->method, "POST") == 0 &&
		    (what->signature == NULL || strcmp(what->signature->service, "s3") != 0);

	return form ? "Content-Type: application/x-www-form-urlencoded"
		    : "Content-Type: application/octet-stream";
}

static bool has_body(const struct call *what)
{
	return what->body != NULL || strcmp(what->method, "PUT") == 0 ||
	       strcmp(what->method, "POST") == 0;
}

static void set_headers(struct calling *c)
{
	const struct call *what = c->what;

	for (const char *const *h = what->headers; h != NULL && *h != NULL; h++)
		add_header(c, *h);
	if (has_body(what) && !gives(what, "Content-Type"))
		add_header(c, content_type(what));
	curl_easy_setopt(c->caller->easy, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(c->caller->easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
}

static void set_body(struct calling *c)
{
	CURL *easy = c->caller->easy;
	const struct call *what = c->what;

	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)what->body_len);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, what->body != NULL ? what->body : "");
	/* A large body asks for leave to come, and comes: to wait costs a round trip, and a second where
	 * the answer is never given. */
	curl_easy_setopt(easy, CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
	if (what->body_len > SEND_BYTES)
		curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BYTES);
}

static void set_method(struct calling *c)
{
	CURL *easy = c->caller->easy;
	const char *method = c->what->method;

	if (strcmp(method, "HEAD") == 0) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
		return;
	}
	/* Not CURLOPT_UPLOAD for PUT: its body comes by a callback, and cannot be sent again by curl
	 * itself when a kept connection turns out to be dead. */
	if (has_body(c->what))
		set_body(c);
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
}

/* All headers given by CURLOPT_HTTPHEADER are signed, so these come before. */
static void set_signature(struct calling *c)
{
	CURL *easy = c->caller->easy;
	const struct call_signature *s = c->what->signature;
	_free_ char *scope = format_text("aws:amz:%s:%s", s->region, s->service);

	if (strcmp(s->service, "s3") == 0 && !gives(c->what, "x-amz-content-sha256"))
		add_header(c, "x-amz-content-sha256: UNSIGNED-PAYLOAD");
	if (s->session_token != NULL && s->session_token[0] != '\0') {
		_free_ char *line = format_text("x-amz-security-token: %s", s->session_token);

		add_header(c, line);
	}
	curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, scope);
	curl_easy_setopt(easy, CURLOPT_USERNAME, s->access_key);
	curl_easy_setopt(easy, CURLOPT_PASSWORD, s->secret_key);
}

CURLcode calling_prepare(struct calling *c)
{
	struct caller *caller = c->caller;
	CURL *easy = caller->easy;

	network_set(easy, caller->network, caller->ca_file);
	set_method(c);
	if (c->what->signature != NULL)
		set_signature(c);
	set_headers(c);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->said);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BLOCK_BYTES);
	/* A key of S3 may hold "/../". */
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	if (c->what->timeout_ms > 0)
		curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)c->what->timeout_ms);
	if (c->what->no_proxy)
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
	return curl_easy_setopt(easy, CURLOPT_URL, c->what->url);
}
