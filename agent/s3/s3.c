/* SPDX-License-Identifier: MIT */
/* One configuration of S3, and who asks. Any thread; no I/O but that of the credentials. */
#include "defer.h"
#include "profile.h"
#include "s3_private.h"
#include <errno.h>

static const char *const nothing[] = {NULL};

/* The first that says something: the setting, then the variables; else NULL. */
static const char *configured(
	const struct s3_options *opts, const char *setting, const char *const *variables)
{
	if (setting != NULL && setting[0] != '\0')
		return setting;
	for (; *variables != NULL; variables++) {
		const char *value = aws_variable(opts->environment, *variables);

		if (value != NULL)
			return value;
	}
	return NULL;
}

static const char *find_endpoint(const struct s3_options *opts)
{
	static const char *const variables[] = {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", NULL};
	const char *setting = configured(opts, opts->endpoint, nothing);

	if (setting != NULL || s3_ignores_endpoints(opts->environment))
		return setting;
	return configured(opts, NULL, variables);
}

static const char *find_region(const struct s3_options *opts)
{
	static const char *const variables[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};

	return configured(opts, opts->region, variables);
}

struct s3 *s3_new(const struct s3_options *opts)
{
	static const char *const ca_variables[] = {"AWS_CA_BUNDLE", NULL};
	struct s3 *s = zalloc(sizeof(*s));
	struct credentials_options who = {
		.profile = opts->profile, .network = &s->network, .environment = opts->environment};

	s->endpoint = s3_clean_endpoint(find_endpoint(opts));
	s->region = copy_text(find_region(opts));
	s->profile = opts->profile;
	s->environment = opts->environment;
	s->style = opts->style;
	s->sign = opts->sign;
	s->network = *opts->network;
	s->ca_file = configured(opts, opts->network->ca_file, ca_variables);
	s->network.ca_file = s->ca_file;
	who.region = find_region(opts);
	s->credentials = credentials_new(&who);
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void s3_free(struct s3 *s)
{
	if (s == NULL)
		return;
	credentials_free(s->credentials);
	s3_forget_regions(s);
	pthread_mutex_destroy(&s->lock);
	free(s->no_credentials);
	free(s->endpoint);
	free(s->region);
	free(s);
}

static bool known_to_be_nobody(struct s3 *s)
{
	bool known;

	pthread_mutex_lock(&s->lock);
	known = s->no_credentials != NULL;
	pthread_mutex_unlock(&s->lock);
	return known;
}

static void remember_to_be_nobody(struct s3 *s, const struct error *why)
{
	pthread_mutex_lock(&s->lock);
	if (s->no_credentials == NULL)
		s->no_credentials = copy_text(why->msg);
	pthread_mutex_unlock(&s->lock);
}

int s3_keys(struct s3 *s, struct cancel *cancel, struct credentials_value *ret, struct error *err)
{
	struct error why = {0};
	int code;

	if (s->sign == S3_SIGN_NO || (s->sign == S3_SIGN_AUTO && known_to_be_nobody(s)))
		return 0;
	code = credentials_get(s->credentials, cancel, ret, &why);
	if (code == 0)
		return 1;
	if (code == -ENOKEY && s->sign == S3_SIGN_AUTO) {
		remember_to_be_nobody(s, &why);
		return 0;
	}
	if (err != NULL)
		*err = why;
	return code;
}

char *s3_who(struct s3 *s)
{
	char *who = NULL;

	if (s->sign == S3_SIGN_NO)
		return copy_text("sign = no");
	pthread_mutex_lock(&s->lock);
	who = copy_text(s->no_credentials);
	pthread_mutex_unlock(&s->lock);
	return who != NULL ? who : credentials_describe(s->credentials);
}

char *s3_describe(struct s3 *s)
{
	_free_ char *region = s3_region_of(s, "");
	_free_ char *endpoint = s3_endpoint_of(s, region);
	_free_ char *who = s3_who(s);

	return format_text("%s (region %s%s), credentials: %s", endpoint, region,
		s->region == NULL ? ", or what a bucket says" : "", who);
}
