/* SPDX-License-Identifier: MIT */
/* Contents of requests: options that all requests share, signatures, and URL, range, conditions,
 * configured headers and credentials of one range's request. Loop thread, except for the functions
 * that engine.h marks for any thread. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static curl_socket_t open_socket(void *ctx, curlsocktype purpose, struct curl_sockaddr *address)
{
	(void)ctx;
	(void)purpose;
	return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Closed here and not in libcurl for the thread sanitizer: it must see that the descriptor's number
 * can be reused. */
static int close_socket(void *ctx, curl_socket_t fd)
{
	(void)ctx;
	return close(fd);
}

void request_note_network(CURLcode *result, CURLcode code)
{
	if (*result == CURLE_OK)
		*result = code;
}

/* Setting a number cannot fail; strings are copied, which can run out of memory. */
CURLcode request_set_network(CURL *easy, const struct transfer_options *opts, const char *ca_file)
{
	CURLcode result = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");

	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	/* On HTTP/2 all ranges would share one TCP window, and a paused range would still fill
	 * buffers. */
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)opts->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
	request_note_network(
		&result, curl_easy_setopt(easy, CURLOPT_USERAGENT, "stagerun/" STAGERUN_VERSION));
	if (ca_file == NULL)
		return result;
	request_note_network(&result, curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file));
	curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	request_note_network(&result, curl_easy_setopt(easy, CURLOPT_PROXY_CAINFO, ca_file));
	return result;
}

void request_add_header(struct curl_slist **headers, const char *fmt, ...)
{
	_free_ char *line = NULL;
	struct curl_slist *longer;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&line, fmt, ap) < 0)
		abort();
	va_end(ap);
	longer = curl_slist_append(*headers, line);
	if (longer == NULL)
		abort();
	*headers = longer;
}

/* Signed requests. Each attempt is signed with the current keys, and the signer classifies
 * refusals. */

/* libcurl signs every header of CURLOPT_HTTPHEADER, so these are added before that is set. */
static CURLcode apply_keys(struct range *r, const struct http_keys *k)
{
	CURLcode result;

	snprintf(r->signed_with, sizeof(r->signed_with), "%s", k->access_key);
	request_add_header(&r->headers, "x-amz-content-sha256: UNSIGNED-PAYLOAD");
	if (k->session_token != NULL && k->session_token[0] != '\0')
		request_add_header(&r->headers, "x-amz-security-token: %s", k->session_token);
	result = curl_easy_setopt(r->easy, CURLOPT_AWS_SIGV4, r->object->signer.scope);
	request_note_network(&result, curl_easy_setopt(r->easy, CURLOPT_USERNAME, k->access_key));
	request_note_network(&result, curl_easy_setopt(r->easy, CURLOPT_PASSWORD, k->secret_key));
	return result;
}

static CURLcode prepare_signature(struct range *r)
{
	const struct http_signer *signer = &r->object->signer;
	struct http_keys keys = {0};
	CURLcode result = CURLE_OK;

	r->signed_with[0] = '\0';
	if (signer->ctx == NULL)
		return CURLE_OK;
	/* An S3 key may contain "/../". */
	curl_easy_setopt(r->easy, CURLOPT_PATH_AS_IS, 1L);
	if (signer->ca_file != NULL)
		result = curl_easy_setopt(r->easy, CURLOPT_CAINFO, signer->ca_file);
	if (!signer->keys(signer->ctx, &keys))
		return result;
	request_note_network(&result, apply_keys(r, &keys));
	free(keys.access_key);
	free(keys.secret_key);
	free(keys.session_token);
	return result;
}

/* Lets the signer classify a refusal by S3's error code in the body. */
static enum verdict classify_refusal(struct range *r)
{
	const struct answer *a = &r->answer;
	const struct http_signer *signer = &r->object->signer;
	const struct http_refusal refusal = {.status = a->status,
		.in_transfer = r->object->discovered,
		.body = a->text,
		.body_len = a->text_len,
		.request_id = a->request_id,
		.region = a->region,
		.date = a->date,
		.access_key = r->signed_with};

	uint64_t after_ms = 0;

	if (!signer->refused(signer->ctx, &refusal, &after_ms, &r->why))
		return VERDICT_FAIL;
	if (r->answer.retry_after_ms < after_ms)
		r->answer.retry_after_ms = after_ms;
	return VERDICT_RETRY;
}

