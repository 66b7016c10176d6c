/* SPDX-License-Identifier: MIT */
/* One request and its response, on the thread that makes it. It runs on curl's multi interface with
 * one handle, since only that can be left at any moment and shows its descriptors. */
#include "call.h"
#include "defer.h"
#include "engine.h"
#include "libcurl.h"
#include "progress.h"
#include "throttle.h"
#include "url.h"
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct caller {
	/* Set at creation. */
	const struct transfer_options *network;
	struct cancel *cancel; /* may be NULL */
	char *ca_file;         /* NULL: curl's own default */
	CURLM *multi;          /* owns the connections */
	CURL *easy;
	/* The name that the last call could not resolve; NULL: names were not the failure. Heap. */
	char *unresolved;
	bool nobody_there; /* the last call found no server */
};

struct call_state {
	struct caller *caller;
	const struct call *what;
	struct reply *reply;
	struct error *err; /* set by a callback that failed */
	int code;          /* of that error; 0: none */
	struct curl_slist *headers;
	bool answered;         /* the headers are in */
	bool held;             /* the body is paused by the rate limit */
	uint64_t moved;        /* bytes received of a wanted body */
	uint64_t moved_before; /* bytes received and sent at the last check */
	uint64_t last_ns;      /* when progress was last seen */
	char said[CURL_ERROR_SIZE];
};

/* Size of curl's send buffer for large bodies: a part of an upload has megabytes. */
enum { SEND_BYTES = 512 * 1024 };

/* Whether the call has a header of this name. */
static bool has_header(const struct call *what, const char *name)
{
	size_t len = strlen(name);

	for (const char *const *h = what->headers; h != NULL && *h != NULL; h++)
		if (strncasecmp(*h, name, len) == 0 && ((*h)[len] == ':' || (*h)[len] == ';'))
			return true;
	return false;
}

/* curl 7.88 signs headers that it was told to leave out, so no server accepts the signature.
 * Therefore no header is left out, and this one, which curl would add, is set explicitly. */
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

static void set_headers(struct call_state *c)
{
	const struct call *what = c->what;

	for (const char *const *h = what->headers; h != NULL && *h != NULL; h++)
		request_add_header(&c->headers, "%s", *h);
	if (has_body(what) && !has_header(what, "Content-Type"))
		request_add_header(&c->headers, "%s", content_type(what));
	curl_easy_setopt(c->caller->easy, CURLOPT_HTTPHEADER, c->headers);
	curl_easy_setopt(c->caller->easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
}

static CURLcode set_body(struct call_state *c)
{
	CURL *easy = c->caller->easy;
	const struct call *what = c->what;
	CURLcode result;

	result = curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)what->body_len);
	request_note_network(&result,
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, what->body != NULL ? what->body : ""));
	/* For a large body curl sends "Expect: 100-continue". Waiting for that answer costs a round
	 * trip, and a second where it never comes, so the wait is 1 ms. */
	curl_easy_setopt(easy, CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
	if (what->body_len > SEND_BYTES)
		curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)SEND_BYTES);
	return result;
}

static CURLcode set_method(struct call_state *c)
{
	CURL *easy = c->caller->easy;
	const char *method = c->what->method;
	CURLcode result = CURLE_OK;

	if (strcmp(method, "HEAD") == 0)
		return curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	/* Not CURLOPT_UPLOAD for PUT: that reads the body by a callback, and then curl cannot send
	 * it again by itself when a kept connection turns out to be dead. */
	if (has_body(c->what))
		result = set_body(c);
	request_note_network(&result, curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method));
	return result;
}

/* All headers in CURLOPT_HTTPHEADER are signed, so these are added before it is set. */
static CURLcode set_signature(struct call_state *c)
{
	CURLcode result;
	CURL *easy = c->caller->easy;
	const struct call_signature *s = c->what->signature;
	_free_ char *scope = text_format("aws:amz:%s:%s", s->region, s->service);

	if (strcmp(s->service, "s3") == 0 && !has_header(c->what, "x-amz-content-sha256"))
		request_add_header(&c->headers, "x-amz-content-sha256: UNSIGNED-PAYLOAD");
	if (s->session_token != NULL && s->session_token[0] != '\0')
		request_add_header(&c->headers, "x-amz-security-token: %s", s->session_token);
	result = curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, scope);
	request_note_network(&result, curl_easy_setopt(easy, CURLOPT_USERNAME, s->access_key));
	request_note_network(&result, curl_easy_setopt(easy, CURLOPT_PASSWORD, s->secret_key));
	return result;
}

