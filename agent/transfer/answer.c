/* SPDX-License-Identifier: MIT */
/* Parses response headers and classifies responses, and what curl says of a request that got none.
 * Pure: no curl handle, no lock, no thread of its own, so that every malformed or dishonest
 * response is a test of a few lines. */
#include "answer.h"
#include "patience.h"
#include "text.h"
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { RETRY_AFTER_MAX_MS = 60000 };

/* HTTP dates have a resolution of one second. Last-Modified may come from another clock than Date,
 * that of a file server. A Last-Modified that is further ahead than CLOCKS_DIFFER_S was set by
 * somebody, and is not the time of writing. */
enum { DATE_SETTLES_S = 2, CLOCKS_DIFFER_S = 60 };

void answer_reset(struct answer *a)
{
	*a = (struct answer){.version.size = SIZE_UNKNOWN, .content_length = SIZE_UNKNOWN};
}

static void copy_value(char *to, size_t size, const char *value, size_t len)
{
	/* A validator that does not fit is dropped: half of one could match the wrong version. */
	if (len >= size)
		len = 0;
	memcpy(to, value, len);
	to[len] = '\0';
}

/* "HTTP/1.1 404 Not Found" */
static void parse_status(struct answer *a, const char *line)
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

static bool parse_number(const char **at, uint64_t *ret)
{
	char *end;

	if (!isdigit((unsigned char)**at))
		return false;
	errno = 0;
	*ret = strtoull(*at, &end, 10);
	*at = end;
	return errno == 0;
}

/* "/1000" or "/" and an asterisk, and nothing after it. */
static bool parse_total(const char *value, uint64_t *ret)
{
	if (*value++ != '/')
		return false;
	return strcmp(value, "*") == 0 || (parse_number(&value, ret) && *value == '\0');
}

/* "bytes 0-99/1000". Either side of the slash can be an asterisk: size unknown, or (in a 416) no
 * range. */
static void parse_content_range(struct answer *a, const char *value)
{
	uint64_t first, last, total = SIZE_UNKNOWN;
	bool range;

	/* If there are several such fields, the last one replaces the others entirely. */
	a->has_range = false;
	a->version.size = SIZE_UNKNOWN;
	if (strncasecmp(value, "bytes ", 6) != 0)
		return;
	value += 6;
	range = parse_number(&value, &first) && *value++ == '-' && parse_number(&value, &last);
	if (!range && *value++ != '*')
		return;
	if (!parse_total(value, &total))
		return;
	a->version.size = total;
	if (range && first <= last && last < total) {
		a->first = first;
		a->last = last;
		a->has_range = true;
	}
}

static uint64_t parse_retry_after(const char *value)
{
	bool is_number = *value != '\0' && value[strspn(value, "0123456789")] == '\0';
	uint64_t seconds;
	time_t then;

	if (!parse_number(&value, &seconds)) {
		time_t now = time(NULL);

		if (is_number)
			return RETRY_AFTER_MAX_MS; /* it does not fit into 64 bits */
		then = curl_getdate(value, NULL);
		seconds = then > now ? (uint64_t)(then - now) : 0;
	}
	return seconds < RETRY_AFTER_MAX_MS / 1000 ? seconds * 1000 : RETRY_AFTER_MAX_MS;
}

/* Fields that S3 adds, and Date. */
static void store_service_field(struct answer *a, const char *name, const char *value, size_t len)
{
	if (strcasecmp(name, "x-amz-request-id") == 0)
		copy_value(a->request_id, sizeof(a->request_id), value, len);
	else if (strcasecmp(name, "x-amz-bucket-region") == 0)
		copy_value(a->region, sizeof(a->region), value, len);
	else if (strcasecmp(name, "Date") == 0)
		copy_value(a->date, sizeof(a->date), value, len);
}

static void store_field(struct answer *a, const char *name, const char *value, size_t len)
{
	const char *number = value;

	if (strcasecmp(name, "ETag") == 0)
		copy_value(a->version.etag, sizeof(a->version.etag), value, len);
	else if (strcasecmp(name, "Last-Modified") == 0)
		copy_value(a->version.last_modified, sizeof(a->version.last_modified), value, len);
	else if (strcasecmp(name, "Content-Range") == 0)
		parse_content_range(a, value);
	else if (strcasecmp(name, "Content-Length") == 0)
		parse_number(&number, &a->content_length);
	else if (strcasecmp(name, "Content-Encoding") == 0)
		snprintf(a->content_encoding, sizeof(a->content_encoding), "%.63s", value);
	else if (strcasecmp(name, "Content-Disposition") == 0)
		copy_value(a->said.disposition, sizeof(a->said.disposition), value, len);
	else if (strcasecmp(name, "Content-Type") == 0)
		copy_value(a->said.media_type, sizeof(a->said.media_type), value, len);
	else if (strcasecmp(name, "Retry-After") == 0)
		a->retry_after_ms = parse_retry_after(value);
	else
		store_service_field(a, name, value, len);
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
		parse_status(a, field);
		return;
	}
	value = strchr(field, ':');
	if (value == NULL)
		return;
	*value++ = '\0';
	value += strspn(value, " \t");
	store_field(a, field, value, strlen(value));
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

