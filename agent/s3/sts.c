/* SPDX-License-Identifier: MIT */
/* Asks AWS's Security Token Service, or what speaks its language (Ceph, MinIO), for a role.
 * https://docs.aws.amazon.com/STS/latest/APIReference/ */
#include "chain.h"
#include "defer.h"
#include "s3_private.h"
#include <string.h>

enum { TRIES = 3, TIMEOUT_MS = 30000 };

/* profile: the region of the profile that asks; NULL: of the one that is in force. */
static char *region_of(const struct search *s, const char *profile)
{
	char *const *environment = s->opts->environment;
	const char *region = s->opts->region;

	if (region == NULL || *region == '\0')
		region = aws_variable(environment, "AWS_REGION");
	if (region == NULL)
		region = aws_variable(environment, "AWS_DEFAULT_REGION");
	if (region == NULL)
		region = profile;
	if (region == NULL && s->files != NULL)
		region = shared_files_value(
			s->files, profile_name(environment, s->opts->profile), "region");
	return copy_text(region);
}

static char *endpoint_of(const struct search *s, const char *region)
{
	const char *url = NULL;

	if (!s3_ignores_endpoints(s->opts->environment)) {
		url = aws_variable(s->opts->environment, "AWS_ENDPOINT_URL_STS");
		if (url == NULL)
			url = aws_variable(s->opts->environment, "AWS_ENDPOINT_URL");
	}
	if (url != NULL)
		return format_text("%s%s", url, url[strlen(url) - 1] == '/' ? "" : "/");
	if (region == NULL)
		return copy_text("https://sts.amazonaws.com/");
	return format_text("https://sts.%s.amazonaws.com%s/", region,
		strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

static void add_escaped(struct text *t, const char *s)
{
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;
		bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
			     (c >= 'a' && c <= 'z') || strchr("-._~", c) != NULL;

		if (plain)
			text_add_bytes(t, s, 1);
		else
			text_addf(t, "%%%02X", c);
	}
}

static char *body_of(const char *action, const char *const *parameters)
{
	struct text t = {0};

	text_addf(&t, "Action=%s&Version=2011-06-15", action);
	for (; parameters[0] != NULL; parameters += 2) {
		if (parameters[1] == NULL)
			continue;
		text_addf(&t, "&%s=", parameters[0]);
		add_escaped(&t, parameters[1]);
	}
	return text_take(&t);
}

static const char *advice(const char *code)
{
	static const struct {
		const char *code, *advice;
	} table[] = {
		{"AccessDenied", "; the role's trust policy must allow whoever asks to assume it"},
		{"ExpiredTokenException", "; the token has expired, get a new one"},
		{"ExpiredToken", "; the credentials that ask have expired"},
		{"InvalidIdentityToken",
			"; the token's issuer must be an identity provider of the account"},
		{"SignatureDoesNotMatch", "; check the secret key, and this machine's clock"},
		{"InvalidClientTokenId", "; the access key is not known there"},
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strcmp(code, table[i].code) == 0)
			return table[i].advice;
	return "";
}

static int refused(const char *url, const char *action, const struct reply *reply,
	const struct sts_answer *a, struct error *err)
{
	const char *code = a->code.s != NULL ? a->code.s : "no code";

	return error_set(err, -ERR_HTTP, "%s at %s was refused: %ld %s: %s%s", action, url,
		reply->status, code, a->message.s != NULL ? a->message.s : "no message",
		advice(code));
}

static int take_answer(const char *url, const char *action, const struct reply *reply,
	struct found *ret, struct error *err)
{
	struct sts_answer a = {0};
	bool is_xml = sts_answer_parse(reply->body.s, reply->body.len, &a);
	time_t expires = 0;
	int code = 0;

	if (reply->status != 200)
		code = refused(url, action, reply, &a, err);
	else if (!is_xml || a.access_key.len == 0 || a.secret_key.len == 0)
		code = error_set(
			err, -ERR_FORMAT, "%s at %s: the answer has no credentials", action, url);
	else if (a.expiration.len > 0)
		code = found_parse_time(a.expiration.s, &expires, err);
	if (code == 0)
		found_set(ret, a.access_key.s, a.secret_key.s, a.session_token.s, expires);
	sts_answer_done(&a);
	return code;
}

int sts_ask(
	struct search *s, const struct sts_question *asked, struct found *ret, struct error *err)
{
	_free_ char *region = region_of(s, asked->region);
	_free_ char *url = endpoint_of(s, region);
	_free_ char *body = body_of(asked->action, asked->parameters);
	const struct credentials_value *signer = asked->signer;
	struct call_signature signature = {
		.region = region != NULL ? region : "us-east-1", .service = "sts"};
	struct question q = {.call = {.method = "POST",
				     .url = url,
				     .body = body,
				     .body_len = strlen(body),
				     .timeout_ms = TIMEOUT_MS},
		.tries = TRIES,
		.takes_any_status = true};
	struct reply reply;
	int code;

	if (signer != NULL) {
		signature.access_key = signer->access_key;
		signature.secret_key = signer->secret_key;
		signature.session_token = signer->session_token;
		q.call.signature = &signature;
	}
	code = search_ask(s, &q, &reply, err);
	explicit_bzero(body, strlen(body)); /* a web identity's token */
	if (code < 0)
		return code;
	code = take_answer(url, asked->action, &reply, ret, err);
	reply_done(&reply);
	return code;
}