static CURLcode prepare_request(struct call_state *c)
{
	struct caller *caller = c->caller;
	CURL *easy = caller->easy;
	CURLcode result = request_set_network(easy, caller->network, caller->ca_file);

	request_note_network(&result, set_method(c));
	if (c->what->signature != NULL)
		request_note_network(&result, set_signature(c));
	set_headers(c);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->said);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BLOCK_BYTES);
	/* An S3 key may contain "/../". */
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	if (c->what->timeout_ms > 0)
		curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)c->what->timeout_ms);
	if (c->what->no_proxy)
		request_note_network(&result, curl_easy_setopt(easy, CURLOPT_PROXY, ""));
	request_note_network(&result, curl_easy_setopt(easy, CURLOPT_URL, c->what->url));
	return result;
}

/* The response: status, headers and body, as curl delivers them. */

enum { BODY_MAX = 16 * 1024 * 1024 };

static void reset_reply(struct reply *r)
{
	text_strings_done(&r->headers);
	text_done(&r->body);
	*r = (struct reply){0};
}

/* "HTTP/1.1 200 OK": a response begins, perhaps after another (100, or a proxy's). */
static bool parse_status(struct reply *r, const char *line, size_t len)
{
	const char *space = memchr(line, ' ', len);

	if (len < 5 || strncasecmp(line, "HTTP/", 5) != 0 || space == NULL)
		return false;
	reset_reply(r);
	r->status = strtol(space, NULL, 10);
	return true;
}

/* "Name:  value\r\n" -> "name: value" */
static void store_header(struct reply *r, const char *line, size_t len)
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
	kept = text_format("%.*s: %.*s", (int)(colon - line), line, (int)(end - value), value);
	for (char *c = kept; *c != ':'; c++)
		*c = (char)tolower((unsigned char)*c);
	text_strings_add(&r->headers, kept);
}

static size_t on_header(char *line, size_t one, size_t n, void *ctx)
{
	struct call_state *c = ctx;
	size_t len = one * n;
	long before = c->reply->status;

	if (line[0] == '\r' || line[0] == '\n')
		c->answered = c->reply->status >= 200;
	else if (!parse_status(c->reply, line, len))
		store_header(c->reply, line, len);
	/* The stall timeout applies to all headers and what follows together. A server can repeat
	 * 102 Processing forever, so that does not count. */
	if (before == 0 || (before < 200 && c->reply->status >= 200))
		c->last_ns = now_ns();
	return len;
}

static bool wants_in_place(const struct call_state *c)
{
	return c->what->into != NULL && c->reply->status >= 200 && c->reply->status < 300;
}

static size_t store_in_place(struct call_state *c, const char *bytes, size_t len)
{
	struct reply *r = c->reply;

	if (len > c->what->into_len - r->into_len) {
		c->code = error_set(c->err, -ERR_HTTP,
			"the server sent more than the %zu bytes that were asked for; it or a proxy before it does not honour ranges",
			c->what->into_len);
		return 0;
	}
	memcpy((char *)c->what->into + r->into_len, bytes, len);
	r->into_len += len;
	return len;
}

static size_t on_body(char *bytes, size_t one, size_t n, void *ctx)
{
	struct call_state *c = ctx;
	struct throttle *throttle = c->caller->network->throttle;
	size_t len = one * n;

	c->held = throttle_due_ns(throttle, now_ns()) != 0;
	if (c->held)
		return CURL_WRITEFUNC_PAUSE;
	throttle_count(throttle, len, now_ns());
	/* Headers and an unwanted body do not prolong the timeout. */
	if (c->reply->status < 300)
		c->moved += len;
	if (wants_in_place(c))
		return store_in_place(c, bytes, len);
	if (len > BODY_MAX - c->reply->body.len) {
		c->code = error_set(c->err, -ERR_LIMIT,
			"the server's answer is longer than 16 MiB, and none that is asked for so is");
		return 0;
	}
	text_add_bytes(&c->reply->body, bytes, len);
	return len;
}

