/* SPDX-License-Identifier: MIT */
/* Parses the files that the AWS tools share. Worker threads. AWS has its own INI dialect: values
 * contain '#' and ';', lines are long, and one level of nesting is expressed by indentation.
 * Therefore the parser is here, and not inih. */
#include "credentials_private.h"
#include "defer.h"
#include "log.h"
#include "text.h"
#include <string.h>

#define FILE_OF_CREDENTIALS "AWS_SHARED_CREDENTIALS_FILE"
#define FILE_OF_CONFIG      "AWS_CONFIG_FILE"

struct entry {
	bool credentials; /* from the credentials file; else from the config file */
	char *section;    /* the profile's name; "services x" and other sections as written */
	char *key;        /* "": the section itself; nested keys as "s3.endpoint_url" */
	char *value;
};

struct shared_files {
	char *credentials_path, *config_path; /* NULL: no home directory */
	struct text skipped;
	struct entry *v;
	size_t n, cap;
};

struct profile_file {
	struct shared_files *all;
	const char *path;
	bool credentials;
	unsigned line;
	char *section; /* NULL before the first section */
	/* The last key without a value, whose value is nested in the lines below; NULL: none. */
	char *parent;
	struct error *err;
};

const char *credentials_variable(char *const *environment, const char *name)
{
	size_t len = strlen(name);

	for (; environment != NULL && *environment != NULL; environment++)
		if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
			return (*environment)[len + 1] != '\0' ? *environment + len + 1 : NULL;
	return NULL;
}

static void add_entry(struct profile_file *f, const char *key, const char *value)
{
	struct shared_files *all = f->all;

	if (all->n == all->cap) {
		all->cap = all->cap * 2 + 16;
		all->v = reallocarray(all->v, all->cap, sizeof(*all->v));
		if (all->v == NULL)
			abort();
	}
	all->v[all->n++] = (struct entry){.credentials = f->credentials,
		.section = text_copy(f->section),
		.key = text_copy(key),
		.value = text_copy(value)};
}

static char *trim(char *s)
{
	size_t len;

	s += strspn(s, " \t");
	for (len = strlen(s); len > 0 && strchr(" \t\r\n", s[len - 1]) != NULL; len--)
		s[len - 1] = '\0';
	return s;
}

static char *unquote(char *s)
{
	size_t len = strlen(s);

	if (len < 2 || (*s != '"' && *s != '\'') || s[len - 1] != *s)
		return s;
	s[len - 1] = '\0';
	return s + 1;
}

/* In the config file, sections are "[profile x]", except for "[default]". */
static void enter_section(struct profile_file *f, char *name)
{
	size_t word = strcspn(name, " \t");

	if (!f->credentials && strncmp(name, "profile", word) == 0 && name[word] != '\0')
		name = trim(name + word);
	else if (!f->credentials && name[word] == '\0' && strcmp(name, "default") != 0)
		name = ""; /* not a valid spelling of a profile in this file */
	free(f->section);
	f->section = text_copy(unquote(name));
	free(f->parent);
	f->parent = NULL;
	add_entry(f, "", "");
}

/* A credential_process is passed to the shell whole, including text that looks like a comment. */
static void strip_comment(const char *key, char *value)
{
	if (strcmp(key, "credential_process") == 0)
		return;
	for (char *c = value; *c != '\0'; c++)
		if ((*c == '#' || *c == ';') && c > value && strchr(" \t", c[-1]) != NULL)
			*c = '\0';
	trim(value);
}

static void parse_pair(struct profile_file *f, char *key, char *value, bool indented)
{
	bool nested = indented && f->parent != NULL;
	_free_ char *full = NULL;

	strip_comment(key, value);
	full = nested ? text_format("%s.%s", f->parent, key) : text_copy(key);
	add_entry(f, full, value);
	if (nested)
		return;
	free(f->parent);
	f->parent = *value == '\0' ? text_copy(key) : NULL;
}

