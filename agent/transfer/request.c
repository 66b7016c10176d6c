/* SPDX-License-Identifier: MIT */
/* What one request says: URL, range, conditions, and the configured headers and credentials that
 * this very URL may see. Loop thread. */
#include "defer.h"
#include "engine.h"
#include "text.h"
#include <inttypes.h>
#include <string.h>
#include <strings.h>

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
	char *curls = NULL, *ours;

	if (curl_url_get(u, part, &curls, flags) != CURLUE_OK)
		return NULL;
	ours = copy_text(curls);
	curl_free(curls);
	return ours;
}

char *url_origin(const char *url)
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
	return format_text("%s://%s:%s", scheme, host, port);
}

static size_t authority_end(const char *url, size_t len)
{
	const char *host = memmem(url, len, "://", 3);
	size_t at = host != NULL ? (size_t)(host - url) + 3 : len;

	while (at < len && strchr("/?#", url[at]) == NULL)
		at++;
	return at;
}

/* The path is compared byte by byte, the host as a whole: "https://a.b" is no prefix of
 * "https://a.b.evil.com/" nor of "https://a.b@evil.com/". */
bool url_has_prefix(const char *url, const char *prefix, size_t prefix_len)
{
	size_t host_len = authority_end(url, strlen(url));
	_free_ char *wanted = format_text("%.*s", (int)prefix_len, prefix);
	_free_ char *wanted_origin = url_origin(wanted);
	_free_ char *origin = url_origin(url);
	size_t path_at = authority_end(prefix, prefix_len);

	if (origin == NULL || wanted_origin == NULL || strcmp(origin, wanted_origin) != 0)
		return false;
	return strncmp(url + host_len, prefix + path_at, prefix_len - path_at) == 0;
}

/* "URL-PREFIX NAME: VALUE" */
static const char *header_of(const char *line, size_t *ret_prefix_len)
{
	*ret_prefix_len = strcspn(line, " \t");
	return line + *ret_prefix_len + strspn(line + *ret_prefix_len, " \t");
}

int request_check_headers(const struct transfer_options *opts, struct error *err)
{
	for (size_t i = 0; opts->headers != NULL && opts->headers[i] != NULL; i++) {
		const char *line = opts->headers[i];
		size_t prefix_len;
		const char *header = header_of(line, &prefix_len);
		_free_ char *prefix = format_text("%.*s", (int)prefix_len, line);
		_free_ char *origin = url_origin(prefix);
		size_t name_len = strcspn(header, ": \t");

		/* The value may be a secret: the message shows the prefix and no more. */
		if (origin == NULL || strncmp(line, "http", 4) != 0)
			return error_set(err, -ERR_CONFIG,
				"headers: '%.*s' is not the beginning of an http or https URL; a "
				"header is written URL-PREFIX NAME: VALUE",
				(int)prefix_len, line);
		if (name_len == 0 || header[name_len] != ':' || strpbrk(header, "\r\n") != NULL)
			return error_set(err, -ERR_CONFIG,
				"headers: what follows '%.*s' is not NAME: VALUE", (int)prefix_len,
				line);
	}
	return 0;
}

static void add_header(struct range *r, const char *line)
{
	struct curl_slist *longer = curl_slist_append(r->headers, line);

	if (longer == NULL)
		abort();
	r->headers = longer;
}

static void add_headerf(struct range *r, const char *name, const char *value)
{
	_free_ char *line = format_text("%s: %s", name, value);

	add_header(r, line);
}

static void add_conditions(struct range *r)
{
	const struct http_object *o = r->object;

	/* With a weak ETag, If-Match is always answered by 412 and If-Range by 200. Then every
	 * response is compared with the first, and nothing is asked. */
	if (o->discovered && etag_is_strong(o->version.etag))
		add_headerf(r, "If-Match", o->version.etag);
	if (o->discovered || !o->conditional)
		return;
	if (etag_is_strong(o->have.etag))
		add_headerf(r, "If-None-Match", o->have.etag);
	else if (o->have.last_modified[0] != '\0')
		add_headerf(r, "If-Modified-Since", o->have.last_modified);
}

static void add_configured(struct range *r)
{
	const char *const *headers = r->object->t->opts->headers;

	for (; headers != NULL && *headers != NULL; headers++) {
		size_t prefix_len;
		const char *header = header_of(*headers, &prefix_len);

		if (url_has_prefix(r->object->url, *headers, prefix_len))
			add_header(r, header);
	}
}

static void set_network(struct range *r)
{
	const struct transfer *t = r->object->t;

	network_set(r->easy, t->opts, t->ca_file);
	curl_easy_setopt(r->easy, CURLOPT_BUFFERSIZE, (long)BLOCK_BYTES);
	curl_easy_setopt(r->easy, CURLOPT_SHARE, t->share);
	if (t->opts->netrc_file != NULL && r->object->signer.ctx == NULL) {
		curl_easy_setopt(r->easy, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
		curl_easy_setopt(r->easy, CURLOPT_NETRC_FILE, t->opts->netrc_file);
	}
}

CURLcode request_prepare(struct range *r)
{
	const struct http_object *o = r->object;

	r->curl_said[0] = '\0';
	set_network(r);
	add_header(r, "Accept-Encoding: identity");
	add_conditions(r);
	add_configured(r);
	sign_prepare(r);
	curl_easy_setopt(r->easy, CURLOPT_HTTPHEADER, r->headers);
	curl_easy_setopt(r->easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
	curl_easy_setopt(r->easy, CURLOPT_ERRORBUFFER, r->curl_said);
	if (!o->plain) {
		_free_ char *bytes = format_text("%" PRIu64 "-%" PRIu64, r->at, r->end - 1);

		curl_easy_setopt(r->easy, CURLOPT_RANGE, bytes);
	}
	return curl_easy_setopt(r->easy, CURLOPT_URL, o->url);
}