static void set_reply_callbacks(struct call_state *c)
{
	CURL *easy = c->caller->easy;

	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, c);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, c);
}

const char *call_reply_header(const struct reply *r, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < r->headers.n; i++)
		if (strncasecmp(r->headers.v[i], name, len) == 0 && r->headers.v[i][len] == ':')
			return r->headers.v[i] + len + 2;
	return NULL;
}

void call_reply_done(struct reply *r)
{
	reset_reply(r);
}

/* The call: start, wait, end. */

enum { CANCEL_POLL_MS = 100 }; /* how often a sleeping call checks for a cancel */

int call_caller_new(const struct transfer_options *network, struct cancel *cancel,
	struct caller **ret, struct error *err)
{
	struct caller *c;
	int code = libcurl_load(err);

	if (code < 0)
		return code;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return error_set(err, -ENOMEM, "libcurl cannot start: out of memory");
	c = zalloc(sizeof(*c));
	c->network = network;
	c->cancel = cancel;
	c->multi = curl_multi_init();
	c->easy = curl_easy_init();
	code = trust_find(network->ca_file, &c->ca_file, err);
	if (code == 0 && (c->multi == NULL || c->easy == NULL))
		code = error_set(
			err, -ENOMEM, "libcurl cannot start: out of memory or file descriptors");
	if (code < 0) {
		call_caller_free(c);
		return code;
	}
	*ret = c;
	return 0;
}

void call_caller_free(struct caller *c)
{
	if (c == NULL)
		return;
	curl_easy_cleanup(c->easy);
	curl_multi_cleanup(c->multi);
	curl_global_cleanup();
	free(c->ca_file);
	free(c->unresolved);
	free(c);
}

static char *format_call_name(const struct call *what)
{
	_free_ char *shown = url_display(what->url);

	return text_format("%s %s", what->method, shown);
}

/* The whole request was sent, and no response has begun. */
static bool awaits_first_byte(const struct call_state *c)
{
	curl_off_t sent = 0;

	curl_easy_getinfo(c->caller->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	return c->reply->status < 200 && (uint64_t)sent >= c->what->body_len &&
	       c->caller->network->first_byte_timeout_ms > 0;
}

static uint64_t timeout_ms(const struct call_state *c)
{
	const struct transfer_options *opts = c->caller->network;

	return awaits_first_byte(c) ? opts->first_byte_timeout_ms : opts->stall_timeout_ms;
}

static bool is_stalled(struct call_state *c)
{
	curl_off_t sent = 0;
	uint64_t moved, now = now_ns();

	curl_easy_getinfo(c->caller->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
	moved = c->moved + (uint64_t)sent;
	if (moved != c->moved_before) {
		c->moved_before = moved;
		c->last_ns = now;
	}
	return now - c->last_ns > timeout_ms(c) * 1000000;
}

static bool is_finished(struct caller *caller, CURLcode *ret)
{
	const CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(caller->multi, &left)) != NULL) {
		if (m->msg == CURLMSG_DONE) {
			*ret = m->data.result;
			return true;
		}
	}
	return false;
}

static void sleep_until_due(struct call_state *c)
{
	const struct caller *caller = c->caller;
	uint64_t now = now_ns(), due, most = CANCEL_POLL_MS * 1000000ull;

	while (!cancel_requested(caller->cancel) &&
		(due = throttle_due_ns(caller->network->throttle, now)) != 0) {
		usleep((useconds_t)((due - now < most ? due - now : most) / 1000) + 1);
		now = now_ns();
	}
	c->last_ns = now;
}

/* Sleeps while the rate limit is reached. curl does not read on meanwhile, so the server has to
 * wait. */
static CURLcode wait_for_rate(struct call_state *c)
{
	CURLcode result = CURLE_OK;

	while (c->held && result == CURLE_OK && !cancel_requested(c->caller->cancel)) {
		sleep_until_due(c);
		c->held = false;
		result = curl_easy_pause(c->caller->easy, CURLPAUSE_CONT);
	}
	return result;
}

/* If the body of an error stalls, the part that has arrived must do: returns 0. */
static int end_stalled(const struct call_state *c)
{
	if (c->answered && c->reply->status >= 300)
		return 0;
	return error_set(c->err, -ETIMEDOUT, "no %s for %g s: %s in [network] of agent.ini",
		awaits_first_byte(c) ? "answer came" : "byte came or went",
		(double)timeout_ms(c) / 1000,
		awaits_first_byte(c) ? "first_byte_timeout" : "stall_timeout");
}

