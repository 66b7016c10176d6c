/* SPDX-License-Identifier: MIT */
/* A token that somebody (Kubernetes, a CI) keeps fresh in a file, exchanged at STS for a role. */
#include "chain.h"
#include "defer.h"

int web_identity_find(struct search *s, const char *token_file, const char *role,
	const char *session, const char *region, struct found *ret, struct error *err)
{
	_free_ char *token = NULL;
	int code = search_read_token(token_file, &token, err);
	const char *parameters[] = {"RoleArn", role, "RoleSessionName",
		session != NULL ? session : "stagerun", "WebIdentityToken", token, NULL};

	if (code < 0)
		return code;
	return sts_assume(s, "AssumeRoleWithWebIdentity", parameters, NULL, region, ret, err);
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
	const char *role = aws_variable(environment, "AWS_ROLE_ARN");

	if (role == NULL)
		return error_set(
			err, -ERR_CONFIG, "set AWS_ROLE_ARN to the role that the token is for");
	return web_identity_find(s, aws_variable(environment, "AWS_WEB_IDENTITY_TOKEN_FILE"), role,
		aws_variable(environment, "AWS_ROLE_SESSION_NAME"), NULL, ret, err);
}

const struct provider from_web_identity = {
	.source = source, .find = find, .looked_at = "AWS_WEB_IDENTITY_TOKEN_FILE"};