/* If the body has an S3 error code, the server has understood the request. */
static bool may_refuse_range(const struct range *r, const struct answer_wanted *w)
{
	const struct answer *a = &r->answer;
	bool in_words = strstr(a->text, "<Code>") != NULL;

	return w->version == NULL && !w->plain && answer_may_refuse_range(a) &&
	       (!in_words || a->status == 405 || a->status == 501);
}

enum verdict request_classify_signature(struct range *r)
{
	struct answer_wanted w = range_wanted(r);
	int status = r->answer.status;

	if (r->object->signer.ctx == NULL || status == 304 || status == 412 || status == 416)
		return answer_classify(&r->answer, &w, &r->why);
	return may_refuse_range(r, &w) ? VERDICT_PLAIN : classify_refusal(r);
}

/* URLs, headers and conditions. */

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
	char *curls = NULL, *ours;

	if (curl_url_get(u, part, &curls, flags) != CURLUE_OK)
		return NULL;
	ours = text_copy(curls);
	curl_free(curls);
	return ours;
}

char *request_url_origin(const char *url)
{
	CURLU *u = curl_url();
	_free_ char *scheme = NULL, *host = NULL, *port = NULL;

	if (u == NULL || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK) {
		curl_url_cleanup(u);
		return NULL;
	}
	scheme = url_part(u, CURLUPART_SCHEME, 0);
	host = url_part(u, CURLUPART_HOST, 0);
	port = url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	curl_url_cleanup(u);
	if (scheme == NULL || host == NULL || port == NULL)
		return NULL;
	for (char *c = host; *c != '\0'; c++)
		*c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
	return text_format("%s://%s:%s", scheme, host, port);
}

static size_t authority_end(const char *url, size_t len)
{
	const char *host = memmem(url, len, "://", 3);
	size_t at = host != NULL ? (size_t)(host - url) + 3 : len;

	while (at < len && strchr("/?#", url[at]) == NULL)
		at++;
	return at;
}

/* The path is compared byte by byte, the host as a whole: "https://a.b" is not a prefix of
 * "https://a.b.evil.com/" or "https://a.b@evil.com/". */
bool request_url_has_prefix(const char *url, const char *prefix, size_t prefix_len)
{
	size_t host_len = authority_end(url, strlen(url));
	_free_ char *wanted = text_format("%.*s", (int)prefix_len, prefix);
	_free_ char *wanted_origin = request_url_origin(wanted);
	_free_ char *origin = request_url_origin(url);
	size_t path_at = authority_end(prefix, prefix_len);

	if (origin == NULL || wanted_origin == NULL || strcmp(origin, wanted_origin) != 0)
		return false;
	return strncmp(url + host_len, prefix + path_at, prefix_len - path_at) == 0;
}

/* "URL-PREFIX NAME: VALUE" */
static const char *split_configured(const char *line, size_t *ret_prefix_len)
{
	*ret_prefix_len = strcspn(line, " \t");
	return line + *ret_prefix_len + strspn(line + *ret_prefix_len, " \t");
}

int request_check_headers(const struct transfer_options *opts, struct error *err)
{
	for (size_t i = 0; opts->headers != NULL && opts->headers[i] != NULL; i++) {
		const char *line = opts->headers[i];
		size_t prefix_len;
		const char *header = split_configured(line, &prefix_len);
		_free_ char *prefix = text_format("%.*s", (int)prefix_len, line);
		_free_ char *origin = request_url_origin(prefix);
		size_t name_len = strcspn(header, ": \t");

		/* The value may be a secret: the message contains only the prefix. */
		if (origin == NULL || strncmp(line, "http", 4) != 0)
			return error_set(err, -ERR_CONFIG,
				"headers: '%.*s' is not the beginning of an http or https URL; a header is written URL-PREFIX NAME: VALUE",
				(int)prefix_len, line);
		if (name_len == 0 || header[name_len] != ':' || strpbrk(header, "\r\n") != NULL)
			return error_set(err, -ERR_CONFIG,
				"headers: what follows '%.*s' is not NAME: VALUE", (int)prefix_len,
				line);
	}
	return 0;
}