bool answer_is_recent(const struct answer *a)
{
	time_t modified = curl_getdate(a->version.last_modified, NULL),
	       said = curl_getdate(a->date, NULL);

	return modified != -1 && said != -1 && said - modified < DATE_SETTLES_S &&
	       modified - said < CLOCKS_DIFFER_S;
}

bool answer_etag_is_strong(const char *etag)
{
	return etag[0] == '"';
}

/* Classification of a response to a request for a range. */

/* Whether equal validators prove that two responses are of one version. A weak ETag alone promises
 * equivalent content, not equal bytes. */
static bool identifies_version(const struct answer *a)
{
	const struct object_version *v = &a->version;

	return answer_etag_is_strong(v->etag) ||
	       (v->last_modified[0] != '\0' && v->size != SIZE_UNKNOWN && !answer_is_recent(a));
}

/* Strips the prefix of a weak ETag, for the weak comparison of RFC 9110 section 8.8.3.2. */
static const char *opaque_tag(const char *etag)
{
	return strncmp(etag, "W/", 2) == 0 ? etag + 2 : etag;
}

/* A field that the first response had and a later one lacks is a difference, too: without it
 * nothing proves that both are of one version. */
static const char *difference(const struct object_version *was, const struct object_version *is)
{
	if (was->etag[0] != '\0' && is->etag[0] == '\0')
		return "a later answer has no ETag";
	if (was->etag[0] != '\0' && strcmp(opaque_tag(was->etag), opaque_tag(is->etag)) != 0)
		return "its ETag changed";
	if (was->size != SIZE_UNKNOWN && is->size != SIZE_UNKNOWN && was->size != is->size)
		return "its size changed";
	/* Equal strong ETags mean equal bytes, whatever the date. */
	if (answer_etag_is_strong(was->etag) && answer_etag_is_strong(is->etag))
		return NULL;
	/* A weak one may stay when bytes change that the server takes for unimportant. */
	if (was->last_modified[0] == '\0' && answer_etag_is_strong(was->etag))
		return "a later answer has only a weak ETag";
	if (was->last_modified[0] != '\0' && is->last_modified[0] == '\0')
		return "a later answer has no Last-Modified date";
	if (was->last_modified[0] != '\0' && strcmp(was->last_modified, is->last_modified) != 0)
		return "its Last-Modified date changed";
	return was->size != is->size ? "a later answer does not say its size" : NULL;
}

static enum verdict set_changed(const struct answer_wanted *w, const char *what, struct error *err)
{
	error_set(err, -ERR_CHANGED, "%s was replaced on the server while it was read: %s", w->name,
		what);
	return VERDICT_FAIL;
}

/* Content-Encoding is often misused for the character encoding of a text, or for nothing ("utf-8",
 * "binary", "none"), and for the compression of the stored file. That compression is detected from
 * the first bytes and undone like any other. The codings listed here cannot be detected from the
 * bytes: content in them would be stored as garbage. */
static bool coding_is_readable(const char *coding)
{
	static const char *const hidden[] = {"br", "brotli", "x-br", "deflate", "x-deflate", "zlib",
		"compress", "x-compress", "dcb", "dcz", "exi", "pack200-gzip", "sdch", "aes128gcm"};
	char copy[sizeof(((struct answer *)NULL)->content_encoding)];
	char *save, *word;

	snprintf(copy, sizeof(copy), "%s", coding);
	for (word = strtok_r(copy, ", \t", &save); word != NULL;
		word = strtok_r(NULL, ", \t", &save)) {
		for (size_t i = 0; i < sizeof(hidden) / sizeof(hidden[0]); i++)
			if (strcasecmp(word, hidden[i]) == 0)
				return false;
	}
	return true;
}

static bool is_of_range(const struct answer *a, const struct answer_wanted *w)
{
	return a->has_range && a->first == w->from && a->last < w->to;
}