static int parse_line(struct profile_file *f, char *line)
{
	bool indented = *line == ' ' || *line == '\t';
	bool is_marked =
		f->line == 1 && strncmp(line, "\xEF\xBB\xBF", 3) == 0; /* UTF-8's byte order mark */
	char *s = trim(line + (is_marked ? 3 : 0)), *equals = strchr(s, '='),
	     *bracket = strchr(s, ']');

	if (*s == '\0' || *s == '#' || *s == ';')
		return 0;
	if (*s == '[' && bracket != NULL) {
		*bracket = '\0';
		enter_section(f, trim(s + 1));
		return 0;
	}
	if (equals != NULL && f->section != NULL) {
		*equals = '\0';
		parse_pair(f, trim(s), trim(equals + 1), indented);
		return 0;
	}
	if (indented)
		return 0; /* continues a value that is not used here */
	return error_set(f->err, -ERR_CONFIG,
		"%s:%u: neither [profile] nor key = value; correct the line", f->path, f->line);
}

/* An unreadable file is an error only if a variable names it. The default paths are below HOME,
 * which may belong to another user, and the AWS tools also ignore unreadable files there. */
static int read_failed(struct profile_file *f, bool is_named)
{
	int code = -errno;

	if (is_named)
		return error_set(f->err, code, "read '%s': %m", f->path);
	text_addf(&f->all->skipped, "%s%s: %s", f->all->skipped.len > 0 ? ", " : "", f->path,
		strerrordesc_np(-code));
	return 0;
}

static int read_file(struct shared_files *all, bool credentials, bool is_named, struct error *err)
{
	const char *path = credentials ? all->credentials_path : all->config_path;
	_fclose_ FILE *in = path != NULL ? fopen(path, "re") : NULL;
	struct profile_file f = {.all = all, .path = path, .credentials = credentials, .err = err};
	_free_ char *line = NULL;
	size_t cap = 0;
	int code = 0;

	if (in == NULL && path != NULL && errno != ENOENT && errno != ENOTDIR)
		return read_failed(&f, is_named);
	while (code == 0 && in != NULL && getline(&line, &cap, in) >= 0) {
		f.line++;
		code = parse_line(&f, line);
	}
	if (code == 0 && in != NULL && ferror(in))
		code = read_failed(&f, is_named);
	if (line != NULL)
		explicit_bzero(line, cap);
	free(f.section);
	free(f.parent);
	return code;
}

static bool is_named(char *const *environment, bool credentials)
{
	return credentials_variable(
		       environment, credentials ? FILE_OF_CREDENTIALS : FILE_OF_CONFIG) != NULL;
}

/* Whether a variable names one of the files. */
static bool profile_files_are_named(char *const *environment)
{
	return is_named(environment, true) || is_named(environment, false);
}

static char *path_of(char *const *environment, const char *variable, const char *name)
{
	const char *chosen = credentials_variable(environment, variable);
	const char *home = credentials_variable(environment, "HOME");

	if (chosen != NULL && strncmp(chosen, "~/", 2) == 0 && home != NULL)
		return text_format("%s%s", home, chosen + 1);
	if (chosen != NULL)
		return text_copy(chosen);
	return home != NULL ? text_format("%s/.aws/%s", home, name) : NULL;
}

int profile_files_read(char *const *environment, struct shared_files **ret, struct error *err)
{
	struct shared_files *f = zalloc(sizeof(*f));
	int code;

	f->credentials_path = path_of(environment, FILE_OF_CREDENTIALS, "credentials");
	f->config_path = path_of(environment, FILE_OF_CONFIG, "config");
	code = read_file(f, false, is_named(environment, false), err);
	if (code == 0)
		code = read_file(f, true, is_named(environment, true), err);
	if (code < 0) {
		profile_files_free(f);
		return code;
	}
	*ret = f;
	return 0;
}

void profile_files_free(struct shared_files *f)
{
	if (f == NULL)
		return;
	for (size_t i = 0; i < f->n; i++) {
		explicit_bzero(f->v[i].value, strlen(f->v[i].value));
		free(f->v[i].section);
		free(f->v[i].key);
		free(f->v[i].value);
	}
	free(f->v);
	text_done(&f->skipped);
	free(f->credentials_path);
	free(f->config_path);
	free(f);
}

/* The last entry wins. The entries of the credentials file come last. */
static const struct entry *find_entry(
	const struct shared_files *f, const char *section, const char *key)
{
	for (size_t i = f->n; i-- > 0;)
		if (strcmp(f->v[i].section, section) == 0 && strcmp(f->v[i].key, key) == 0)
			return &f->v[i];
	return NULL;
}

static bool profile_files_have(const struct shared_files *f, const char *profile)
{
	return find_entry(f, profile, "") != NULL;
}