/* Waits until curl is done (returns 0, and its result), or a timeout or a cancel. */
static int wait_for_end(struct call_state *c, CURLcode *ret)
{
	struct caller *caller = c->caller;
	int running;

	for (;;) {
		CURLMcode m = curl_multi_perform(caller->multi, &running);

		if (is_finished(caller, ret))
			return 0;
		if (cancel_requested(caller->cancel))
			return error_set(c->err, -ECANCELED, "cancelled");
		if (is_stalled(c))
			return end_stalled(c);
		*ret = wait_for_rate(c);
		if (*ret != CURLE_OK)
			return 0;
		if (m == CURLM_OK)
			m = curl_multi_poll(caller->multi, NULL, 0, CANCEL_POLL_MS, NULL);
		if (m != CURLM_OK)
			return error_set(c->err, -ENOMEM, "%s", curl_multi_strerror(m));
	}
}

static int set_proxy_error(const struct call_state *c, long status)
{
	bool final;
	const char *meaning = answer_proxy_sentence(status, &final);

	return error_set(
		c->err, final ? -ERR_HTTP : -EAGAIN, "the proxy answered %ld; %s", status, meaning);
}

static int result_to_code(const struct call_state *c, CURLcode result)
{
	const char *advice = answer_permanent_advice(result, c->said);
	_free_ char *said = answer_curl_sentence(result, c->said);
	long proxy_said = 0;

	if (result == CURLE_OK)
		return 0;
	if (c->code < 0)
		return c->code; /* the callback has set the error */
	curl_easy_getinfo(c->caller->easy, CURLINFO_HTTP_CONNECTCODE, &proxy_said);
	if (proxy_said >= 300)
		return set_proxy_error(c, proxy_said);
	c->caller->unresolved = answer_unresolved_name(result, c->said);
	c->caller->nobody_there = c->caller->unresolved != NULL || result == CURLE_COULDNT_CONNECT;
	if (advice != NULL)
		return error_set(c->err, -ERR_HTTP, "%s%s", said, advice);
	return error_set(
		c->err, result == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EAGAIN, "%s", said);
}

static int perform(struct call_state *c)
{
	struct caller *caller = c->caller;
	CURLcode result = prepare_request(c);
	CURLMcode added;
	int code = 0;

	if (result != CURLE_OK)
		return result_to_code(c, result);
	set_reply_callbacks(c);
	c->last_ns = now_ns();
	added = curl_multi_add_handle(caller->multi, caller->easy);
	if (added != CURLM_OK)
		return error_set(c->err, -ENOMEM, "%s", curl_multi_strerror(added));
	code = wait_for_end(c, &result);
	curl_multi_remove_handle(caller->multi, caller->easy);
	return code < 0 ? code : result_to_code(c, result);
}

int call(struct caller *caller, const struct call *what, struct reply *ret, struct error *err)
{
	struct reply reply = {0};
	struct error why = {0};
	struct call_state c = {.caller = caller, .what = what, .reply = &reply, .err = &why};
	int code;

	if (cancel_requested(caller->cancel))
		return error_set(err, -ECANCELED, "cancelled");
	free(take_ptr(&caller->unresolved));
	caller->nobody_there = false;
	code = perform(&c);
	curl_easy_reset(caller->easy);
	curl_slist_free_all(c.headers);
	if (code < 0) {
		_free_ char *name = format_call_name(what);

		call_reply_done(&reply);
		return error_set(err, code, "%s: %s", name, why.msg);
	}
	patience_answered(caller->network->patience, what->url, reply.status);
	*ret = reply;
	return 0;
}

bool call_is_transient(int code)
{
	return code == -EAGAIN || code == -ETIMEDOUT;
}

bool call_found_nobody(const struct caller *c)
{
	return c->nobody_there;
}

bool call_again(const struct caller *c, const char *url, struct tried *t, unsigned retries,
	long status, const char *why)
{
	const struct failed_attempt attempt = {
		.status = status, .name = status == 0 ? c->unresolved : NULL, .why = why};

	return patience_again(c->network->patience, url, t, retries, &attempt);
}