static void add_conditions(struct range *r)
{
	const struct http_object *o = r->object;

	/* With a weak ETag, If-Match is always answered by 412 and If-Range by 200. Then no
	 * condition is sent, and every response is compared with the first. */
	if (o->discovered && answer_etag_is_strong(o->version.etag))
		request_add_header(&r->headers, "If-Match: %s", o->version.etag);
	if (o->discovered || !o->conditional)
		return;
	if (answer_etag_is_strong(o->have.etag))
		request_add_header(&r->headers, "If-None-Match: %s", o->have.etag);
	else if (o->have.last_modified[0] != '\0')
		request_add_header(&r->headers, "If-Modified-Since: %s", o->have.last_modified);
}

/* Credentials are for the requested origin. The target of a redirect is the server's choice, and
 * even another port of the host may belong to somebody else. */
static bool may_see_credentials(const struct http_object *o)
{
	return o->host == o->asked_host;
}

static void add_configured(struct range *r)
{
	const char *const *headers = r->object->t->opts->headers;

	if (!may_see_credentials(r->object))
		return;
	for (; headers != NULL && *headers != NULL; headers++) {
		size_t prefix_len;
		const char *header = split_configured(*headers, &prefix_len);

		if (request_url_has_prefix(r->object->url, *headers, prefix_len))
			request_add_header(&r->headers, "%s", header);
	}
}

static CURLcode set_range_network(struct range *r)
{
	const struct http_object *o = r->object;
	const struct transfer *t = o->t;
	CURLcode result = request_set_network(r->easy, t->opts, t->ca_file);

	curl_easy_setopt(r->easy, CURLOPT_BUFFERSIZE, (long)BLOCK_BYTES);
	curl_easy_setopt(r->easy, CURLOPT_SHARE, t->share);
	if (t->opts->netrc_file != NULL && o->signer.ctx == NULL && may_see_credentials(o)) {
		curl_easy_setopt(r->easy, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
		request_note_network(&result,
			curl_easy_setopt(r->easy, CURLOPT_NETRC_FILE, t->opts->netrc_file));
	}
	return result;
}

CURLcode request_prepare(struct range *r)
{
	const struct http_object *o = r->object;
	CURLcode result = set_range_network(r);

	r->curl_message[0] = '\0';
	add_conditions(r);
	add_configured(r);
	request_note_network(&result, prepare_signature(r));
	/* Not set as a header, since libcurl signs all headers and some front ends of S3 rewrite
	 * this one. */
	request_note_network(
		&result, curl_easy_setopt(r->easy, CURLOPT_ACCEPT_ENCODING, "identity"));
	curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
	curl_easy_setopt(r->easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
	curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->curl_message);
	if (!o->plain) {
		_free_ char *bytes = text_format("%" PRIu64 "-%" PRIu64, r->at, r->end - 1);

		request_note_network(&result, curl_easy_setopt(r->easy, CURLOPT_RANGE, bytes));
	}
	request_note_network(&result, curl_easy_setopt(r->easy, CURLOPT_URL, o->url));
	return result;
}

/* Resolves a redirect. A target on the origin of url keeps the user and password; a target on
 * another origin gets none. */
static char *resolve_redirect(const char *url, const char *target)
{
	_free_ char *from = request_url_origin(url), *to = NULL, *resolved = NULL;
	CURLU *u = curl_url();

	if (u == NULL || curl_url_set(u, CURLUPART_URL, url, 0) != CURLUE_OK ||
		curl_url_set(u, CURLUPART_URL, target, CURLU_URLENCODE | CURLU_ALLOW_SPACE) !=
			CURLUE_OK) {
		curl_url_cleanup(u);
		return NULL;
	}
	resolved = url_part(u, CURLUPART_URL, 0);
	to = resolved != NULL ? request_url_origin(resolved) : NULL;
	if (from != NULL && to != NULL && strcmp(from, to) != 0) {
		curl_url_set(u, CURLUPART_USER, NULL, 0);
		curl_url_set(u, CURLUPART_PASSWORD, NULL, 0);
		free(resolved);
		resolved = url_part(u, CURLUPART_URL, 0);
	}
	curl_url_cleanup(u);
	return take_ptr(&resolved);
}

/* Not CURLINFO_REDIRECT_URL, which curl sets only after the body. */
char *request_redirect(const struct range *r)
{
	struct curl_header *location;

	if (curl_easy_header(r->easy, "Location", 0, CURLH_HEADER, -1, &location) != CURLHE_OK)
		return NULL;
	return resolve_redirect(r->object->url, location->value);
}
