/* SPDX-License-Identifier: MIT */
/* A token that somebody (Kubernetes, a CI) keeps fresh in a file, exchanged at STS for a role. */
#include "chain.h"
#include "defer.h"

int web_identity_find(
	struct search *s, const struct web_identity *w, struct found *ret, struct error *err)
{
	_free_ char *token = NULL;
	int code = search_read_token(w->token_file, &token, err);
	const char *parameters[] = {"RoleArn", w->role, "RoleSessionName",
		w->session != NULL ? w->session : "stagerun", "WebIdentityToken", token, NULL};
	struct sts_question q = {.action = "AssumeRoleWithWebIdentity",
		.parameters = parameters,
		.region = w->region};

	return code < 0 ? code : sts_ask(s, &q, ret, err);
}

static char *source(const struct search *s)
{
	const char *file = aws_variable(s->opts->environment, "AWS_WEB_IDENTITY_TOKEN_FILE");
	const char *role = aws_variable(s->opts->environment, "AWS_ROLE_ARN");

	if (file == NULL)
		return NULL;
	return format_text("web identity (AWS_WEB_IDENTITY_TOKEN_FILE=%s, AWS_ROLE_ARN%s%s)", file,
		role != NULL ? "=" : " is not set", role != NULL ? role : "");
}

static int find(struct search *s, struct found *ret, struct error *err)
{
	char *const *environment = s->opts->environment;
	struct web_identity w = {
		.token_file = aws_variable(environment, "AWS_WEB_IDENTITY_TOKEN_FILE"),
		.role = aws_variable(environment, "AWS_ROLE_ARN"),
		.session = aws_variable(environment, "AWS_ROLE_SESSION_NAME")};

	if (w.role == NULL)
		return error_set(
			err, -ERR_CONFIG, "set AWS_ROLE_ARN to the role that the token is for");
	return web_identity_find(s, &w, ret, err);
}

const struct provider from_web_identity = {
	.source = source, .find = find, .looked_at = "AWS_WEB_IDENTITY_TOKEN_FILE"};
