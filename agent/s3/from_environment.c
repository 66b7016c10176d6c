/* SPDX-License-Identifier: MIT */
/* Keys in variables. */
#include "chain.h"

static char *source(const struct search *s)
{
	if (aws_variable(s->opts->environment, "AWS_ACCESS_KEY_ID") != NULL)
		return copy_text("environment (AWS_ACCESS_KEY_ID)");
	if (aws_variable(s->opts->environment, "AWS_SECRET_ACCESS_KEY") != NULL)
		return copy_text("environment (AWS_SECRET_ACCESS_KEY)");
	return NULL;
}

static int find(struct search *s, struct found *ret, struct error *err)
{
	char *const *environment = s->opts->environment;
	const char *key = aws_variable(environment, "AWS_ACCESS_KEY_ID");
	const char *secret = aws_variable(environment, "AWS_SECRET_ACCESS_KEY");

	if (key == NULL || secret == NULL)
		return error_set(err, -ERR_CONFIG, "%s is not set; set both, or neither",
			key == NULL ? "AWS_ACCESS_KEY_ID" : "AWS_SECRET_ACCESS_KEY");
	found_set(ret, key, secret, aws_variable(environment, "AWS_SESSION_TOKEN"), 0);
	return 0;
}

const struct provider from_environment = {
	.source = source, .find = find, .looked_at = "AWS_ACCESS_KEY_ID"};