const char *profile_files_value(const struct shared_files *f, const char *profile, const char *key)
{
	const struct entry *e = find_entry(f, profile, key);

	return e != NULL && *e->value != '\0' ? e->value : NULL;
}

/* The path of the file that has this key of the profile, or the profile: for messages. Valid as
 * long as f. */
static const char *profile_files_where(
	const struct shared_files *f, const char *profile, const char *key)
{
	const struct entry *e = find_entry(f, profile, key);

	if (e == NULL)
		e = find_entry(f, profile, "");
	return e != NULL && e->credentials ? f->credentials_path : f->config_path;
}

char *profile_files_names(const struct shared_files *f)
{
	struct text t = {0};

	if (f->credentials_path == NULL || f->config_path == NULL)
		text_addf(&t, "%s%s", f->credentials_path != NULL ? f->credentials_path : "",
			f->config_path != NULL ? f->config_path : "no file (HOME is not set)");
	else
		text_addf(&t, "%s and %s", f->credentials_path, f->config_path);
	if (f->skipped.len > 0)
		text_addf(&t, " (skipped %s)", f->skipped.s);
	return text_take(&t);
}

void profile_files_warn_skipped(const struct shared_files *f, atomic_bool *told)
{
	if (f->skipped.len > 0 && told != NULL && !atomic_exchange(told, true))
		log_warn(
			"%s: skipped, as if it were not there; if it is not meant to be used, set HOME or AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE",
			f->skipped.s);
}

static bool profile_is_named(char *const *environment)
{
	return credentials_variable(environment, "AWS_PROFILE") != NULL ||
	       credentials_variable(environment, "AWS_DEFAULT_PROFILE") != NULL;
}

const char *profile_name(char *const *environment, const char *chosen)
{
	if (chosen == NULL || *chosen == '\0')
		chosen = credentials_variable(environment, "AWS_PROFILE");
	if (chosen == NULL)
		chosen = credentials_variable(environment, "AWS_DEFAULT_PROFILE");
	return chosen != NULL ? chosen : "default";
}

const char *profile_endpoint(const struct shared_files *f, const char *profile)
{
	const char *services = profile_files_value(f, profile, "services"), *url = NULL;

	if (services != NULL) {
		_free_ char *section = text_format("services %s", services);

		url = profile_files_value(f, section, "s3.endpoint_url");
	}
	if (url == NULL)
		url = profile_files_value(f, profile, "s3.endpoint_url");
	return url != NULL ? url : profile_files_value(f, profile, "endpoint_url");
}

/* The provider for profiles of the shared files. Worker threads. A profile has keys, a
 * credential_process, a token file, or a role that is assumed with the credentials of another
 * profile. */

/* Roles. A profile with role_arn and source_profile stands for a role that the source profile may
 * assume. The source may itself stand for a role: a short chain back to a base that has
 * credentials, and forward again with STS. */

enum { ROLES_MAX = 8 };

enum base_kind {
	BASE_OWN,         /* the profile's keys or process */
	BASE_SOURCE,      /* its credential_source */
	BASE_WEB_IDENTITY /* its web_identity_token_file */
};

struct roles {
	const char
		*profiles[ROLES_MAX]; /* each has a role_arn to assume; the last is assumed first */
	unsigned n;
	const char *base; /* the profile that has credentials */
	enum base_kind kind;
};

static const char *profile_value(
	const struct credentials_search *s, const char *profile, const char *key)
{
	return profile_files_value(s->files, profile, key);
}

/* Returns the source of a profile; NULL: the base is reached, or *ret_code is negative. */
static const char *next_profile(const struct credentials_search *s, const char *profile,
	struct roles *roles, int *ret_code, struct error *err)
{
	const char *source = profile_value(s, profile, "source_profile");

	roles->base = profile;
	roles->kind = BASE_OWN;
	if (profile_value(s, profile, "role_arn") == NULL)
		return NULL;
	if (source == NULL && profile_value(s, profile, "web_identity_token_file") != NULL) {
		roles->kind = BASE_WEB_IDENTITY;
		return NULL;
	}
	if (profile_value(s, profile, "mfa_serial") != NULL)
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
	if (source == NULL && profile_value(s, profile, "credential_source") == NULL)
		*ret_code = error_set(err, -ERR_CONFIG,
			"profile '%s' has a role_arn but nobody to assume it: it needs source_profile, credential_source or web_identity_token_file",
			profile);
	/* A profile may be its own source_profile: then it also has keys. */
	return source != NULL && strcmp(source, profile) != 0 ? source : NULL;
}