static enum verdict classify_content_range(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	if (!a->has_range || w->plain) {
		error_set(err, -ERR_HTTP,
			"%s: the server answered 206 Partial Content without a usable Content-Range; it or a proxy before it is broken",
			w->name);
		return VERDICT_RETRY;
	}
	if (!is_of_range(a, w)) {
		error_set(err, -ERR_HTTP,
			"%s: asked for bytes %" PRIu64 "-%" PRIu64
			", the server's Content-Range says %" PRIu64 "-%" PRIu64
			"; it or a proxy before it is broken",
			w->name, w->from, w->to - 1, a->first, a->last);
		return VERDICT_RETRY;
	}
	if (a->content_length != SIZE_UNKNOWN && a->content_length != a->last - a->first + 1) {
		error_set(err, -ERR_HTTP,
			"%s: the server promises %" PRIu64 " bytes in Content-Range and %" PRIu64
			" in Content-Length; it or a proxy before it is broken",
			w->name, a->last - a->first + 1, a->content_length);
		return VERDICT_RETRY;
	}
	return VERDICT_RANGE;
}

/* So far only a range was requested. */
static bool is_first(const struct answer_wanted *w)
{
	return w->version == NULL && !w->plain;
}

static enum verdict classify_partial(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	const char *what = w->version != NULL ? difference(w->version, &a->version) : NULL;

	if (what != NULL)
		return set_changed(w, what, err);
	/* Ranges of an object of unknown size cannot be planned. Ranges that no validator ties to
	 * one version may be of several versions; a single response is of one version. */
	if (is_first(w) && (!is_of_range(a, w) || a->version.size == SIZE_UNKNOWN ||
				   !identifies_version(a) || w->varies))
		return VERDICT_PLAIN;
	return classify_content_range(a, w, err);
}

static enum verdict classify_whole(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	struct object_version is = a->version;
	const char *what;

	if (w->version == NULL)
		return VERDICT_WHOLE;
	is.size = a->content_length;
	what = difference(w->version, &is);
	if (what != NULL)
		return set_changed(w, what, err);
	error_set(err, -ERR_HTTP,
		"%s: the server answered 200 with the whole object where it had served ranges before; are several servers behind that name?",
		w->name);
	return VERDICT_RETRY;
}

static enum verdict classify_unsatisfiable(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	/* No range of an empty object is satisfiable, and some servers do not send its size. */
	if (is_first(w))
		return VERDICT_PLAIN;
	if (w->version != NULL && a->version.size != w->version->size)
		return set_changed(w, "its size changed", err);
	error_set(err, -ERR_HTTP,
		"%s: the server answered 416 Range Not Satisfiable for bytes %" PRIu64 "-%" PRIu64
		", which it has; it or a proxy before it is broken",
		w->name, w->from, w->to - 1);
	return VERDICT_RETRY;
}

static const char *advice_for_status(int status)
{
	switch (status) {
	case 401:
		return "; give credentials (headers or netrc_file in agent.ini)";
	case 403:
		return "; check the credentials (headers or netrc_file in agent.ini), or whether a presigned URL has expired";
	case 404:
	case 410:
		return "; check the spelling of the URL";
	case 407:
		return "; check the user and password in https_proxy or http_proxy";
	case 408:
	case 429:
		return "; it is overloaded or limits this client";
	case 502:
	case 504:
		return "; what stands before the server does not reach it";
	case 511:
		return "; this network wants a login first";
	default:
		return status >= 500 ? "; the fault is the server's" : "";
	}
}

static bool is_transient(const struct answer *a)
{
	if (a->status == 400) /* S3's answer to a slow connection */
		return strstr(a->text, "<Code>RequestTimeout</Code>") != NULL;
	return a->status == 408 || patience_is_busy(a->status) ||
	       (a->status >= 500 && a->status != 501 && a->status != 505 && a->status != 511);
}

/* Servers, and proxies before them, refuse ranges with many statuses. A status listed here may
 * concern the range only, so it does not decide about the object yet. */
bool answer_may_refuse_range(const struct answer *a)
{
	switch (a->status) {
	case 400:
		return !is_transient(a);
	case 403:
	case 405:
	case 406:
	case 409:
	case 411:
	case 412:
	case 413:
	case 415:
	case 416:
	case 417:
	case 422:
	case 501:
		return true;
	default:
		return false;
	}
}

static enum verdict classify_refusal(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	if (is_first(w) && answer_may_refuse_range(a))
		return VERDICT_PLAIN;
	error_set(err, -ERR_HTTP, "%s: the %s answered %d%s%s%s", w->name,
		a->status == 407 ? "proxy" : "server", a->status, a->reason[0] != '\0' ? " " : "",
		a->reason, advice_for_status(a->status));
	error_cause(err, 0, a->status);
	if (is_transient(a))
		return VERDICT_RETRY;
	if (a->status == 401 || a->status == 403 || a->status == 404 || a->status == 410)
		return VERDICT_DENIED;
	return VERDICT_FAIL;
}

