/* SPDX-License-Identifier: MIT */
/* A profile of the shared files: keys, a process, a token file, or a role on behalf of another profile. */
#include "chain.h"
#include "defer.h"
#include "roles.h"
#include <string.h>

static const char *value(const struct search *s, const char *profile, const char *key)
{
	return shared_files_value(s->files, profile, key);
}

/* The keys that a profile may have credentials by. */
static const char *const kinds[] = {"role_arn", "web_identity_token_file", "aws_access_key_id",
	"aws_secret_access_key", "credential_process", "sso_session", "sso_start_url",
	"sso_account_id", "login_session"};

static const char *kind_of(const struct search *s, const char *profile)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (value(s, profile, kinds[i]) != NULL)
			return kinds[i];
	return NULL;
}

static int profile_is_missing(const struct search *s, const char *profile, struct error *err)
{
	_free_ char *files = shared_files_names(s->files);

	return error_set(err, -ERR_CONFIG,
		"there is no profile '%s' in %s; check the name, AWS_CONFIG_FILE and "
		"AWS_SHARED_CREDENTIALS_FILE",
		profile, files);
}

static int keys_of(
	const struct search *s, const char *profile, struct found *ret, struct error *err)
{
	const char *key = value(s, profile, "aws_access_key_id");
	const char *secret = value(s, profile, "aws_secret_access_key");

	if (key == NULL || secret == NULL)
		return error_set(err, -ERR_CONFIG, "profile '%s' in %s has no %s", profile,
			shared_files_where(s->files, profile, "aws_access_key_id"),
			key == NULL ? "aws_access_key_id" : "aws_secret_access_key");
	found_set(ret, key, secret, value(s, profile, "aws_session_token"), 0);
	return 0;
}

static int of_its_own(struct search *s, const char *profile, struct found *ret, struct error *err)
{
	const char *command = value(s, profile, "credential_process");

	if (value(s, profile, "aws_access_key_id") != NULL ||
		value(s, profile, "aws_secret_access_key") != NULL)
		return keys_of(s, profile, ret, err);
	if (command != NULL)
		return credential_process_find(s, command, ret, err);
	if (kind_of(s, profile) == NULL)
		return error_set(err, -ERR_CONFIG,
			"profile '%s' in %s has neither keys, credential_process nor a role",
			profile, shared_files_where(s->files, profile, ""));
	return error_set(err, -ERR_UNSUPPORTED,
		"profile '%s' signs in by a browser (%s), which is not supported here; make a "
		"profile with credential_process = aws configure export-credentials --profile %s",
		profile, kind_of(s, profile), profile);
}

static int by_source(struct search *s, const char *profile, struct found *ret, struct error *err)
{
	static const struct {
		const char *name;
		const struct provider *provider;
	} sources[] = {
		{"Environment", &from_environment},
		{"Ec2InstanceMetadata", &from_instance},
		{"EcsContainer", &from_container},
	};
	const char *name = value(s, profile, "credential_source");
	int code;

	for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
		if (strcmp(name, sources[i].name) != 0)
			continue;
		code = sources[i].provider->find(s, ret, err);
		if (code == NOTHING_FOUND)
			code = error_set(err, -ERR_CONFIG, "there are none");
		return code < 0 ? error_prefix(err, "credential_source = %s", name) : 0;
	}
	return error_set(err, -ERR_CONFIG,
		"profile '%s': credential_source = %s is none of Environment, "
		"Ec2InstanceMetadata, EcsContainer",
		profile, name);
}

/* Those that the first role is asked for with. */
static int base_of(
	struct search *s, const struct roles *roles, struct found *ret, struct error *err)
{
	const char *profile = roles->base;
	struct web_identity w = {.token_file = value(s, profile, "web_identity_token_file"),
		.role = value(s, profile, "role_arn"),
		.session = value(s, profile, "role_session_name"),
		.region = value(s, profile, "region")};

	switch (roles->kind) {
	case BASE_SOURCE:
		return by_source(s, profile, ret, err);
	case BASE_WEB_IDENTITY:
		return web_identity_find(s, &w, ret, err);
	case BASE_OWN:
		break;
	}
	return of_its_own(s, profile, ret, err);
}

static int of_profile(struct search *s, const char *profile, struct found *ret, struct error *err)
{
	struct roles roles;
	const char *missing = NULL;
	int code = roles_find(s, profile, &roles, &missing, err);

	if (missing != NULL)
		return profile_is_missing(s, missing, err);
	if (code == 0)
		code = base_of(s, &roles, ret, err);
	if (code == 0)
		code = roles_assume(s, &roles, ret, err);
	return code;
}

static char *describe(const struct search *s, const char *profile)
{
	const char *kind = s->files != NULL ? kind_of(s, profile) : NULL;

	if (kind == NULL)
		return format_text("profile '%s'", profile);
	return format_text("profile '%s' of %s (%s)", profile,
		shared_files_where(s->files, profile, kind), kind);
}

static int find(struct search *s, struct found *ret, struct error *err)
{
	if (s->files == NULL)
		return error_set(err, s->files_err.code, "%s", s->files_err.msg);
	return of_profile(s, profile_name(s->opts->environment, s->opts->profile), ret, err);
}

static bool is_chosen(const struct search *s)
{
	return s->opts->profile != NULL && *s->opts->profile != '\0';
}

static char *source_of_chosen(const struct search *s)
{
	return is_chosen(s) ? describe(s, s->opts->profile) : NULL;
}

/* Whoever names a profile wants it to be there; it need not have credentials. */
static char *source_of_shared(const struct search *s)
{
	const char *profile = profile_name(s->opts->environment, NULL);
	bool named = aws_variable(s->opts->environment, "AWS_PROFILE") != NULL ||
		     aws_variable(s->opts->environment, "AWS_DEFAULT_PROFILE") != NULL;

	if (is_chosen(s))
		return NULL;
	if (s->files == NULL)
		return copy_text("the shared files");
	if (kind_of(s, profile) == NULL && (!named || shared_files_have(s->files, profile)))
		return NULL;
	return describe(s, profile);
}

const struct provider from_chosen_profile = {.source = source_of_chosen, .find = find};
const struct provider from_shared_files = {
	.source = source_of_shared, .find = find, .looked_at = "the shared files"};