/* Follows source_profile to the base. *ret_missing is set to a profile that does not exist; the
 * caller then sets the error. */
static int roles_find(const struct credentials_search *s, const char *profile, struct roles *ret,
	const char **ret_missing, struct error *err)
{
	int code = 0;

	*ret = (struct roles){0};
	while (profile != NULL && code == 0) {
		if (!profile_files_have(s->files, profile)) {
			*ret_missing = profile;
			return -ERR_CONFIG;
		}
		profile = next_profile(s, profile, ret, &code, err);
	}
	return code;
}

static int assume(struct credentials_search *s, const char *profile, struct credentials_found *f,
	struct error *err)
{
	const char *session = profile_value(s, profile, "role_session_name");
	const char *parameters[] = {"RoleArn", profile_value(s, profile, "role_arn"),
		"RoleSessionName", session != NULL ? session : "stagerun", "ExternalId",
		profile_value(s, profile, "external_id"), "DurationSeconds",
		profile_value(s, profile, "duration_seconds"), NULL};
	struct sts_request q = {.action = "AssumeRole",
		.parameters = parameters,
		.signer = &f->value,
		.region = profile_value(s, profile, "region")};
	struct credentials_found next;
	int code = sts_ask(s, &q, &next, err);

	if (code < 0)
		return error_prefix(err, "role %s", profile_value(s, profile, "role_arn"));
	credentials_found_done(f);
	*f = next;
	return 0;
}

/* Assumes the roles one after the other. *f holds the credentials of the base, and finally those of
 * the first profile. Freed on failure. */
static int roles_assume(struct credentials_search *s, const struct roles *roles,
	struct credentials_found *f, struct error *err)
{
	int code = 0;

	for (unsigned i = roles->n; i-- > 0 && code == 0;)
		code = assume(s, roles->profiles[i], f, err);
	if (code < 0)
		credentials_found_done(f);
	return code;
}

/* Credentials of a profile, and the three providers. */

/* The keys of a profile that lead to credentials. */
static const char *const credential_keys[] = {"role_arn", "web_identity_token_file",
	"aws_access_key_id", "aws_secret_access_key", "credential_process", "sso_session",
	"sso_start_url", "sso_account_id", "login_session"};

static const char *credential_key_of(const struct credentials_search *s, const char *profile)
{
	for (size_t i = 0; i < ARRAY_LEN(credential_keys); i++)
		if (profile_value(s, profile, credential_keys[i]) != NULL)
			return credential_keys[i];
	return NULL;
}

static int missing_profile_error(
	const struct credentials_search *s, const char *profile, struct error *err)
{
	_free_ char *files = profile_files_names(s->files);

	return error_set(err, -ERR_CONFIG,
		"there is no profile '%s' in %s; check the name, AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE",
		profile, files);
}

static int find_keys(const struct credentials_search *s, const char *profile,
	struct credentials_found *ret, struct error *err)
{
	const char *key = profile_value(s, profile, "aws_access_key_id");
	const char *secret = profile_value(s, profile, "aws_secret_access_key");

	if (key == NULL || secret == NULL)
		return error_set(err, -ERR_CONFIG, "profile '%s' in %s has no %s", profile,
			profile_files_where(s->files, profile, "aws_access_key_id"),
			key == NULL ? "aws_access_key_id" : "aws_secret_access_key");
	credentials_found_set(ret, key, secret, profile_value(s, profile, "aws_session_token"), 0);
	return 0;
}

static int find_own(struct credentials_search *s, const char *profile,
	struct credentials_found *ret, struct error *err)
{
	const char *command = profile_value(s, profile, "credential_process");

	if (profile_value(s, profile, "aws_access_key_id") != NULL ||
		profile_value(s, profile, "aws_secret_access_key") != NULL)
		return find_keys(s, profile, ret, err);
	if (command != NULL)
		return from_process_find(s, command, ret, err);
	if (credential_key_of(s, profile) == NULL)
		return error_set(err, -ERR_CONFIG,
			"profile '%s' in %s has neither keys, credential_process nor a role",
			profile, profile_files_where(s->files, profile, ""));
	return error_set(err, -ERR_UNSUPPORTED,
		"profile '%s' signs in by a browser (%s), which is not supported here; make a profile with credential_process = aws configure export-credentials --profile %s",
		profile, credential_key_of(s, profile), profile);
}

