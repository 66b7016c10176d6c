/* SPDX-License-Identifier: MIT */
/* One configuration of S3: where it is, how buckets are named, in which region each of them was found, and
 * who asks. Any thread; no I/O but that of the credentials. */
#include "defer.h"
#include "s3_private.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

struct found_region {
	struct found_region *next;
	char *bucket, *region;
};

static const char default_region[] = "us-east-1";

static const char *variable(char *const *environment, const char *name)
{
	size_t len = strlen(name);

	for (; environment != NULL && *environment != NULL; environment++)
		if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
			return *environment + len + 1;
	return "";
}

/* The first that says something: the setting, then the variables; else NULL. */
static const char *configured(
	const struct s3_options *opts, const char *setting, const char *const *variables)
{
	if (setting != NULL && setting[0] != '\0')
		return setting;
	for (; *variables != NULL; variables++) {
		const char *value = variable(opts->environment, *variables);

		if (value[0] != '\0')
			return value;
	}
	return NULL;
}

static char *find_endpoint(const struct s3_options *opts)
{
	static const char *const variables[] = {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", NULL};
	const char *url = configured(opts, opts->endpoint, variables);
	const char *ignored = variable(opts->environment, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
	char *copy;

	if (url == NULL || (url != opts->endpoint && strcasecmp(ignored, "true") == 0))
		return NULL;
	copy = strstr(url, "://") != NULL ? copy_text(url) : format_text("https://%s", url);
	for (size_t n = strlen(copy); n > 0 && copy[n - 1] == '/'; n--)
		copy[n - 1] = '\0';
	return copy;
}

static char *find_region(const struct s3_options *opts)
{
	static const char *const variables[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};

	return copy_text(configured(opts, opts->region, variables));
}

struct s3 *s3_new(const struct s3_options *opts)
{
	static const char *const ca_variables[] = {"AWS_CA_BUNDLE", NULL};
	struct s3 *s = zalloc(sizeof(*s));
	struct credentials_options who = {
		.profile = opts->profile, .network = &s->network, .environment = opts->environment};

	s->endpoint = find_endpoint(opts);
	s->region = find_region(opts);
	s->style = opts->style;
	s->sign = opts->sign;
	s->network = *opts->network;
	s->ca_file = configured(opts, opts->network->ca_file, ca_variables);
	s->network.ca_file = s->ca_file;
	who.region = s->region;
	s->credentials = credentials_new(&who);
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void s3_free(struct s3 *s)
{
	if (s == NULL)
		return;
	credentials_free(s->credentials);
	while (s->found != NULL) {
		struct found_region *f = s->found;

		s->found = f->next;
		free(f->bucket);
		free(f->region);
		free(f);
	}
	pthread_mutex_destroy(&s->lock);
	free(s->no_credentials);
	free(s->endpoint);
	free(s->region);
	free(s);
}

static struct found_region *find_locked(const struct s3 *s, const char *bucket)
{
	struct found_region *f = s->found;

	while (f != NULL && strcmp(f->bucket, bucket) != 0)
		f = f->next;
	return f;
}

char *s3_region_of(struct s3 *s, const char *bucket)
{
	const char *region = s->region != NULL ? s->region : default_region;
	struct found_region *f;
	char *copy;

	pthread_mutex_lock(&s->lock);
	f = find_locked(s, bucket);
	copy = copy_text(f != NULL ? f->region : region);
	pthread_mutex_unlock(&s->lock);
	return copy;
}

bool s3_found_region(struct s3 *s, const char *bucket, const char *region)
{
	struct found_region *f;
	bool news;

	/* It becomes a part of a host's name. */
	for (const char *c = region; *c != '\0'; c++)
		if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_')
			return false;
	pthread_mutex_lock(&s->lock);
	f = find_locked(s, bucket);
	if (f == NULL) {
		f = zalloc(sizeof(*f));
		f->bucket = copy_text(bucket);
		f->next = s->found;
		s->found = f;
	}
	news = f->region == NULL || strcmp(f->region, region) != 0;
	free(f->region);
	f->region = copy_text(region);
	pthread_mutex_unlock(&s->lock);
	return news;
}

char *s3_endpoint_of(const struct s3 *s, const char *region)
{
	if (s->endpoint != NULL)
		return copy_text(s->endpoint);
	return format_text("https://s3.%s.amazonaws.com%s", region,
		strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
}

/* Names that may stand in a host: lower-case, and without dots where a certificate's "*" is to cover them. */
static bool fits_host(const char *bucket, bool tls)
{
	for (const char *c = bucket; *c != '\0'; c++)
		if (isupper((unsigned char)*c) || *c == '_' || (*c == '.' && tls))
			return false;
	return strlen(bucket) <= 63;
}

static bool in_host(const struct s3 *s, const char *endpoint, const char *bucket)
{
	const char *host = strstr(endpoint, "://");
	bool tls = strncasecmp(endpoint, "https:", 6) == 0;

	if (s->style != S3_STYLE_AUTO || host == NULL)
		return s->style == S3_STYLE_VIRTUAL && host != NULL;
	return strstr(host, ".amazonaws.com") != NULL && fits_host(bucket, tls);
}

char *s3_url(const struct s3 *s, const char *region, const char *bucket, const char *key,
	const char *query)
{
	_free_ char *endpoint = s3_endpoint_of(s, region);
	struct text t = {0};

	if (in_host(s, endpoint, bucket)) {
		int scheme = (int)(strstr(endpoint, "://") + 3 - endpoint);

		text_addf(&t, "%.*s%s.%s/", scheme, endpoint, bucket, endpoint + scheme);
	} else {
		text_addf(&t, "%s/%s%s", endpoint, bucket, key != NULL ? "/" : "");
	}
	if (key != NULL)
		s3_encode(&t, key, true);
	if (query != NULL && query[0] != '\0')
		text_addf(&t, "?%s", query);
	return text_take(&t);
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
	if (code == -ERR_CONFIG && s->sign == S3_SIGN_AUTO) {
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
	const char *region = s->region != NULL ? s->region : default_region;
	_free_ char *endpoint = s3_endpoint_of(s, region);
	_free_ char *who = s3_who(s);

	return format_text("%s (region %s%s), credentials: %s", endpoint, region,
		s->region == NULL ? ", or what a bucket says" : "", who);
}
