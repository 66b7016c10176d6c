/* SPDX-License-Identifier: MIT */
/* EC2's instance metadata service, version 2. Most machines are no such instances, and there its address
 * leads nowhere: so little patience, and no answer means no credentials. */
#include "chain.h"
#include "defer.h"
#include "redact.h"
#include <string.h>
#include <strings.h>

enum { TIMEOUT_MS = 1000, TRIES = 2 };

#define ROLES "/latest/meta-data/iam/security-credentials/"

static const char *endpoint(const struct search *s)
{
	char *const *environment = s->opts->environment;
	const char *url = aws_variable(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
	const char *mode = aws_variable(environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");

	if (url != NULL)
		return url;
	return mode != NULL && strcasecmp(mode, "ipv6") == 0 ? "http://[fd00:ec2::254]"
							     : "http://169.254.169.254";
}

static bool is_disabled(const struct search *s)
{
	const char *disabled = aws_variable(s->opts->environment, "AWS_EC2_METADATA_DISABLED");

	return disabled != NULL && strcasecmp(disabled, "true") == 0;
}

static char *source(const struct search *s)
{
	if (is_disabled(s))
		return NULL;
	return format_text("EC2 instance metadata (%s)", endpoint(s));
}

static int ask(struct search *s, const char *method, const char *path, const char *header,
	struct reply *ret, struct error *err)
{
	const char *base = endpoint(s);
	size_t len = strlen(base);
	_free_ char *url = format_text(
		"%.*s%s", (int)(len > 0 && base[len - 1] == '/' ? len - 1 : len), base, path);
	struct question q = {.call = {.method = method,
				     .url = url,
				     .headers = (const char *[]){header, NULL},
				     .timeout_ms = TIMEOUT_MS,
				     .no_proxy = true},
		.tries = TRIES,
		.takes_any_status = true};

	return search_ask(s, &q, ret, err);
}

/* NOTHING_FOUND: there is no such service, or it is closed to us. */
static int get_token(struct search *s, char **ret_header, struct error *err)
{
	struct reply reply;
	struct error why;
	int code = ask(s, "PUT", "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds: 21600",
		&reply, &why);

	if (code == -ECANCELED)
		return error_set(err, code, "%s", why.msg);
	if (code < 0)
		return NOTHING_FOUND;
	if (reply.status == 200 && reply.body.len > 0) {
		redact_add(reply.body.s);
		*ret_header = format_text("X-aws-ec2-metadata-token: %.*s",
			(int)strcspn(reply.body.s, "\r\n"), reply.body.s);
	} else {
		code = NOTHING_FOUND;
	}
	reply_done(&reply);
	return code;
}

/* The instance's role; NOTHING_FOUND: it has none. */
static int get_role(struct search *s, const char *token, char **ret, struct error *err)
{
	struct reply reply;
	int code = ask(s, "GET", ROLES, token, &reply, err);

	if (code < 0)
		return code;
	if (reply.status == 404 || (reply.status == 200 && reply.body.len == 0))
		code = NOTHING_FOUND;
	else if (reply.status != 200)
		code = error_set(
			err, -ERR_HTTP, "GET %s%s answered %ld", endpoint(s), ROLES, reply.status);
	else
		*ret = format_text("%.*s", (int)strcspn(reply.body.s, "\r\n"), reply.body.s);
	reply_done(&reply);
	return code;
}

static int get_keys(
	struct search *s, const char *token, const char *role, struct found *ret, struct error *err)
{
	_free_ char *path = format_text(ROLES "%s", role);
	struct reply reply;
	int code = ask(s, "GET", path, token, &reply, err);

	if (code < 0)
		return code;
	if (reply.status != 200)
		code = error_set(
			err, -ERR_HTTP, "GET %s%s answered %ld", endpoint(s), path, reply.status);
	else
		code = found_parse(reply.body.s, reply.body.len, "Token", ret, err);
	reply_done(&reply);
	return code;
}

static int find(struct search *s, struct found *ret, struct error *err)
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
	.find = find,
	.looked_at = "EC2 instance metadata",
	.doubt = ", if it is there"};