static enum verdict classify_success(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	if (!coding_is_readable(a->content_encoding)) {
		error_set(err, -ERR_HTTP,
			"%s: the server sent it with Content-Encoding '%s' although only 'identity' was asked for; store it without",
			w->name, a->content_encoding);
		return VERDICT_FAIL;
	}
	return a->status == 206 ? classify_partial(a, w, err) : classify_whole(a, w, err);
}

enum verdict answer_classify(
	const struct answer *a, const struct answer_wanted *w, struct error *err)
{
	switch (a->status) {
	case 200:
	case 206:
		return classify_success(a, w, err);
	case 301:
	case 302:
	case 303:
	case 307:
	case 308:
		return VERDICT_REDIRECT;
	case 304:
		return w->conditional ? VERDICT_NOT_MODIFIED : classify_refusal(a, w, err);
	case 412: /* the answer to If-Match */
		return w->version != NULL && answer_etag_is_strong(w->version->etag)
			       ? set_changed(w, "its ETag changed", err)
			       : classify_refusal(a, w, err);
	case 416:
		return classify_unsatisfiable(a, w, err);
	default:
		return classify_refusal(a, w, err);
	}
}

/* No answer: what curl says. */

/* What TLS libraries say of the text of a plain HTTP server. */
static bool is_plain_answer(const char *said)
{
	return strstr(said, "wrong version number") != NULL ||
	       strstr(said, "packet length too long") != NULL ||
	       strstr(said, "unexpected TLS packet") != NULL;
}

/* Failures that a retry of the same request would meet again. Any other failure on the way to a
 * server and back can be transient: name lookups, refused and lost connections, failed
 * handshakes. */
const char *answer_permanent_advice(CURLcode result, const char *said)
{
	/* Followed by "syntax in" or "scheme for". One of them has the result code of an unresolved
	 * name, the other that of a failed connection. */
	if (strncmp(said, "Unsupported proxy", 17) == 0)
		return "; check the spelling of https_proxy and http_proxy";
	if (result == CURLE_SSL_CONNECT_ERROR && is_plain_answer(said))
		return "; the server does not speak TLS at this port: check the port, or write http:// if it is meant";
	switch (result) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_ISSUER_ERROR:
		return "; if the server's CA is your own, name its file in ca_file in agent.ini";
	case CURLE_SSL_CACERT_BADFILE:
		return "; set ca_file in agent.ini, or install ca-certificates";
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_URL_MALFORMAT:
		return "; check the spelling of the URL";
	case CURLE_OUT_OF_MEMORY:
	case CURLE_FAILED_INIT:
	case CURLE_NOT_BUILT_IN:
	case CURLE_UNKNOWN_OPTION:
	case CURLE_BAD_FUNCTION_ARGUMENT:
	case CURLE_SSL_ENGINE_NOTFOUND:
	case CURLE_SSL_ENGINE_SETFAILED:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_TOO_MANY_REDIRECTS:
	case CURLE_LOGIN_DENIED:
		return "";
	default:
		return NULL;
	}
}

/* curl quotes the URL of a proxy or a redirect unchanged. Everything from its beginning to the last
 * '@' that can end a user and password is replaced. */
char *answer_curl_sentence(CURLcode result, const char *said)
{
	const char *text = said[0] != '\0' ? said : curl_easy_strerror(result);
	const char *at = strrchr(text, '@'), *begin = strstr(text, "://");

	if (at == NULL)
		return text_copy(text);
	if (begin != NULL && begin < at)
		begin += 3;
	else if ((begin = strchr(text, '\'')) != NULL && begin < at)
		begin++;
	else
		return text_copy(curl_easy_strerror(result));
	return text_format("%.*s***%s", (int)(begin - text), text, at);
}

char *answer_unresolved_name(CURLcode result, const char *said)
{
	const char *name = strstr(said, ": ");

	if ((result != CURLE_COULDNT_RESOLVE_HOST && result != CURLE_COULDNT_RESOLVE_PROXY) ||
		name == NULL)
		return NULL;
	name += 2;
	return text_format("%.*s", (int)strcspn(name, " "), name);
}

const char *answer_proxy_sentence(long status, bool *ret_final)
{
	*ret_final = status < 500 && status != 408 && status != 429;
	if (status == 407)
		return "check the user and password in https_proxy or http_proxy";
	if (*ret_final)
		return "it does not let through to that host; check https_proxy, or name the host in no_proxy";
	return "it does not reach that host; check https_proxy, or name the host in no_proxy";
}
