/* SPDX-License-Identifier: MIT */
/* What every provider ends with, and the JSON that three of them get. */
#include "chain.h"
#include "defer.h"
#include "redact.h"
#include <jansson.h>
#include <string.h>

void credentials_value_done(struct credentials_value *v)
{
	char *all[] = {v->access_key, v->secret_key, v->session_token};

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		if (all[i] != NULL)
			explicit_bzero(all[i], strlen(all[i]));
		free(all[i]);
	}
	*v = (struct credentials_value){0};
}

void found_set(struct found *f, const char *access_key, const char *secret_key,
	const char *session_token, time_t expires)
{
	if (session_token != NULL && *session_token == '\0')
		session_token = NULL;
	redact_add(secret_key);
	if (session_token != NULL)
		redact_add(session_token);
	*f = (struct found){.value = {.access_key = copy_text(access_key),
				    .secret_key = copy_text(secret_key),
				    .session_token = copy_text(session_token)},
		.expires = expires};
}

void found_done(struct found *f)
{
	credentials_value_done(&f->value);
}

int found_parse_time(const char *s, time_t *ret, struct error *err)
{
	struct tm tm = {0};
	const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	int hours = 0, minutes = 0;
	time_t offset;

	if (rest != NULL && *rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (rest == NULL ||
		(strcmp(rest, "Z") != 0 && sscanf(rest, "%3d:%2d", &hours, &minutes) != 2))
		return error_set(err, -ERR_FORMAT, "'%s' is not a time", s);
	offset = (time_t)hours * 3600 + (time_t)(*rest == '-' ? -minutes : minutes) * 60;
	*ret = timegm(&tm) - offset;
	return 0;
}

/* Not "": a field that is there is filled in. */
static const char *field(json_t *root, const char *name)
{
	const char *value = json_string_value(json_object_get(root, name));

	return value != NULL && *value != '\0' ? value : NULL;
}

static int take_fields(json_t *root, const char *token, struct found *ret, struct error *err)
{
	const char *key = field(root, "AccessKeyId");
	const char *secret = field(root, "SecretAccessKey");
	const char *expiration = field(root, "Expiration");
	time_t expires = 0;
	int code = 0;

	if (key == NULL || secret == NULL)
		return error_set(
			err, -ERR_FORMAT, "the answer has no AccessKeyId and SecretAccessKey");
	if (expiration != NULL)
		code = found_parse_time(expiration, &expires, err);
	if (code == 0)
		found_set(ret, key, secret, field(root, token), expires);
	return code;
}

int found_parse(
	const char *json, size_t len, const char *token, struct found *ret, struct error *err)
{
	json_error_t where;
	json_t *root = json_loadb(json != NULL ? json : "", len, 0, &where);
	int code;

	/* Not a word of it is shown: it may be the secret. */
	if (root == NULL)
		return error_set(err, -ERR_FORMAT, "the answer is not JSON (line %d)", where.line);
	code = take_fields(root, token, ret, err);
	json_decref(root);
	return code;
}
