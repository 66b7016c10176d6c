/* SPDX-License-Identifier: MIT */
/* The provider for EC2's instance metadata service, version 2. Worker threads. Most machines are
 * not EC2 instances, and packets to the service's address get lost there: so timeouts are short,
 * and no answer means no credentials. A service that has answered exists: if it is busy the request
 * is retried, rather than continuing without credentials. */
#include "credentials_private.h"
#include "defer.h"
#include "redact.h"
#include "url.h"
#include <string.h>
#include <strings.h>

enum { TIMEOUT_MS = 1000, TRIES = 2, PATIENCE_S = 10 };

#define ROLES "/latest/meta-data/iam/security-credentials/"

static const char *endpoint(const struct credentials_search *s)
{
	char *const *environment = s->opts->environment;
	const char *url = credentials_variable(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
	const char *mode =
		credentials_variable(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");

	if (url != NULL)
		return url;
	return mode != NULL && strcasecmp(mode, "ipv6") == 0 ? "http://[fd00:ec2::254]"
							     : "http://169.254.169.254";
}

/* A configured service is expected to exist; it can only be late. */
static bool is_configured(const struct credentials_search *s)
{
	return credentials_variable(s->opts->environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT") !=
	       NULL;
}

static bool is_disabled(const struct credentials_search *s)
{
	const char *disabled =
		credentials_variable(s->opts->environment, "AWS_EC2_METADATA_DISABLED");

	return disabled != NULL && strcasecmp(disabled, "true") == 0;
}

static char *source(const struct credentials_search *s)
{
	_free_ char *shown = NULL;

	if (is_disabled(s))
		return NULL;
	shown = url_display(endpoint(s));
	return text_format("EC2 instance metadata (%s)", shown);
}

/* The keys of a role may appear a moment after the role is listed. */
static bool is_not_there_yet(const struct reply *r, char ret_code[static 64])
{
	ret_code[0] = '\0';
	return r->status == 404;
}

static int request_metadata(struct credentials_search *s, const char *method, const char *path,
	const char *header, struct reply *ret, struct error *err)
{
	const char *base = endpoint(s);
	size_t len = strlen(base);
	_free_ char *url = text_format(
		"%.*s%s", (int)(len > 0 && base[len - 1] == '/' ? len - 1 : len), base, path);
	struct service_request q = {.call = {.method = method,
					    .url = url,
					    .headers = (const char *[]){header, NULL},
					    .timeout_ms = TIMEOUT_MS,
					    .no_proxy = true},
		.tries = TRIES,
		.may_be_absent = !is_configured(s),
		.patience_s = PATIENCE_S,
		.takes_any_status = true};

	if (strlen(path) > strlen(ROLES))
		q.is_transient = is_not_there_yet;
	return credentials_search_ask(s, &q, ret, err);
}

/* A connection without an answer differs from an address without a service: by default, answers
 * with a token may make only one hop, and a container needs two. The condition matches the text of
 * curl's error. */
static void note_hop_limit(struct credentials_search *s, const struct error *why)
{
	if (strstr(why->msg, "Operation timed out") != NULL)
		s->note =
			"EC2's metadata service takes connections but sends no token: to a container it needs --http-put-response-hop-limit 2 (aws ec2 modify-instance-metadata-options)";
}

/* NOTHING_FOUND: there is no such service, or it refuses to issue a token. */
static int get_token(struct credentials_search *s, char **ret_header, struct error *err)
{
	_free_ char *shown = url_display(endpoint(s));
	struct reply reply;
	struct error why = {0};
	int code = request_metadata(s, "PUT", "/latest/api/token",
		"X-aws-ec2-metadata-token-ttl-seconds: 21600", &reply, &why);

	if (code == -ECANCELED)
		return error_set(err, code, "%s", why.msg);
	if (code < 0) {
		note_hop_limit(s, &why);
		return NOTHING_FOUND;
	}
	if (credentials_search_is_busy(reply.status)) {
		code = error_set(err, -ERR_HTTP, "PUT %s/latest/api/token answered %ld", shown,
			reply.status);
	} else if (reply.status == 200 && reply.body.len > 0) {
		redact_add(reply.body.s);
		*ret_header = text_format("X-aws-ec2-metadata-token: %.*s",
			(int)strcspn(reply.body.s, "\r\n"), reply.body.s);
	} else {
		code = NOTHING_FOUND;
	}
	call_reply_done(&reply);
	return code;
}

/* Reads the name of the instance's role. NOTHING_FOUND: it has none. */
static int get_role(struct credentials_search *s, const char *token, char **ret, struct error *err)
{
	_free_ char *shown = url_display(endpoint(s));
	struct reply reply;
	int code = request_metadata(s, "GET", ROLES, token, &reply, err);

	if (code < 0)
		return code;
	if (reply.status == 404 || (reply.status == 200 && reply.body.len == 0))
		code = NOTHING_FOUND;
	else if (reply.status != 200)
		code = error_set(
			err, -ERR_HTTP, "GET %s%s answered %ld", shown, ROLES, reply.status);
	else
		*ret = text_format("%.*s", (int)strcspn(reply.body.s, "\r\n"), reply.body.s);
	call_reply_done(&reply);
	return code;
}

static int get_keys(struct credentials_search *s, const char *token, const char *role,
	struct credentials_found *ret, struct error *err)
{
	_free_ char *path = text_format(ROLES "%s", role);
	_free_ char *shown = url_display(endpoint(s));
	struct reply reply;
	int code = request_metadata(s, "GET", path, token, &reply, err);

	if (code < 0)
		return code;
	if (reply.status != 200)
		code = error_set(
			err, -ERR_HTTP, "GET %s%s answered %ld", shown, path, reply.status);
	else
		code = credentials_found_parse(reply.body.s, reply.body.len, "Token", ret, err);
	call_reply_done(&reply);
	return code;
}

static int find_in_instance(
	struct credentials_search *s, struct credentials_found *ret, struct error *err)
{
	_free_ char *token = NULL, *role = NULL;
	int code = is_disabled(s) ? NOTHING_FOUND : get_token(s, &token, err);

	if (code == 0)
		code = get_role(s, token, &role, err);
	if (code == 0)
		code = get_keys(s, token, role, ret, err);
	return code;
}

const struct provider from_instance = {.source = source,
	.find = find_in_instance,
	.looked_at = "EC2 instance metadata",
	.caveat = ", if it is there"};