static int find_by_credential_source(struct credentials_search *s, const char *profile,
	struct credentials_found *ret, struct error *err)
{
	static const struct {
		const char *name;
		const struct provider *provider;
	} sources[] = {
		{"Environment", &from_environment},
		{"Ec2InstanceMetadata", &from_instance},
		{"EcsContainer", &from_container},
	};
	const char *name = profile_value(s, profile, "credential_source");
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
		"profile '%s': credential_source = %s is none of Environment, Ec2InstanceMetadata, EcsContainer",
		profile, name);
}

/* The credentials with which the first role is assumed. */
static int find_base(struct credentials_search *s, const struct roles *roles,
	struct credentials_found *ret, struct error *err)
{
	const char *profile = roles->base;
	struct web_identity w = {.token_file = profile_value(s, profile, "web_identity_token_file"),
		.named_by = "web_identity_token_file",
		.role = profile_value(s, profile, "role_arn"),
		.session = profile_value(s, profile, "role_session_name"),
		.region = profile_value(s, profile, "region")};

	switch (roles->kind) {
	case BASE_SOURCE:
		return find_by_credential_source(s, profile, ret, err);
	case BASE_WEB_IDENTITY:
		return sts_web_identity_find(s, &w, ret, err);
	case BASE_OWN:
		break;
	}
	return find_own(s, profile, ret, err);
}

static int find_for_profile(struct credentials_search *s, const char *profile,
	struct credentials_found *ret, struct error *err)
{
	struct roles roles;
	const char *missing = NULL;
	int code = roles_find(s, profile, &roles, &missing, err);

	if (missing != NULL)
		return missing_profile_error(s, missing, err);
	if (code == 0)
		code = find_base(s, &roles, ret, err);
	if (code == 0)
		code = roles_assume(s, &roles, ret, err);
	return code;
}

static char *describe_profile(const struct credentials_search *s, const char *profile)
{
	const char *kind = s->files != NULL ? credential_key_of(s, profile) : NULL;

	if (kind == NULL)
		return text_format("profile '%s'", profile);
	return text_format("profile '%s' of %s (%s)", profile,
		profile_files_where(s->files, profile, kind), kind);
}

static int find_by_profile(
	struct credentials_search *s, struct credentials_found *ret, struct error *err)
{
	if (s->files == NULL)
		return error_set(err, s->files_err.code, "%s", s->files_err.msg);
	return find_for_profile(s, profile_name(s->opts->environment, s->opts->profile), ret, err);
}

static bool is_chosen(const struct credentials_search *s)
{
	return s->opts->profile != NULL && *s->opts->profile != '\0';
}

static char *source_of_chosen(const struct credentials_search *s)
{
	return is_chosen(s) ? describe_profile(s, s->opts->profile) : NULL;
}

/* A profile that the environment names must exist, but need not have credentials. A file that the
 * environment names must be readable. */
static char *source_of_named(const struct credentials_search *s)
{
	char *const *environment = s->opts->environment;
	const char *profile = profile_name(environment, NULL);
	bool named = profile_is_named(environment);

	if (is_chosen(s))
		return NULL;
	if (s->files == NULL)
		return named || profile_files_are_named(environment) ? text_copy("the shared files")
								     : NULL;
	if (!named ||
		(credential_key_of(s, profile) == NULL && profile_files_have(s->files, profile)))
		return NULL;
	return describe_profile(s, profile);
}

static char *source_of_shared(const struct credentials_search *s)
{
	if (is_chosen(s) || profile_is_named(s->opts->environment))
		return NULL;
	if (s->files == NULL)
		return text_copy("the shared files");
	return credential_key_of(s, "default") != NULL ? describe_profile(s, "default") : NULL;
}

const struct provider from_chosen_profile = {.source = source_of_chosen, .find = find_by_profile};
const struct provider from_named_profile = {
	.source = source_of_named, .find = find_by_profile, .looked_at = "AWS_PROFILE"};
const struct provider from_shared_files = {
	.source = source_of_shared, .find = find_by_profile, .looked_at = "the shared files"};
