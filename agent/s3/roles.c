/* SPDX-License-Identifier: MIT */
/* From a profile back to who has credentials, and forth again by way of STS. */
#include "roles.h"
#include <string.h>

static const char *value(const struct search *s, const char *profile, const char *key)
{
	return shared_files_value(s->files, profile, key);
}

/* The next profile on the way back; NULL: the base is reached, or *ret_code is negative. */
static const char *step(const struct search *s, const char *profile, struct roles *roles,
	int *ret_code, struct error *err)
{
	const char *source = value(s, profile, "source_profile");

	roles->base = profile;
	roles->kind = BASE_OWN;
	if (value(s, profile, "role_arn") == NULL)
		return NULL;
	if (source == NULL && value(s, profile, "web_identity_token_file") != NULL) {
		roles->kind = BASE_WEB_IDENTITY;
		return NULL;
	}
	if (value(s, profile, "mfa_serial") != NULL)
		*ret_code = error_set(err, -ERR_UNSUPPORTED,
			"profile '%s' needs a code of mfa_serial, and nobody is here to type it",
			profile);
	else if (roles->n == ROLES_MAX)
		*ret_code = error_set(err, -ERR_CONFIG,
			"profile '%s': its source_profile leads round and round, or too far",
			roles->profiles[0]);
	if (*ret_code < 0)
		return NULL;
	roles->profiles[roles->n++] = profile;
	if (source == NULL)
		roles->kind = BASE_SOURCE;
	if (source == NULL && value(s, profile, "credential_source") == NULL)
		*ret_code = error_set(err, -ERR_CONFIG,
			"profile '%s' has a role_arn but nobody to assume it: it needs "
			"source_profile, credential_source or web_identity_token_file",
			profile);
	/* A profile may name itself: then it has the keys, too. */
	return source != NULL && strcmp(source, profile) != 0 ? source : NULL;
}

int roles_find(const struct search *s, const char *profile, struct roles *ret,
	const char **ret_missing, struct error *err)
{
	int code = 0;

	*ret = (struct roles){0};
	while (profile != NULL && code == 0) {
		if (!shared_files_have(s->files, profile)) {
			*ret_missing = profile;
			return -ERR_CONFIG;
		}
		profile = step(s, profile, ret, &code, err);
	}
	return code;
}

static int assume(struct search *s, const char *profile, struct found *f, struct error *err)
{
	const char *session = value(s, profile, "role_session_name");
	const char *parameters[] = {"RoleArn", value(s, profile, "role_arn"), "RoleSessionName",
		session != NULL ? session : "stagerun", "ExternalId",
		value(s, profile, "external_id"), "DurationSeconds",
		value(s, profile, "duration_seconds"), NULL};
	struct sts_question q = {.action = "AssumeRole",
		.parameters = parameters,
		.signer = &f->value,
		.region = value(s, profile, "region")};
	struct found next;
	int code = sts_ask(s, &q, &next, err);

	if (code < 0)
		return error_prefix(err, "role %s", value(s, profile, "role_arn"));
	found_done(f);
	*f = next;
	return 0;
}

int roles_assume(struct search *s, const struct roles *roles, struct found *f, struct error *err)
{
	int code = 0;

	for (unsigned i = roles->n; i-- > 0 && code == 0;)
		code = assume(s, roles->profiles[i], f, err);
	if (code < 0)
		found_done(f);
	return code;
}
